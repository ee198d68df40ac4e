//! A containerd whose CRI is off, as Docker ships it, used through its own API: `containerd-native:///run/…`.
//!
//! Must not know: how that is done.

use std::path::{Path, PathBuf};

use pintle_containerd::Runtime;
use pintle_cri::CgroupDriver;

use crate::config::Config;
use crate::parts;

const SCHEME: &str = "containerd-native:";

/// The socket of an endpoint of this kind; `None` for any other.
pub fn socket(endpoint: &str) -> Option<PathBuf> {
    let rest = endpoint.strip_prefix(SCHEME)?;
    Some(PathBuf::from(rest.strip_prefix("//").unwrap_or(rest)))
}

/// CRI over the containerd at this socket.
pub async fn connect(config: &Config, socket: PathBuf) -> anyhow::Result<pintle_cri::Runtime> {
    anyhow::ensure!(socket.is_absolute(), "{SCHEME}{} has no absolute path", socket.display());
    let bin_dir = parts::containerd(config).cni_bin_dir;
    parts::link_cni_plugins(config, &bin_dir)?;
    let runtime = Runtime::start(pintle_containerd::Config {
        socket,
        state: config.run_dir.join("containerd-native"),
        root: config.data_dir.join("containerd-native"),
        cni_conf_dir: config.cni_conf_dir.clone(),
        cni_bin_dirs: vec![bin_dir],
        snapshotter: "overlayfs".into(),
        cgroup_driver: config.cgroup_driver.unwrap_or_else(cgroup_driver),
        namespaces: crate::runtime::launcher()?,
        registries: crate::images::registries(None)?,
    });
    pintle_cri::Runtime::over(runtime.await?.channel()).await
}

/// Where systemd runs, cgroups are its.
pub fn cgroup_driver() -> CgroupDriver {
    if Path::new("/run/systemd/system").is_dir() { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_of_this_kind_names_a_socket() {
        assert_eq!(socket("containerd-native:///run/c.sock"), Some("/run/c.sock".into()));
        assert_eq!(socket("containerd-native:/run/c.sock"), Some("/run/c.sock".into()));
        assert_eq!(socket("unix:///run/c.sock"), None);
    }
}
