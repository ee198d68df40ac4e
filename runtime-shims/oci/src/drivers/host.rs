//! What this host offers, found once at the start.
//!
//! Must not know: what a bundle makes of it.

use std::fs;
use std::path::Path;

use oci_spec::runtime::{Capability, LinuxDeviceType, PosixRlimit};
use pintle_bundle::{CgroupVersion, DeviceNode, Host, Selinux};
use pintle_cri::CgroupDriver;

use super::cgroups::Hierarchies;
use super::sources;

/// By their number in the kernel's masks.
const CAPABILITIES: [Capability; 41] = {
    use Capability as C;
    [
        C::Chown,
        C::DacOverride,
        C::DacReadSearch,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Setgid,
        C::Setuid,
        C::Setpcap,
        C::LinuxImmutable,
        C::NetBindService,
        C::NetBroadcast,
        C::NetAdmin,
        C::NetRaw,
        C::IpcLock,
        C::IpcOwner,
        C::SysModule,
        C::SysRawio,
        C::SysChroot,
        C::SysPtrace,
        C::SysPacct,
        C::SysAdmin,
        C::SysBoot,
        C::SysNice,
        C::SysResource,
        C::SysTime,
        C::SysTtyConfig,
        C::Mknod,
        C::Lease,
        C::AuditWrite,
        C::AuditControl,
        C::Setfcap,
        C::MacOverride,
        C::MacAdmin,
        C::Syslog,
        C::WakeAlarm,
        C::BlockSuspend,
        C::AuditRead,
        C::Perfmon,
        C::Bpf,
        C::CheckpointRestore,
    ]
};

/// Looks at everything.
pub fn look(hierarchies: &Hierarchies, cgroup_driver: CgroupDriver) -> Host {
    let capabilities = capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let may_lower = capabilities.contains(&Capability::SysResource);
    Host {
        hostname: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
        cgroup_version: if hierarchies.is_v2() { CgroupVersion::V2 } else { CgroupVersion::V1 },
        cgroup_driver,
        swap: accounts_swap(hierarchies),
        hugetlb: has_controller(hierarchies, "hugetlb"),
        capabilities,
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        selinux: selinux(),
        recursive_read_only: true,
        id_mapped_mounts: true,
        least_oom_score_adj: (!may_lower).then(own_oom_score_adj),
        rlimits: Vec::<PosixRlimit>::new(),
        devices: devices(),
        unprivileged_ports: true,
        unprivileged_icmp: true,
    }
}

/// What may be handed on: the bounding set of this process that it also holds.
fn capabilities(status: &str) -> Vec<Capability> {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        u64::from_str_radix(line.trim(), 16).unwrap_or(0)
    };
    let held = mask("CapBnd:") & mask("CapEff:");
    CAPABILITIES.iter().enumerate().filter(|(number, _)| held >> number & 1 == 1).map(|(_, one)| *one).collect()
}

fn selinux() -> Option<Selinux> {
    pintle_launch::selinux::look().map(|found| Selinux { process: found.process, file: found.file })
}

/// Lets every container read images' layers, where SELinux says who may: an overlay shows files with its own label, but a
/// mapping of one (`mprotect`, as dynamic linking does) is judged by that of the file in the layer below.
pub fn label_layers(layers: &Path) -> anyhow::Result<()> {
    let label = pintle_launch::selinux::look().and_then(|found| found.read_only);
    label.map_or(Ok(()), |label| pintle_launch::selinux::label_folder(layers, &label))
}

fn own_oom_score_adj() -> i32 {
    let text = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn accounts_swap(hierarchies: &Hierarchies) -> bool {
    match hierarchies {
        Hierarchies::V1 { .. } => hierarchies.dir("memory", "/").join("memory.memsw.limit_in_bytes").exists(),
        // the cgroup that this process is in has such a file, unless nobody hands it memory: as the root, it tells nothing
        Hierarchies::V2 { root } => {
            let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let own = root.join(own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default());
            !own.join("memory.current").exists() || own.join("memory.swap.max").exists()
        }
    }
}

fn has_controller(hierarchies: &Hierarchies, name: &str) -> bool {
    match hierarchies {
        Hierarchies::V1 { controllers, .. } => controllers.iter().any(|one| one == name),
        Hierarchies::V2 { root } => {
            let all = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            all.split_whitespace().any(|one| one == name)
        }
    }
}

/// The nodes of `/dev` that a privileged container sees: not those that every container has of its own.
fn devices() -> Vec<DeviceNode> {
    const OWN: [&str; 5] = ["/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console"];
    let mut nodes = sources::devices(Path::new("/dev"));
    nodes.retain(|node| !OWN.iter().any(|own| node.path.starts_with(own)) && node.kind != LinuxDeviceType::P);
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_both_held_and_bounded_can_be_handed_on() {
        let status = "Name:\tx\nCapEff:\t0000000000000025\nCapBnd:\t00000000a80425e1\n";
        assert_eq!(capabilities(status), [Capability::Chown, Capability::Kill]);
        assert_eq!(capabilities(""), []);
    }
}
