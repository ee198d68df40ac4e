//! The process of a pod sandbox: it holds the namespaces, reaps what its pod leaves behind when it is PID 1 there, and
//! ends on SIGTERM or SIGINT.
//!
//! Must not know: anything else. No libc, no heap; some hundred bytes of code in a static program.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
mod number {
    pub const SIGPROCMASK: usize = 14;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
    pub const EXIT: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const SIGPROCMASK: usize = 135;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
    pub const EXIT: usize = 94;
}

const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
static WAITED: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
const SIZE_OF_SET: usize = 8;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const ANY_CHILD: usize = usize::MAX;

// The kernel enters here without a return address; `pause` wants an aligned stack as any function does.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {run}", run = sym run);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "b {run}", run = sym run);

extern "C" fn run() -> ! {
    // Blocked signals stay pending even for PID 1, so that they can be waited for without handlers.
    call(number::SIGPROCMASK, [SIG_BLOCK, &raw const WAITED as usize, 0, SIZE_OF_SET]);
    loop {
        match call(number::SIGTIMEDWAIT, [&raw const WAITED as usize, 0, 0, SIZE_OF_SET]) {
            found if found == SIGCHLD as isize => while call(number::WAIT4, [ANY_CHILD, 0, WNOHANG, 0]) > 0 {},
            found if found == SIGINT as isize || found == SIGTERM as isize => {
                call(number::EXIT, [0; 4]);
            }
            _interrupted => {}
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: the calls made here read at most the constant set above and write nothing of ours; `syscall` changes rcx
    // and r11, which are named.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: as on x86_64; `svc` changes only x0.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
            options(nostack));
    }
    result
}

#[panic_handler]
fn never(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
