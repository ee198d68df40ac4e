//! The runtime's default profile: the well-known one that Docker and containerd share, by architecture and capability.
//!
//! Must not know: who asks for it.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

const NAMES: &str = include_str!("default.txt");
const ENOSYS: u32 = 38;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// Every `CLONE_NEW…` of `clone(2)`: mount, cgroup, UTS, IPC, user, PID, network.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// Linux, its 16-bit and 32-bit forms, and the question for the current one.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The default profile of a container that holds `held`; `architecture` is named as `std::env::consts::ARCH` does.
/// What it does not allow fails with `EPERM`; `clone3` without `CAP_SYS_ADMIN` with `ENOSYS`, so that callers fall
/// back to `clone`, whose flags can be looked at.
pub fn default_profile(architecture: &str, held: &Capabilities) -> LinuxSeccomp {
    let mut calls = vec![allow(names(architecture, held))];
    calls.extend(sockets());
    calls.extend(PERSONALITIES.map(|value| on("personality", 0, LinuxSeccompOperator::ScmpCmpEq, value, None)));
    if !held.contains(&Capability::SysAdmin) {
        calls.push(clone_without_namespaces(architecture));
        calls.push(clone3_unknown());
    }
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_architectures(Some(architectures(architecture)).filter(|found| !found.is_empty()));
    profile.set_syscalls(Some(calls));
    profile
}

/// Names of every section that applies, sorted, each once.
fn names(architecture: &str, held: &Capabilities) -> Vec<String> {
    let mut applies = false;
    let mut names = Vec::new();
    for line in NAMES.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(section) => applies = section_applies(section, architecture, held),
            None if applies => names.extend(line.split_whitespace().map(str::to_owned)),
            None => {}
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn section_applies(section: &str, architecture: &str, held: &Capabilities) -> bool {
    match section.split_once(' ') {
        Some(("arch", name)) => name == architecture,
        Some(("capability", name)) => name.parse().is_ok_and(|capability: Capability| held.contains(&capability)),
        _ => true,
    }
}

fn allow(names: Vec<String>) -> LinuxSyscall {
    let mut call = LinuxSyscall::default();
    call.set_names(names);
    call.set_action(LinuxSeccompAction::ScmpActAllow);
    call
}

/// Allows `name` where its argument `index` compares so.
fn on(name: &str, index: usize, op: LinuxSeccompOperator, value: u64, value_two: Option<u64>) -> LinuxSyscall {
    let argument = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    let argument = value_two.into_iter().fold(argument, LinuxSeccompArgBuilder::value_two::<u64>);
    let mut call = allow(vec![name.to_owned()]);
    // Every field has a default, so building cannot fail.
    call.set_args(Some(vec![argument.build().unwrap_or_default()]));
    call
}

/// Every family of sockets but AF_ALG and AF_VSOCK, as three ranges: conditions on one argument in one rule become
/// rules of their own in runc, and would let both through.
fn sockets() -> [LinuxSyscall; 3] {
    [
        on("socket", 0, LinuxSeccompOperator::ScmpCmpLt, AF_ALG, None),
        on("socket", 0, LinuxSeccompOperator::ScmpCmpEq, AF_ALG + 1, None),
        on("socket", 0, LinuxSeccompOperator::ScmpCmpGt, AF_VSOCK, None),
    ]
}

/// The flags are the second argument on s390x.
fn clone_without_namespaces(architecture: &str) -> LinuxSyscall {
    let index = usize::from(architecture == "s390x");
    on("clone", index, LinuxSeccompOperator::ScmpCmpMaskedEq, NAMESPACE_FLAGS, Some(0))
}

fn clone3_unknown() -> LinuxSyscall {
    let mut call = allow(vec!["clone3".to_owned()]);
    call.set_action(LinuxSeccompAction::ScmpActErrno);
    call.set_errno_ret(Some(ENOSYS));
    call
}

/// The ways into the kernel that a program of this architecture may take.
fn architectures(architecture: &str) -> Vec<Arch> {
    match architecture {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchArm, Arch::ScmpArchAarch64],
        "s390x" => vec![Arch::ScmpArchS390, Arch::ScmpArchS390x],
        "riscv64" => vec![Arch::ScmpArchRiscv64],
        "loongarch64" => vec![Arch::ScmpArchLoongarch64],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &LinuxSeccomp, name: &str) -> bool {
        let plain = |call: &&LinuxSyscall| call.args().is_none() && call.action() == LinuxSeccompAction::ScmpActAllow;
        profile.syscalls().iter().flatten().filter(plain).any(|call| call.names().iter().any(|known| known == name))
    }

    #[test]
    fn what_can_leave_the_container_is_not_allowed_by_default() {
        let profile = default_profile("x86_64", &crate::DEFAULT_CAPABILITIES.into_iter().collect());
        for name in ["mount", "setns", "unshare", "bpf", "keyctl", "reboot", "kexec_load", "clone", "io_uring_setup"] {
            assert!(!allowed(&profile, name), "{name}");
        }
        for name in ["read", "execve", "chroot", "openat2", "arch_prctl", "statx", "ptrace"] {
            assert!(allowed(&profile, name), "{name}");
        }
    }

    #[test]
    fn a_capability_allows_what_it_is_for() {
        let admin = default_profile("x86_64", &[Capability::SysAdmin].into());
        assert!(allowed(&admin, "mount") && allowed(&admin, "clone3") && !allowed(&admin, "reboot"));
        assert!(allowed(&default_profile("x86_64", &[Capability::SysBoot].into()), "reboot"));
        assert!(!allowed(&default_profile("aarch64", &Capabilities::new()), "modify_ldt"));
    }

    #[test]
    fn every_section_names_an_architecture_or_a_capability() {
        let known = ["powerpc64", "arm", "aarch64", "x86_64", "x86", "s390x", "riscv64"];
        for section in NAMES.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']')) {
            match section.split_once(' ') {
                Some(("arch", name)) => assert!(known.contains(&name), "{name}"),
                Some(("capability", name)) => assert!(name.parse::<Capability>().is_ok(), "{name}"),
                _ => assert_eq!(section, "always"),
            }
        }
    }
}
