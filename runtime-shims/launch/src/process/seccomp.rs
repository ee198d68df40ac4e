//! A container's system-call filter: compiled once per container with libseccomp, kept beside its state, loaded by its
//! init and by every exec.
//!
//! Must not know: who loads it.

use std::fs::File;
use std::io::{self, Read, Seek};

use anyhow::{Context, Result, bail, ensure};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};

use crate::sys::check;

const SET_FILTER: libc::c_uint = 1;
/// Bytes of one instruction of classic BPF.
const INSTRUCTION: usize = 8;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    program: Vec<u8>,
    flags: u32,
}

/// Compiles a profile.
///
/// # Errors
/// Notifications to a listener, which nothing here serves; an architecture or action libseccomp does not take.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default).context("cannot begin a seccomp filter")?;
    // a tree instead of a list: the filter of every container is walked at every system call
    let _ = context.set_ctl_optimize(2);
    for arch in profile.architectures().iter().flatten() {
        context.add_arch(architecture(*arch)).with_context(|| format!("seccomp does not know {arch:?}"))?;
    }
    for rule in profile.syscalls().iter().flatten() {
        add(&mut context, rule, default)?;
    }
    let program = export(&context).context("cannot compile the seccomp filter")?;
    Ok(Filter { program, flags: profile.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag)) })
}

fn export(context: &ScmpFilterContext) -> Result<Vec<u8>> {
    let mut file = File::from(memfd_create(c"filter", MFdFlags::MFD_CLOEXEC)?);
    context.export_bpf(&file)?;
    let mut program = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut program)?;
    Ok(program)
}

fn add(context: &mut ScmpFilterContext, rule: &LinuxSyscall, default: ScmpAction) -> Result<()> {
    let then = action(rule.action(), rule.errno_ret())?;
    if then == default {
        return Ok(());
    }
    let conditions: Vec<ScmpArgCompare> = rule.args().iter().flatten().map(condition).collect();
    for name in rule.names() {
        // profiles name system calls of kernels to come
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        add_one(context, then, call, rule.args().as_deref().unwrap_or_default(), &conditions)
            .with_context(|| format!("seccomp refuses the rule for {name}"))?;
    }
    Ok(())
}

fn add_one(
    context: &mut ScmpFilterContext,
    then: ScmpAction,
    call: ScmpSyscall,
    arguments: &[LinuxSeccompArg],
    conditions: &[ScmpArgCompare],
) -> Result<()> {
    let twice = arguments
        .iter()
        .enumerate()
        .any(|(at, one)| arguments.iter().take(at).any(|other| other.index() == one.index()));
    if conditions.is_empty() {
        context.add_rule(then, call)?;
    } else if twice {
        // an argument can be compared once per rule; runc then takes each comparison as a rule of its own
        for condition in conditions {
            context.add_rule_conditional(then, call, std::slice::from_ref(condition))?;
        }
    } else {
        context.add_rule_conditional(then, call, conditions)?;
    }
    Ok(())
}

fn condition(argument: &LinuxSeccompArg) -> ScmpArgCompare {
    use LinuxSeccompOperator as Operator;
    // with a mask, `value` is the mask and `valueTwo` what is left under it
    let (operator, value) = match argument.op() {
        Operator::ScmpCmpNe => (ScmpCompareOp::NotEqual, argument.value()),
        Operator::ScmpCmpLt => (ScmpCompareOp::Less, argument.value()),
        Operator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, argument.value()),
        Operator::ScmpCmpEq => (ScmpCompareOp::Equal, argument.value()),
        Operator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, argument.value()),
        Operator::ScmpCmpGt => (ScmpCompareOp::Greater, argument.value()),
        Operator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(argument.value()), argument.value_two().unwrap_or(0)),
    };
    ScmpArgCompare::new(argument.index() as u32, operator, value)
}

fn action(action: LinuxSeccompAction, number: Option<u32>) -> Result<ScmpAction> {
    let number = number.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(i32::try_from(number).context("no such errno")?),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(u16::try_from(number).context("no such errno")?),
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActNotify => bail!("seccomp notifications to a listener are not supported"),
    })
}

fn architecture(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

fn bit(flag: LinuxSeccompFilterFlag) -> u32 {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
        // of use with a listener only
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    }
}

impl Filter {
    /// For a file: the flags, then the program.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.flags.to_ne_bytes()[..], &self.program].concat()
    }

    /// What `bytes` gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Filter> {
        let (flags, program) = bytes.split_first_chunk().context("a damaged seccomp filter")?;
        Ok(Filter { program: program.to_owned(), flags: u32::from_ne_bytes(*flags) })
    }

    /// Filters this process from now on. Needs no_new_privs or CAP_SYS_ADMIN.
    pub fn load(&self) -> Result<()> {
        let count = self.program.len() / INSTRUCTION;
        ensure!(self.program.len().is_multiple_of(INSTRUCTION), "a damaged seccomp filter");
        // the kernel wants the instructions aligned
        let mut instructions: Vec<libc::sock_filter> = Vec::with_capacity(count);
        for bytes in self.program.chunks_exact(INSTRUCTION) {
            // SAFETY: sock_filter is eight bytes of plain numbers.
            instructions.push(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) });
        }
        let length = u16::try_from(count).context("the seccomp filter is too long for the kernel")?;
        let program = libc::sock_fprog { len: length, filter: instructions.as_mut_ptr() };
        // SAFETY: the kernel copies `len` instructions that live through the call.
        let loaded: io::Result<_> =
            check(unsafe { libc::syscall(libc::SYS_seccomp, SET_FILTER, self.flags, &raw const program) });
        loaded.map(drop).context("cannot load the seccomp filter")
    }
}
