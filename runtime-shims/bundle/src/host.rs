//! What the host offers and how the runtime is set: the facts that decide beside the request.
//!
//! Must not know: how they were found.

use oci_spec::runtime::{Capability, PosixRlimit};
pub use pintle_cri::CgroupDriver;

use crate::DeviceNode;

/// How cgroups are mounted on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupVersion {
    /// v1 hierarchies hold the controllers (hybrid included).
    V1,
    /// The unified hierarchy alone.
    #[default]
    V2,
}

/// AppArmor of a host that has it enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppArmor {
    /// Names of the profiles that are loaded now, from `/sys/kernel/security/apparmor/profiles`.
    pub loaded: Vec<String>,
    /// The profile of containers that name none; the caller has loaded it. `None` where it could not be: it leaves them
    /// unconfined, and a request for it is refused.
    pub default: Option<String>,
}

/// SELinux of a host that has it enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selinux {
    /// Label of container processes, `user:role:type:level`; fields that a request gives replace its own.
    pub process: String,
    /// Label of their files, of the same form.
    pub file: String,
}

/// Facts of the host and settings of the runtime.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Name of the host, for pods of its network.
    pub hostname: String,
    pub cgroup_version: CgroupVersion,
    pub cgroup_driver: CgroupDriver,
    /// The kernel accounts swap (`memory.memsw.limit_in_bytes` or `memory.swap.max` exists).
    pub swap: bool,
    /// The hugetlb controller is there.
    pub hugetlb: bool,
    /// What this process may hand on: what "ALL" and privileged give.
    pub capabilities: Vec<Capability>,
    /// The kernel filters system calls.
    pub seccomp: bool,
    pub selinux: Option<Selinux>,
    /// The OCI runtime makes mounts read-only with all below them.
    pub recursive_read_only: bool,
    /// Kernel and OCI runtime map the owners of a mount.
    pub id_mapped_mounts: bool,
    /// The lowest `oom_score_adj` that may be set, for a process without `CAP_SYS_RESOURCE`.
    pub least_oom_score_adj: Option<i32>,
    /// Limits that every container gets; none means what the runtime itself has.
    pub rlimits: Vec<PosixRlimit>,
    /// Every device node below `/dev`: what a privileged container sees.
    pub devices: Vec<DeviceNode>,
    /// Pods may bind low ports (containerd's `enable_unprivileged_ports`).
    pub unprivileged_ports: bool,
    /// Pods may send ICMP echo without `CAP_NET_RAW` (containerd's `enable_unprivileged_icmp`).
    pub unprivileged_icmp: bool,
}
