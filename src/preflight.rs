//! Whether this machine can run a cluster: facts are read, problems are decided (pure), and all of them are told at
//! once.
//!
//! Must not know: how anything is started.

use crate::config::Config;
use crate::cri::Choice;
use crate::machine::{self, Cgroups};

/// What preflight looked at.
#[derive(Debug, Clone)]
pub struct Facts {
    pub root: bool,
    pub cgroups: Cgroups,
    /// Cgroup controllers that v2 lacks and pods need.
    pub lacking: Vec<&'static str>,
    pub overlayfs: bool,
    pub nftables: bool,
    /// `(port, what for, who holds it)` for each port that is taken.
    pub taken: Vec<(u16, &'static str, String)>,
    /// Programs that are needed and missing.
    pub missing: Vec<&'static str>,
    pub free_bytes: Option<u64>,
    /// Seconds since the epoch.
    pub clock: i64,
}

/// Less than this and not even images fit.
const LEAST_BYTES: u64 = 1 << 30;
/// Before this (2025-01-01) the clock is wrong, and certificates would be too.
const LEAST_CLOCK: i64 = 1_735_689_600;

pub fn look(config: &Config) -> Facts {
    let ports = [(config.secure_port, "the API server"), (config.kubelet_port, "the kubelet")];
    let wanted: &[&'static str] = if config.runtime == Choice::Containerd { &["containerd", "runc"] } else { &[] };
    Facts {
        root: nix::unistd::geteuid().is_root(),
        cgroups: machine::cgroups(),
        lacking: machine::lacking_controllers(),
        overlayfs: machine::has_file_system("overlay"),
        nftables: nftables(),
        taken: ports.into_iter().filter_map(|(port, what)| Some((port, what, machine::listener(port)?))).collect(),
        missing: wanted.iter().copied().filter(|name| machine::program(name).is_none()).collect(),
        free_bytes: machine::free_bytes(&config.data_dir),
        clock: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
    }
}

/// Whether the kernel speaks nf_tables: its netlink socket opens (which loads the module where there is one).
fn nftables() -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter).is_ok()
}

/// What stands in the way, each with what to do about it.
pub fn problems(facts: &Facts) -> Vec<String> {
    let mut problems = Vec::new();
    if !facts.root {
        problems.push("not root: run it with sudo".to_owned());
    }
    if facts.cgroups == Cgroups::None {
        problems.push("no cgroups below /sys/fs/cgroup: mount cgroup2 there".to_owned());
    }
    for controller in &facts.lacking {
        problems.push(format!(
            "no cgroup controller {controller} below /sys/fs/cgroup: boot the kernel with cgroup_enable={controller}; in a \
             container, let the cgroup around it hand it down"
        ));
    }
    if !facts.overlayfs {
        problems.push("the kernel has no overlayfs: load it (modprobe overlay)".to_owned());
    }
    if !facts.nftables {
        problems.push("the kernel has no nf_tables: load it (modprobe nf_tables)".to_owned());
    }
    for (port, what, holder) in &facts.taken {
        problems.push(format!("port {port}, which {what} needs, is taken by {holder}"));
    }
    if !facts.missing.is_empty() {
        problems.push(format!("{} not found: apt-get install {0}", facts.missing.join(" ")));
    }
    if let Some(free) = facts.free_bytes.filter(|free| *free < LEAST_BYTES) {
        problems.push(format!("only {} MiB of disk are free; images need at least 1024", free >> 20));
    }
    if facts.clock < LEAST_CLOCK {
        problems.push("the clock is in the past: certificates would not be valid; set it first".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Facts {
        Facts {
            root: true,
            cgroups: Cgroups::V2,
            lacking: Vec::new(),
            overlayfs: true,
            nftables: true,
            taken: Vec::new(),
            missing: Vec::new(),
            free_bytes: Some(8 << 30),
            clock: LEAST_CLOCK + 1,
        }
    }

    #[test]
    fn a_fine_machine_has_no_problems() {
        assert_eq!(problems(&fine()), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let facts = Facts {
            root: false,
            lacking: vec!["memory"],
            taken: vec![(6443, "the API server", "nginx (pid 8)".into())],
            missing: vec!["containerd", "runc"],
            free_bytes: Some(5 << 20),
            clock: 0,
            ..fine()
        };
        assert_eq!(
            problems(&facts),
            [
                "not root: run it with sudo",
                "no cgroup controller memory below /sys/fs/cgroup: boot the kernel with cgroup_enable=memory; in a \
                 container, let the cgroup around it hand it down",
                "port 6443, which the API server needs, is taken by nginx (pid 8)",
                "containerd runc not found: apt-get install containerd runc",
                "only 5 MiB of disk are free; images need at least 1024",
                "the clock is in the past: certificates would not be valid; set it first",
            ]
        );
    }
}
