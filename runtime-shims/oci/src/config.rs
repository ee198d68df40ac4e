//! Settings of the runtime.
//!
//! Must not know: where they come from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use pintle_cri::CgroupDriver;

/// The handler of pods that name none.
pub const DEFAULT_HANDLER: &str = "pintle";

/// Where things are and what runs containers.
#[derive(Debug, Clone)]
pub struct Config {
    /// Images, records, file systems: kept over a restart of the machine.
    pub root: PathBuf,
    /// Namespaces, sockets, the OCI runtime's state: gone with the machine.
    pub state: PathBuf,
    pub cni_conf_dir: PathBuf,
    /// Where plugins are looked for, in order.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// The OCI runtime of the default handler: a program and the arguments before its command.
    pub launcher: Vec<OsString>,
    /// Pintle's own OCI runtime, which alone makes namespaces that belong to a user namespace.
    pub namespaces: Vec<OsString>,
    /// Other handlers, by name: `runc` → `/usr/sbin/runc`.
    pub handlers: BTreeMap<String, Vec<OsString>>,
    pub images: pintle_images::Config,
    /// Archives in it are imported at the start, where it is there.
    pub import_dir: Option<PathBuf>,
    /// Who makes containers' cgroups.
    pub cgroup_driver: CgroupDriver,
    /// `/sys/fs/cgroup` on every machine.
    pub cgroup_root: PathBuf,
    /// Of the sandboxes' monitors, below each hierarchy's root: outside the pods' cgroups, so that no pod's limit counts
    /// for them, and outside any service's, so that none that stops takes them along.
    pub monitors_cgroup: String,
    /// Where the streaming server listens; port 0 is any.
    pub streaming: SocketAddr,
}

impl Config {
    /// The usual settings around two folders and Pintle's own OCI runtime.
    pub fn new(root: PathBuf, state: PathBuf, launcher: Vec<OsString>) -> Self {
        Self {
            import_dir: Some(root.join("import")),
            root,
            state,
            namespaces: launcher.clone(),
            launcher,
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            handlers: BTreeMap::new(),
            images: pintle_images::Config::default(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_root: "/sys/fs/cgroup".into(),
            monitors_cgroup: "/pintle-monitors".into(),
            streaming: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}
