//! The launcher's own program, out of the containers' reach.
//!
//! A process that enters a container can be made to run `/proc/self/exe`, and through it the host's binary could be
//! overwritten (CVE-2019-5736). So the launcher only enters one when it runs from a detached read-only mount of its file,
//! which is in no mount table, cannot be made writable, and costs no copy. Whoever starts many launchers keeps such a mount
//! and starts them from it (`program`); one that was started by its plain path runs itself again.
//! Must not know: what the launcher does.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::process::capabilities::prctl;
use crate::sys::check;
use crate::sys::mount::{self, Change, NODEV, NOSUID, RDONLY};

const SELF: &str = "/proc/self/exe";
/// Says that this is the second run, so that a failure is an error and not a loop.
const AGAIN: &str = "PINTLE_LAUNCH_SEALED";

/// A detached read-only mount of a launcher's program. What is run from its fd (`/proc/PID/fd/N`) finds itself sealed.
///
/// # Errors
/// No such file, or no right to mount.
pub fn program(path: &Path) -> Result<OwnedFd> {
    let program = mount::copy(path, false).with_context(|| format!("cannot mount {}", path.display()))?;
    let change = Change { set: RDONLY | NOSUID | NODEV, ..Change::default() };
    mount::change(program.as_fd(), false, change)
        .with_context(|| format!("cannot make the mount of {} read-only", path.display()))?;
    Ok(program)
}

/// Returns in a process that runs from the read-only mount and cannot be traced; the first time, by running again.
pub fn ensure_sealed() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).context("cannot become untraceable")?;
    if is_sealed() {
        return prctl(libc::PR_SET_NAME, c"pintle launch".as_ptr() as u64, 0).context("cannot set the process's name");
    }
    ensure!(std::env::var_os(AGAIN).is_none(), "{AGAIN} is set, but this program's file is not on a read-only mount");
    let program = program(Path::new(SELF))?;
    let arguments = strings(std::env::args_os())?;
    let mut environment = strings(std::env::vars_os().map(|(name, value)| joined(&name, &value)))?;
    environment.push(CString::new(format!("{AGAIN}=1"))?);
    let (arguments, environment) = (pointers(&arguments), pointers(&environment));
    let (fd, path) = (program.as_raw_fd(), c"".as_ptr());
    // SAFETY: both arrays hold pointers to C strings that live here, and end with null.
    check(unsafe {
        libc::syscall(libc::SYS_execveat, fd, path, arguments.as_ptr(), environment.as_ptr(), libc::AT_EMPTY_PATH)
    })
    .map(drop)
    .context("cannot run this program from its read-only mount")
}

/// A file that is the root of a detached mount has no name but `/`, and a program at a path of the host's has another. An
/// upgrade puts a new file in its place: the mount keeps the old one, which the kernel calls deleted.
fn is_sealed() -> bool {
    let root = ["/", "/ (deleted)"].map(Path::new);
    let detached = std::fs::read_link(SELF).is_ok_and(|path| root.contains(&path.as_path()));
    detached && statvfs(SELF).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY))
}

fn joined(name: &OsString, value: &OsString) -> OsString {
    let mut all = name.clone();
    all.push("=");
    all.push(value);
    all
}

fn strings(all: impl Iterator<Item = OsString>) -> Result<Vec<CString>> {
    all.map(|one| CString::new(one.into_vec()).context("a NUL byte in an argument")).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|one| one.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}
