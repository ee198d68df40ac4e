//! The facts of this host that decide what a container gets.
//!
//! Must not know: any request.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{Capability, LinuxDeviceType};
use pintle_bundle::{AppArmor, CgroupDriver, CgroupVersion, DeviceNode, Host, Selinux};

const CGROUPS: &str = "/sys/fs/cgroup";
/// Folders of `/dev` whose nodes are of a container itself.
const OWN: [&str; 4] = ["pts", "shm", "fd", "mqueue"];
const DEEPEST: usize = 4;
/// The first kernel with this call, by which a whole tree of mounts becomes read-only.
const MOUNT_SETATTR: (u32, u32) = (5, 12);

/// The first kernel whose overlays take ID-mapped layers.
const MAPPED_LAYERS: (u32, u32) = (5, 19);

pub fn look(cgroup_driver: CgroupDriver) -> Host {
    let unified = Path::new(CGROUPS).join("cgroup.controllers").exists();
    Host {
        hostname: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
        cgroup_version: if unified { CgroupVersion::V2 } else { CgroupVersion::V1 },
        cgroup_driver,
        swap: swap(unified),
        hugetlb: controller("hugetlb", unified),
        capabilities: capabilities(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        selinux: selinux(),
        recursive_read_only: mounts_read_only_to_the_bottom(),
        id_mapped_mounts: false,
        least_oom_score_adj: least_oom_score_adj(),
        rlimits: Vec::new(),
        devices: nodes(Path::new("/dev"), DEEPEST),
        unprivileged_ports: true,
        unprivileged_icmp: true,
    }
}

/// Whether containerd's runc and the kernel know mounts that are read-only with all below them.
fn mounts_read_only_to_the_bottom() -> bool {
    let told = Command::new("runc").arg("features").output();
    let by_runc = told.is_ok_and(|told| told.status.success() && knows_option(&told.stdout, "rro"));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    by_runc && kernel(&release).is_some_and(|found| found >= MOUNT_SETATTR)
}

/// Whether the kernel takes layers whose owners are mapped.
pub fn maps_layers() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    kernel(&release).is_some_and(|found| found >= MAPPED_LAYERS)
}

fn knows_option(features: &[u8], option: &str) -> bool {
    let features: serde_json::Value = serde_json::from_slice(features).unwrap_or_default();
    let options = features.get("mountOptions").and_then(serde_json::Value::as_array);
    options.is_some_and(|options| options.iter().any(|known| known == option))
}

/// `6.1.0-13-amd64` → major and minor.
fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn swap(unified: bool) -> bool {
    if !unified {
        return Path::new(CGROUPS).join("memory/memory.memsw.limit_in_bytes").exists();
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Path::new(CGROUPS).join(path).join("memory.swap.max").exists()
}

fn controller(name: &str, unified: bool) -> bool {
    if !unified {
        return Path::new(CGROUPS).join(name).is_dir();
    }
    let all = fs::read_to_string(Path::new(CGROUPS).join("cgroup.controllers")).unwrap_or_default();
    all.split_whitespace().any(|found| found == name)
}

/// What this process may hand on: its bounding set.
fn capabilities() -> Vec<Capability> {
    let held = caps::read(None, caps::CapSet::Bounding).unwrap_or_default();
    let names = held.iter().map(|capability| capability.to_string());
    names.filter_map(|name| name.strip_prefix("CAP_")?.parse().ok()).collect()
}

/// What the kernel has now: profiles come and go while this runs.
pub fn apparmor() -> anyhow::Result<Option<AppArmor>> {
    let found = pintle_launch::apparmor::profiles()?;
    Ok(found.map(|found| AppArmor { loaded: found.loaded, default: found.default }))
}

fn selinux() -> Option<Selinux> {
    pintle_launch::selinux::look().map(|found| Selinux { process: found.process, file: found.file })
}

/// A process without `CAP_SYS_RESOURCE` cannot go below its own score, nor can what it starts.
fn least_oom_score_adj() -> Option<i32> {
    let may_lower = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap_or(false);
    if may_lower {
        return None;
    }
    fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}

/// The device nodes at a path: itself, or those below the folder.
pub fn nodes(path: &Path, depth: usize) -> Vec<DeviceNode> {
    let Ok(found) = fs::metadata(path) else { return Vec::new() };
    if !found.is_dir() {
        return node(path, &found).into_iter().collect();
    }
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let names = entries.filter_map(Result::ok).filter(|_| depth > 0);
    let inside = names.filter(|entry| !OWN.iter().any(|own| entry.file_name() == *own));
    let mut list: Vec<DeviceNode> = inside.flat_map(|entry| below(&entry, depth)).collect();
    list.sort_by(|a, b| a.path.cmp(&b.path));
    list
}

/// Symbolic links are not followed below a folder.
fn below(entry: &fs::DirEntry, depth: usize) -> Vec<DeviceNode> {
    match entry.file_type() {
        Ok(kind) if kind.is_dir() => nodes(&entry.path(), depth - 1),
        Ok(kind) if kind.is_symlink() || entry.file_name() == "console" => Vec::new(),
        _ => entry.metadata().ok().and_then(|found| node(&entry.path(), &found)).into_iter().collect(),
    }
}

fn node(path: &Path, found: &fs::Metadata) -> Option<DeviceNode> {
    let kind = match found.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    Some(DeviceNode {
        path: path.to_path_buf(),
        kind,
        major: major(found.rdev()).try_into().ok()?,
        minor: minor(found.rdev()).try_into().ok()?,
        mode: found.permissions().mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runc_and_the_kernel_know_is_read() {
        let features = br#"{ "ociVersionMin": "1.0.0", "mountOptions": ["ro", "rro"] }"#;
        assert!(knows_option(features, "rro") && !knows_option(features, "idmap") && !knows_option(b"", "rro"));
        assert_eq!(["6.1.0-13-amd64", "5.12-rc1", "?"].map(kernel), [Some((6, 1)), Some((5, 12)), None]);
    }
}
