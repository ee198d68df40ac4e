//! `pintle runtime`: the embedded CRI runtime alone, on a socket.
//!
//! Must not know: what the runtime does inside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use pintle_cri::CgroupDriver;
use pintle_oci::{Config, Runtime};

/// Settings of the runtime.
#[derive(Args)]
#[command(
    about = "Run the container runtime alone, for any kubelet or crictl",
    after_help = "Stopping it leaves containers running; the next start takes them over.\n\
                  Archives of images in ROOT/import are imported when it starts.\n\n\
                  Examples:\n  pintle runtime\n  \
                  pintle runtime --handler runc=/usr/sbin/runc --handler crun=/usr/bin/crun\n  \
                  pintle runtime --containerd unix:///run/containerd/containerd.sock\n  \
                  crictl --runtime-endpoint unix:///run/pintle/runtime.sock pods"
)]
pub struct Settings {
    /// Where images, records and containers' files are kept [default: /var/lib/pintle/runtime, or containerd-native there]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where namespaces and sockets are kept; a file system that does not outlive the machine [default: /run/pintle/runtime,
    /// or containerd-native there]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The socket that serves CRI
    #[arg(long, value_name = "PATH", default_value = "/run/pintle/runtime.sock")]
    listen: PathBuf,
    /// Where the pod network is configured
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// Where CNI plugins are; may be given more than once [default: /opt/cni/bin, /usr/lib/cni]
    #[arg(long, value_name = "DIR")]
    cni_bin_dir: Vec<PathBuf>,
    /// Run containers with the containerd at this endpoint, through its own API: its CRI plugin may be off
    #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["oci_runtime", "handler"])]
    containerd: Option<String>,
    /// An OCI runtime instead of the one in this program
    #[arg(long, value_name = "PATH")]
    oci_runtime: Option<PathBuf>,
    /// An OCI runtime for pods whose RuntimeClass names this handler; may be given more than once
    #[arg(long, value_name = "NAME=PATH", value_parser = handler)]
    handler: Vec<(String, PathBuf)>,
    /// Registries: mirrors, plain HTTP, certificates, credentials [default: /etc/pintle/registries.yaml, where it is there]
    #[arg(long, value_name = "FILE")]
    registries: Option<PathBuf>,
    /// Who makes containers' cgroups: cgroupfs or systemd [default: cgroupfs; with --containerd systemd, where it runs]
    #[arg(long, value_name = "DRIVER", value_parser = crate::units::driver)]
    cgroup_driver: Option<CgroupDriver>,
    /// The cgroup of the programs that watch over containers
    #[arg(long, value_name = "PATH", default_value = "/pintle-monitors")]
    monitors_cgroup: String,
    /// What is logged, in the syntax of RUST_LOG
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

impl Settings {
    /// Root and state: no two kinds of runtime take each other's for their own.
    fn folders(&self, kind: &str) -> (PathBuf, PathBuf) {
        let given = |given: &Option<PathBuf>, above: &str| given.clone().unwrap_or_else(|| Path::new(above).join(kind));
        (given(&self.root, "/var/lib/pintle"), given(&self.state, "/run/pintle"))
    }
}

fn handler(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok((name.to_owned(), path.into())),
        _ => Err(format!("{text:?} is not NAME=/path/to/runtime")),
    }
}

/// Serves until SIGINT or SIGTERM.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = pintle_daemon::shutdown::on_signals()?;
    let listen = settings.listen.clone();
    if let Some(endpoint) = settings.containerd.clone() {
        let over = pintle_containerd::Runtime::start(over_containerd(settings, &endpoint)?).await?;
        return over.serve(&listen, stop.cancelled_owned()).await;
    }
    let runtime = Runtime::start(config(settings)?, stop.clone()).await?;
    runtime.serve(&listen, stop).await
}

fn config(settings: Settings) -> anyhow::Result<Config> {
    let (root, state) = settings.folders("runtime");
    let mut config = Config::new(root, state, launcher()?);
    if let Some(path) = settings.oci_runtime {
        config.launcher = vec![path.into_os_string()];
    }
    config.cni_conf_dir = settings.cni_conf_dir;
    if !settings.cni_bin_dir.is_empty() {
        config.cni_bin_dirs = settings.cni_bin_dir;
    }
    config.handlers = handlers(settings.handler);
    config.images = crate::images::registries(settings.registries.as_deref())?;
    config.monitors_cgroup = settings.monitors_cgroup;
    config.cgroup_driver = settings.cgroup_driver.unwrap_or(config.cgroup_driver);
    Ok(config)
}

fn over_containerd(settings: Settings, endpoint: &str) -> anyhow::Result<pintle_containerd::Config> {
    let socket = PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
    anyhow::ensure!(socket.is_absolute(), "{endpoint:?} is no absolute path of containerd's socket");
    let (root, state) = settings.folders("containerd-native");
    let plugins = Config::new(PathBuf::new(), PathBuf::new(), Vec::new()).cni_bin_dirs;
    Ok(pintle_containerd::Config {
        socket,
        state,
        root,
        cni_conf_dir: settings.cni_conf_dir,
        cni_bin_dirs: if settings.cni_bin_dir.is_empty() { plugins } else { settings.cni_bin_dir },
        snapshotter: "overlayfs".into(),
        cgroup_driver: settings.cgroup_driver.unwrap_or_else(crate::native::cgroup_driver),
        namespaces: launcher()?,
        registries: crate::images::registries(settings.registries.as_deref())?,
    })
}

fn handlers(named: Vec<(String, PathBuf)>) -> BTreeMap<String, Vec<OsString>> {
    named.into_iter().map(|(name, path)| (name, vec![path.into_os_string()])).collect()
}

/// Other OCI runtimes of this machine, each a handler of its own name for RuntimeClasses.
pub fn installed_handlers() -> BTreeMap<String, Vec<OsString>> {
    const KNOWN: [&str; 5] = ["crun", "kata-runtime", "runc", "runsc", "youki"];
    let there = KNOWN.iter().filter_map(|name| Some(((*name).to_owned(), crate::machine::program(name)?)));
    handlers(there.collect())
}

/// This program's own OCI runtime.
pub fn launcher() -> anyhow::Result<Vec<OsString>> {
    let this = std::env::current_exe().context("finding this program")?;
    Ok(vec![this.into_os_string(), "launch".into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_a_name_and_a_path() {
        assert_eq!(handler("runc=/usr/sbin/runc"), Ok(("runc".into(), "/usr/sbin/runc".into())));
        for text in ["runc", "=/usr/sbin/runc", "runc=runc", ""] {
            assert!(handler(text).is_err(), "{text}");
        }
    }
}
