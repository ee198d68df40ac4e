//! clone3: a child in new namespaces (and in a cgroup), with a pidfd for its parent.
//!
//! Must not know: what the child does.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::libc;
use nix::unistd::Pid;

use super::check;

/// Wider than the constants of libc.
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// What a child that panics exits with.
const PANICKED: i32 = 70;

/// A child process and the fd that names it, which no later process can take over.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// How a child differs from its parent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Birth<'a> {
    /// CLONE_NEW…, CLONE_PARENT.
    pub flags: u64,
    /// A directory of cgroup v2 to be born into.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Runs `body` in a child, whose exit code it returns. The process must have one thread.
pub fn spawn(birth: Birth<'_>, body: impl FnOnce() -> i32) -> io::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain numbers, for which zero means "not given".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = birth.flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    if birth.flags & libc::CLONE_PARENT as u64 == 0 {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = birth.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of everything; no other thread can hold a lock.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
        // SAFETY: the child ends here, without running its parent's destructors.
        unsafe { libc::_exit(code) }
    }
    // SAFETY: the kernel stored a new fd of ours.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: Pid::from_raw(pid as libc::pid_t), pidfd })
}

impl Child {
    /// Kills it and takes its exit code away.
    pub fn end(&self) {
        let _ = signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}

/// Sends a signal to the process a pidfd names.
pub fn signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for what kill(2) would send.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, none, 0) }).map(drop)
}

/// The fd of a process by its number. The caller must check that it is still the process it means.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes and returns numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: a new fd of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
