//! Where in the cgroup tree a container or sandbox belongs, as OCI runtimes want it said.
//!
//! Must not know: the tree.

use pintle_systemd::names::{Scope, slice_path};

use crate::host::CgroupDriver;
use crate::{Host, Invalid};

/// First part of the names of systemd scopes.
const SCOPE_PREFIX: &str = "cri-pintle";

/// `linux.cgroupsPath` of `id` below a pod's `cgroup_parent` (empty: none given). The cgroupfs driver names a path, the
/// systemd driver `slice:prefix:name`.
///
/// # Errors
/// The systemd driver is used and the parent is no slice, or the other way round.
pub fn cgroup_path(parent: &str, id: &str, host: &Host) -> Result<String, Invalid> {
    let last = parent.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let refuse = |reason: String| Err(Invalid::new("linux.cgroup_parent", reason));
    match (host.cgroup_driver, last.ends_with(".slice")) {
        _ if parent.split('/').any(|part| part == "..") => refuse(format!("{parent:?} must not contain \"..\"")),
        (CgroupDriver::Systemd, true) => Ok(format!("{last}:{SCOPE_PREFIX}:{id}")),
        (CgroupDriver::Systemd, false) if last.is_empty() => Ok(format!("system.slice:{SCOPE_PREFIX}:{id}")),
        (CgroupDriver::Systemd, false) => refuse(format!("expected a systemd slice, got {parent:?}")),
        (CgroupDriver::Cgroupfs, true) => {
            refuse(format!("{parent:?} is a systemd slice, and the runtime's cgroup driver is cgroupfs"))
        }
        (CgroupDriver::Cgroupfs, false) if last.is_empty() => Ok(format!("/pintle/{id}")),
        (CgroupDriver::Cgroupfs, false) => Ok(format!("/{}/{id}", parent.trim_matches('/'))),
    }
}

/// Where the cgroup of `id` is below a hierarchy's root, whichever driver makes it.
///
/// # Errors
/// As [`cgroup_path`]; a slice's name that is none.
pub fn cgroup_dir(parent: &str, id: &str, host: &Host) -> Result<String, Invalid> {
    let path = cgroup_path(parent, id, host)?;
    match (host.cgroup_driver, Scope::parse(&path)) {
        (CgroupDriver::Systemd, Some(scope)) => Ok(scope.path()),
        (CgroupDriver::Systemd, None) => {
            Err(Invalid::new("linux.cgroup_parent", format!("{parent:?} is no name of a slice")))
        }
        (CgroupDriver::Cgroupfs, _) => Ok(path),
    }
}

/// Where a pod's own cgroup is below a hierarchy's root: a slice's name says all of it.
pub fn parent_dir(parent: &str) -> String {
    slice_path(parent).unwrap_or_else(|| parent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(driver: CgroupDriver, parent: &str) -> Result<String, String> {
        cgroup_path(parent, "ID", &Host { cgroup_driver: driver, ..Host::default() }).map_err(|error| error.reason)
    }

    #[test]
    fn each_driver_has_its_form() {
        use CgroupDriver::{Cgroupfs, Systemd};
        assert_eq!(path(Cgroupfs, "/kubepods/burstable/podX"), Ok("/kubepods/burstable/podX/ID".into()));
        assert_eq!(path(Cgroupfs, ""), Ok("/pintle/ID".into()));
        assert_eq!(
            path(Systemd, "/kubepods.slice/kubepods-podX.slice"),
            Ok("kubepods-podX.slice:cri-pintle:ID".into())
        );
        assert_eq!(path(Systemd, ""), Ok("system.slice:cri-pintle:ID".into()));
        assert_eq!(path(Systemd, "/kubepods"), Err("expected a systemd slice, got \"/kubepods\"".into()));
        assert!(path(Cgroupfs, "kubepods.slice").unwrap_err().contains("driver is cgroupfs"));
        assert_eq!(path(Systemd, "kubepods.slice").unwrap_or_default(), "kubepods.slice:cri-pintle:ID");
        assert!(path(Cgroupfs, "/kubepods/../..").unwrap_err().contains("\"..\""));
    }
    #[test]
    fn a_cgroup_is_found_where_its_driver_makes_it() {
        let dir = |driver, parent: &str| {
            cgroup_dir(parent, "ID", &Host { cgroup_driver: driver, ..Host::default() }).map_err(|error| error.reason)
        };
        let pod = "/kubepods.slice/kubepods-podX.slice";
        assert_eq!(dir(CgroupDriver::Systemd, pod), Ok(format!("{pod}/cri-pintle-ID.scope")));
        assert_eq!(dir(CgroupDriver::Systemd, "kubepods-podX.slice"), Ok(format!("{pod}/cri-pintle-ID.scope")));
        assert_eq!(dir(CgroupDriver::Systemd, ""), Ok("/system.slice/cri-pintle-ID.scope".into()));
        assert!(dir(CgroupDriver::Systemd, "a--b.slice").unwrap_err().contains("no name of a slice"));
        assert_eq!(dir(CgroupDriver::Cgroupfs, "/kubepods/podX"), Ok("/kubepods/podX/ID".into()));
        assert_eq!((parent_dir("kubepods-podX.slice").as_str(), parent_dir("/a/b").as_str()), (pod, "/a/b"));
    }
}
