//! What a CRI request makes of an OCI bundle: the runtime specification of a container or a sandbox, the process of an
//! exec, resource limits, and the DNS files of a pod.
//!
//! Pure: what the host has is in [`Host`], what was found on its disk is in [`ContainerInput`].
//! Must not know: the host, the disk, any runtime.

mod annotations;
mod apparmor;
mod capabilities;
mod cdi;
mod cgroups;
mod container;
mod devices;
mod files;
mod host;
mod invalid;
mod mountinfo;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod sandbox;
mod seccomp;
mod selinux;
mod signals;
mod sysctls;
mod users;
mod volumes;

#[cfg(test)]
mod golden;

pub use annotations::{CONTAINER_TYPE, SANDBOX_ID};
pub use capabilities::DEFAULT as DEFAULT_CAPABILITIES;
pub use cdi::requested as cdi_devices;
pub use cgroups::{cgroup_dir, cgroup_path, parent_dir};
pub use container::{ContainerInput, container_spec, mount_label};
pub use devices::DeviceNode;
pub use files::{hostname, resolv_conf};
pub use host::{AppArmor, CgroupDriver, CgroupVersion, Host, Selinux};
pub use invalid::Invalid;
pub use mountinfo::{MountSource, Peers, peers};
pub use mounts::{MASKED_PATHS, READONLY_PATHS};
pub use namespaces::{NamespacePaths, SandboxNamespaces, UserMappings, sandbox_namespaces};
pub use process::exec_process;
pub use resources::{resources, update};
pub use sandbox::{SandboxFiles, SandboxInput, sandbox_spec};
pub use seccomp::{default_profile, localhost_ref};
pub use selinux::{relabelled, sandbox_level as selinux_level};
pub use signals::{StopSignal, stop_signal};
pub use sysctls::sandbox_sysctls;
pub use users::{Identity, UserDatabase, identity};
pub use volumes::{Volume, image_volumes};
