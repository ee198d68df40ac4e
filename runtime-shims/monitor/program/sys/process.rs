//! Processes and signals.

use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::ptr::null;

use super::{Errno, Fd, Open, Result, c_string, checked, machine, open, replace};

pub const SIGHUP: u32 = 1;
pub const SIGINT: u32 = 2;
pub const SIGKILL: u32 = 9;
pub const SIGPIPE: u32 = 13;
pub const SIGTERM: u32 = 15;
pub const SIGCHLD: u32 = 17;
pub const SIGXFSZ: u32 = 25;
pub const SIGIO: u32 = 29;
const SIZE_OF_SET: usize = 8;
const SIG_SETMASK: usize = 2;

/// The effective user.
pub fn own_uid() -> u32 {
    checked(machine::GETEUID, [0; 6]).unwrap_or(u32::MAX as usize) as u32
}

pub fn own_pid() -> u32 {
    checked(machine::GETPID, [0; 6]).unwrap_or_default() as u32
}

pub fn exit(code: usize) -> ! {
    loop {
        let _ = checked(machine::EXIT_GROUP, [code, 0, 0, 0, 0, 0]);
    }
}

/// 0 in the child.
fn fork() -> Result<usize> {
    checked(machine::CLONE, [SIGCHLD as usize, 0, 0, 0, 0, 0])
}

/// A child that is born in a cgroup of v2. 0 in the child.
fn fork_into(cgroup: &Fd) -> Result<usize> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    // flags, then the signal of its exit as the fifth, the cgroup as the last; the others are not wanted
    let arguments = [CLONE_INTO_CGROUP, 0, 0, 0, u64::from(SIGCHLD), 0, 0, 0, 0, 0, cgroup.0 as u64];
    checked(machine::CLONE3, [arguments.as_ptr() as usize, size_of_val(&arguments), 0, 0, 0, 0])
}

/// Only the child comes back, in the cgroup of v2 that is given.
///
/// Being born there costs nothing, while a move there waits milliseconds for the lock of all forks and exits.
pub fn fork_and_exit_parent(cgroup: Option<&Fd>) -> Result<()> {
    if cgroup.map_or_else(fork, fork_into)? != 0 {
        exit(0);
    }
    Ok(())
}

pub fn new_session() {
    // It fails only for who leads a group already, as a fresh child never does.
    let _ = checked(machine::SETSID, [0; 6]);
}

/// Asks to be killed when this process's parent ends.
fn end_with_parent() {
    const PR_SET_PDEATHSIG: usize = 1;
    let _ = checked(machine::PRCTL, [PR_SET_PDEATHSIG, SIGKILL as usize, 0, 0, 0, 0]);
}

/// Orphans among its descendants become its children.
pub fn become_subreaper() -> Result<()> {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    checked(machine::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0]).map(drop)
}

/// At most 15 bytes are shown.
pub fn name_process(name: &CStr) {
    const PR_SET_NAME: usize = 15;
    let _ = checked(machine::PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0, 0]);
}

/// Every signal does its default again, for whoever started this may have ignored some.
pub fn reset_signals() {
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // KILL and STOP cannot be changed, which is as good.
        let _ = checked(machine::RT_SIGACTION, [signal, default.as_ptr() as usize, 0, SIZE_OF_SET, 0, 0]);
    }
}

fn set_mask(mask: u64) -> Result<()> {
    checked(machine::RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as usize, 0, SIZE_OF_SET, 0, 0]).map(drop)
}

/// Signals as something to read, instead of as interruptions.
#[derive(Debug)]
pub struct Signals(pub Fd);

/// What came since it was asked last.
#[derive(Debug, Default, Clone, Copy)]
pub struct Came {
    pub child: bool,
    pub deleted: bool,
    pub end: bool,
}

