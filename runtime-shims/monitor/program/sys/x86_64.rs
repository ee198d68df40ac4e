//! System calls of x86_64: their numbers, how they are made, where a program begins, and copying memory.

use core::arch::{asm, global_asm};

pub const READ: usize = 0;
pub const WRITE: usize = 1;
pub const CLOSE: usize = 3;
pub const LSEEK: usize = 8;
pub const MMAP: usize = 9;
pub const MUNMAP: usize = 11;
pub const RT_SIGACTION: usize = 13;
pub const RT_SIGPROCMASK: usize = 14;
pub const IOCTL: usize = 16;
pub const GETPID: usize = 39;
pub const SOCKET: usize = 41;
pub const SENDTO: usize = 44;
pub const RECVMSG: usize = 47;
pub const BIND: usize = 49;
pub const LISTEN: usize = 50;
pub const GETSOCKOPT: usize = 55;
pub const CLONE: usize = 56;
pub const CLONE3: usize = 435;
pub const EXECVE: usize = 59;
pub const WAIT4: usize = 61;
pub const KILL: usize = 62;
pub const FCNTL: usize = 72;
pub const FTRUNCATE: usize = 77;
pub const CHDIR: usize = 80;
pub const UMASK: usize = 95;
pub const GETEUID: usize = 107;
pub const SETSID: usize = 112;
pub const PRCTL: usize = 157;
pub const CLOCK_GETTIME: usize = 228;
pub const EXIT_GROUP: usize = 231;
pub const WAITID: usize = 247;
pub const OPENAT: usize = 257;
pub const UNLINKAT: usize = 263;
pub const PPOLL: usize = 271;
pub const ACCEPT4: usize = 288;
pub const SIGNALFD4: usize = 289;
pub const EVENTFD2: usize = 290;
pub const DUP3: usize = 292;
pub const PIPE2: usize = 293;
pub const RENAMEAT2: usize = 316;
pub const STATX: usize = 332;
pub const CLOSE_RANGE: usize = 436;

/// `O_DIRECTORY` is another bit on other machines.
pub const O_DIRECTORY: usize = 0o200000;

// The kernel enters here with the arguments on the stack and no return address.
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {run}",
    run = sym crate::run);

/// # Safety
/// The arguments must be what the system call of this number takes.
pub unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller's; `syscall` changes rcx and r11, which are named.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Copies upwards, so `to` may overlap `from` from below.
///
/// # Safety
/// Both must be valid for `count` bytes.
pub unsafe fn copy_up(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
}

/// Copies downwards, so `to` may overlap `from` from above.
///
/// # Safety
/// Both must be valid for `count` bytes.
pub unsafe fn copy_down(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's; the direction is upwards again afterwards, as everybody expects.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _, inout("rdi") to.wrapping_add(count).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(count).wrapping_sub(1) => _, options(nostack));
    }
}

/// # Safety
/// `to` must be valid for `count` bytes.
pub unsafe fn fill(to: *mut u8, value: u8, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") value,
            options(nostack, preserves_flags));
    }
}
