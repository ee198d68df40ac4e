//! The program that is the parent of a sandbox's containers.
//!
//! Started as `pintle-monitor DIRECTORY [CGROUP…]` with descriptor 0 a listening socket, `monitor.sock` in DIRECTORY. It
//! becomes a daemon: once standard error closes without a word, it serves. The cgroups are directories, of each hierarchy
//! one, that it joins first.
//! No libc and no threads; a static program at fixed addresses, so that a sandbox costs a few pages.
#![no_std]
#![no_main]

extern crate alloc;

mod clients;
mod console;
mod exits;
mod keep;
mod launch;
mod lines;
mod log;
mod memory;
mod monitor;
mod process;
#[path = "../src/protocol/mod.rs"]
#[allow(dead_code, reason = "the other end uses the other half")]
mod protocol;
mod requests;
mod streams;
mod sys;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

use self::monitor::Monitor;
use self::sys::{Errno, Open, Signals};

/// Where the kernel begins, with the number of arguments and their addresses on the stack.
///
/// # Safety
/// `stack` must be what the kernel left.
unsafe extern "C" fn run(stack: *const usize) -> ! {
    // SAFETY: the kernel put the count first, then as many addresses of strings.
    let arguments: Vec<&'static [u8]> = unsafe {
        let word = |at: usize| CStr::from_ptr(*stack.add(at) as *const core::ffi::c_char).to_bytes();
        (1..=*stack).map(word).collect()
    };
    match start(arguments.get(1..).unwrap_or_default()) {
        Ok(mut monitor) => {
            monitor.serve();
            sys::exit(0)
        }
        Err((what, errno)) => {
            sys::write_standard_error(format!("{what}: error {}\n", errno.0).as_bytes());
            sys::exit(1)
        }
    }
}

/// Of the process that was started only its daemon comes back.
fn start(arguments: &[&[u8]]) -> Result<Monitor, (String, Errno)> {
    let failed = |what: &'static str| move |errno| (String::from(what), errno);
    let (dir_path, cgroups) = arguments.split_first().ok_or((String::from("no directory is given"), Errno::EINVAL))?;
    sys::close_from(3);
    sys::reset_signals();
    sys::start_in_root();
    sys::name_process(c"pintle-monitor");
    let listener = sys::standard_input().map_err(failed("take the socket"))?;
    listener.never_wait().map_err(failed("prepare the socket"))?;
    // v1's are joined now, by `tasks`: a thread that moves itself needs not the lock of all forks and exits, for which the
    // kernel waits milliseconds. In the one of v2 the daemon is born, for the same reason.
    let mut of_v2 = None;
    for cgroup in cgroups {
        match sys::open(&[cgroup, b"/tasks".as_slice()].concat(), Open::Write) {
            Ok(file) => file.write_all(b"0").map_err(not_joined(cgroup))?,
            Err(_) => of_v2.replace(*cgroup).map_or(Ok(()), join)?,
        }
    }
    become_daemon(of_v2)?;
    sys::new_session();
    sys::become_subreaper().map_err(failed("become the parent of orphans"))?;
    let signals = Signals::take_over().map_err(failed("take over signals"))?;
    let dir = sys::open(dir_path, Open::Directory).map_err(failed("open the directory"))?;
    // Where it is not known, a monitor whose directory is removed ends by SIGTERM only.
    let _ = dir.notify_of_deletions();
    let socket = [dir_path, b"/".as_slice(), protocol::SOCKET.as_bytes()].concat();
    let monitor = Monitor::new(dir, socket, listener, signals, be_spared()).map_err(failed("find the socket"))?;
    let null = sys::open(b"/dev/null", Open::ReadWrite).map_err(failed("open /dev/null"))?;
    sys::replace_standard(&null).map_err(failed("close standard error"))?;
    Ok(monitor)
}

/// Only the daemon comes back, in the cgroup of v2 if there is one.
fn become_daemon(cgroup: Option<&[u8]>) -> Result<(), (String, Errno)> {
    if let Some(cgroup) = cgroup {
        let born = sys::open(cgroup, Open::Directory).and_then(|folder| sys::fork_and_exit_parent(Some(&folder)));
        if born.is_ok() {
            return Ok(());
        }
        // kernels before 5.7
        join(cgroup)?;
    }
    sys::fork_and_exit_parent(None).map_err(|errno| (String::from("fork"), errno))
}

fn join(cgroup: &[u8]) -> Result<(), (String, Errno)> {
    let file = sys::open(&[cgroup, b"/cgroup.procs"].concat(), Open::Write);
    file.and_then(|file| file.write_all(b"0")).map_err(not_joined(cgroup))
}

fn not_joined(cgroup: &[u8]) -> impl FnOnce(Errno) -> (String, Errno) {
    let text = format!("join cgroup {}", String::from_utf8_lossy(cgroup));
    move |errno| (text, errno)
}

/// Asks to be killed last when memory runs out, where that is permitted. What children are to have back, if so.
fn be_spared() -> Option<Vec<u8>> {
    let path = b"/proc/self/oom_score_adj";
    let before = sys::read_file(path, 16).ok()?;
    sys::open(path, Open::Write).and_then(|file| file.write_all(b"-999")).ok()?;
    Some(before)
}

/// There is nobody to tell but whoever looks for the reason.
#[panic_handler]
fn panicked(information: &core::panic::PanicInfo<'_>) -> ! {
    sys::write_standard_error(format!("{information}\n").as_bytes());
    sys::exit(134)
}