impl Signals {
    pub fn take_over() -> Result<Signals> {
        let bit = |signal: u32| 1_u64 << (signal - 1);
        let read = bit(SIGCHLD) | bit(SIGTERM) | bit(SIGIO);
        set_mask(read | bit(SIGINT) | bit(SIGHUP) | bit(SIGPIPE) | bit(SIGXFSZ))?;
        const NONBLOCK_CLOEXEC: usize = 0o2004000;
        let arguments = [usize::MAX, &raw const read as usize, SIZE_OF_SET, NONBLOCK_CLOEXEC, 0, 0];
        checked(machine::SIGNALFD4, arguments).map(|fd| Signals(Fd(fd as i32)))
    }

    pub fn read(&self) -> Came {
        let mut came = Came::default();
        let mut one = [0_u8; 128];
        while let Ok(128) = self.0.read(&mut one) {
            match u32::from_le_bytes([one[0], one[1], one[2], one[3]]) {
                SIGCHLD => came.child = true,
                SIGIO => came.deleted = true,
                _ => came.end = true,
            }
        }
        came
    }
}

pub fn kill(pid: i32, signal: u32) -> Result<()> {
    checked(machine::KILL, [pid as isize as usize, signal as usize, 0, 0, 0, 0]).map(drop)
}

/// A child that ended, and its exit code, or 128 and the number of the signal; none when no child has ended.
pub fn wait() -> Option<(u32, u32)> {
    const ANY: usize = usize::MAX;
    const WNOHANG: usize = 1;
    let mut status = 0_u32;
    let pid = checked(machine::WAIT4, [ANY, &raw mut status as usize, WNOHANG, 0, 0, 0]).ok().filter(|pid| *pid > 0)?;
    let signal = status & 0x7f;
    Some((pid as u32, if signal == 0 { status >> 8 & 0xff } else { 128 + signal }))
}

/// Whether `pid` is a child of this process, ended or not.
pub fn child_status(pid: u32) -> Result<()> {
    const P_PID: usize = 1;
    // It stays to be waited for: WNOHANG, WEXITED, WNOWAIT.
    const LOOK: usize = 1 | 4 | 0x0100_0000;
    let mut information = [0_u64; 16];
    checked(machine::WAITID, [P_PID, pid as usize, information.as_mut_ptr() as usize, LOOK, 0, 0]).map(drop)
}

/// A program to run.
#[derive(Debug)]
pub struct Command {
    /// Each ended by a NUL.
    argv: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
}

impl Command {
    pub fn new(argv: &[Vec<u8>], env: &[Vec<u8>]) -> Result<Command> {
        let strings = |list: &[Vec<u8>]| list.iter().map(|it| c_string(it)).collect::<Result<Vec<_>>>();
        if argv.is_empty() {
            return Err(Errno::EINVAL);
        }
        Ok(Command { argv: strings(argv)?, env: strings(env)? })
    }
}

/// Starts a program in a session of its own with three descriptors, and `score` (if any) as its OOM score's adjustment.
/// It ends with this process: what it would still make would have no parent that sees its end.
pub fn spawn(command: &Command, stdio: [&Fd; 3], score: Option<&[u8]>) -> Result<u32> {
    let pointers = |list: &[Vec<u8>]| list.iter().map(|it| it.as_ptr()).chain([null()]).collect::<Vec<_>>();
    let (argv, env) = (pointers(&command.argv), pointers(&command.env));
    match fork()? {
        0 => {}
        pid => return Ok(pid as u32),
    }
    new_session();
    end_with_parent();
    if let Some((score, file)) = score.zip(open(b"/proc/self/oom_score_adj", Open::Write).ok()) {
        let _ = file.write_all(score);
    }
    let ready =
        set_mask(0).and_then(|()| stdio.iter().enumerate().try_for_each(|(target, file)| replace(file, target)));
    let run = || checked(machine::EXECVE, [argv[0] as usize, argv.as_ptr() as usize, env.as_ptr() as usize, 0, 0, 0]);
    let error = ready.and_then(|()| run()).err().unwrap_or(Errno::EINVAL);
    let program = CStr::from_bytes_until_nul(&command.argv[0]).unwrap_or_default();
    let text = format!("cannot run {}: error {}\n", program.to_string_lossy(), error.0);
    super::write_standard_error(text.as_bytes());
    exit(127)
}
