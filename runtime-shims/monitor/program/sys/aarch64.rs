//! System calls of aarch64: their numbers, how they are made, where a program begins, and copying memory.

use core::arch::{asm, global_asm};

pub const READ: usize = 63;
pub const WRITE: usize = 64;
pub const CLOSE: usize = 57;
pub const LSEEK: usize = 62;
pub const MMAP: usize = 222;
pub const MUNMAP: usize = 215;
pub const RT_SIGACTION: usize = 134;
pub const RT_SIGPROCMASK: usize = 135;
pub const IOCTL: usize = 29;
pub const GETPID: usize = 172;
pub const SOCKET: usize = 198;
pub const SENDTO: usize = 206;
pub const RECVMSG: usize = 212;
pub const BIND: usize = 200;
pub const LISTEN: usize = 201;
pub const GETSOCKOPT: usize = 209;
pub const CLONE: usize = 220;
pub const CLONE3: usize = 435;
pub const EXECVE: usize = 221;
pub const WAIT4: usize = 260;
pub const KILL: usize = 129;
pub const FCNTL: usize = 25;
pub const FTRUNCATE: usize = 46;
pub const CHDIR: usize = 49;
pub const UMASK: usize = 166;
pub const GETEUID: usize = 175;
pub const SETSID: usize = 157;
pub const PRCTL: usize = 167;
pub const CLOCK_GETTIME: usize = 113;
pub const EXIT_GROUP: usize = 94;
pub const WAITID: usize = 95;
pub const OPENAT: usize = 56;
pub const UNLINKAT: usize = 35;
pub const PPOLL: usize = 73;
pub const ACCEPT4: usize = 242;
pub const SIGNALFD4: usize = 74;
pub const EVENTFD2: usize = 19;
pub const DUP3: usize = 24;
pub const PIPE2: usize = 59;
pub const RENAMEAT2: usize = 276;
pub const STATX: usize = 291;
pub const CLOSE_RANGE: usize = 436;

/// `O_DIRECTORY` is another bit on other machines.
pub const O_DIRECTORY: usize = 0o40000;

// The kernel enters here with the arguments on the stack and no return address.
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "mov x0, sp", "b {run}", run = sym crate::run);

/// # Safety
/// The arguments must be what the system call of this number takes.
pub unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller's; `svc` changes only x0.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            in("x5") f, options(nostack));
    }
    result
}

/// Copies upwards, so `to` may overlap `from` from below.
///
/// # Safety
/// Both must be valid for `count` bytes.
pub unsafe fn copy_up(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's. Eight bytes are read before they are written, so an overlap from below is harmless.
    unsafe {
        asm!(
            "2:", "cmp {n}, #8", "b.lo 3f", "ldr {v}, [{from}], #8", "str {v}, [{to}], #8", "sub {n}, {n}, #8", "b 2b",
            "3:", "cbz {n}, 4f", "ldrb {v:w}, [{from}], #1", "strb {v:w}, [{to}], #1", "sub {n}, {n}, #1", "b 3b", "4:",
            n = inout(reg) count => _, v = out(reg) _, from = inout(reg) from => _, to = inout(reg) to => _,
            options(nostack));
    }
}

/// Copies downwards, so `to` may overlap `from` from above.
///
/// # Safety
/// Both must be valid for `count` bytes.
pub unsafe fn copy_down(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "2:", "cbz {n}, 3f", "ldrb {v:w}, [{from}, #-1]!", "strb {v:w}, [{to}, #-1]!", "sub {n}, {n}, #1", "b 2b", "3:",
            n = inout(reg) count => _, v = out(reg) _, from = inout(reg) from.wrapping_add(count) => _,
            to = inout(reg) to.wrapping_add(count) => _, options(nostack));
    }
}

/// # Safety
/// `to` must be valid for `count` bytes.
pub unsafe fn fill(to: *mut u8, value: u8, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!("2:", "cbz {n}, 3f", "strb {v:w}, [{to}], #1", "sub {n}, {n}, #1", "b 2b", "3:",
            n = inout(reg) count => _, v = in(reg) u32::from(value), to = inout(reg) to => _, options(nostack));
    }
}
