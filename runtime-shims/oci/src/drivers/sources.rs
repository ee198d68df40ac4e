//! What lies at the host paths that a request names: mounts' sources, devices, seccomp profiles.
//!
//! Must not know: what becomes of them in a container.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::Context as _;
use nix::sys::stat::{major, minor};
use oci_spec::runtime::LinuxDeviceType;
use pintle_bundle::{DeviceNode, MountSource, localhost_ref, peers};
use pintle_cri::v1::SecurityProfile;

use crate::error::Result;

/// More nodes than a machine has.
const MOST_NODES: usize = 4096;

/// The source of a mount; a folder is made where there is nothing, as containerd does.
pub fn mount(host_path: &str, mountinfo: &str) -> anyhow::Result<MountSource> {
    let path = Path::new(host_path);
    let found = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
            fs::canonicalize(path)
        }
        found => found,
    };
    let path = found.with_context(|| format!("looking at {}", path.display()))?;
    let (mountpoint, peers) = peers(mountinfo, &path);
    Ok(MountSource { path, mountpoint, peers })
}

/// The text of the host's seccomp profile that a security context names, by the newer field or the older.
pub fn seccomp_profile(profile: Option<&SecurityProfile>, path: &str) -> Result<Option<String>> {
    let Some(path) = localhost_ref(profile, path)? else { return Ok(None) };
    Ok(Some(fs::read_to_string(&path).with_context(|| format!("reading the seccomp profile {path}"))?))
}

/// The device at a path, or every one below it where it is a folder.
pub fn devices(path: &Path) -> Vec<DeviceNode> {
    let mut found = Vec::new();
    collect(path, &mut found);
    found
}

fn collect(path: &Path, found: &mut Vec<DeviceNode>) {
    // what is asked for may be a link to a device
    let Ok(metadata) = (if found.is_empty() { fs::metadata(path) } else { fs::symlink_metadata(path) }) else { return };
    if metadata.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if !is_link && found.len() < MOST_NODES {
                collect(&entry.path(), found);
            }
        }
        return;
    }
    found.extend(node(path, &metadata));
}

fn node(path: &Path, metadata: &fs::Metadata) -> Option<DeviceNode> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    Some(DeviceNode {
        path: path.to_owned(),
        kind,
        major: i64::try_from(major(metadata.rdev())).ok()?,
        minor: i64::try_from(minor(metadata.rdev())).ok()?,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_and_a_file_is_none() {
        let null = devices(Path::new("/dev/null"));
        assert_eq!(
            null.iter().map(|node| (node.kind, node.major, node.minor)).collect::<Vec<_>>(),
            [(LinuxDeviceType::C, 1, 3)]
        );
        assert_eq!(devices(Path::new("/proc/version")), []);
    }

    #[test]
    fn a_missing_source_is_made_as_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let source = mount(path.to_str().unwrap(), "").unwrap();
        assert!(source.path.is_dir());
        assert_eq!(source.mountpoint, Path::new("/"));
    }
}
