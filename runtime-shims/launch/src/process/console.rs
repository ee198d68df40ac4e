//! A process's terminal: made in the container's devpts, its controlling side sent to whoever serves the console.
//!
//! Must not know: who that is.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use nix::unistd::{Uid, fchown};
use oci_spec::runtime::Process;

use crate::sys::check;

const DEVPTS: i64 = 0x1cd1;
const GET_PEER: libc::Ioctl = 0x5441;

/// Opens a new terminal of the devpts that `folder` (the container's /dev/pts) is.
pub fn make(folder: BorrowedFd<'_>, process: &Process) -> Result<(OwnedFd, OwnedFd)> {
    ensure!(fstatfs(folder).context("cannot stat /dev/pts")?.filesystem_type().0 == DEVPTS, "/dev/pts is no devpts");
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = openat(folder, "ptmx", flags, Mode::empty()).context("cannot open /dev/pts/ptmx")?;
    let unlocked: libc::c_int = 0;
    // SAFETY: the kernel reads one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }.into())
        .context("cannot unlock the terminal")?;
    // SAFETY: takes flags, returns an fd; no path in the container is asked for the other side.
    let slave = check(unsafe { libc::ioctl(master.as_raw_fd(), GET_PEER, flags.bits()) }.into())
        .context("cannot open the terminal")?;
    // SAFETY: a new fd of ours.
    let slave = unsafe { OwnedFd::from_raw_fd(slave as i32) };
    if let Some(size) = process.console_size() {
        let size =
            libc::winsize { ws_row: size.height() as u16, ws_col: size.width() as u16, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads one winsize.
        check(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())
            .context("cannot size the terminal")?;
    }
    fchown(slave.as_fd(), Some(Uid::from_raw(process.user().uid())), None).context("cannot own the terminal")?;
    Ok((master, slave))
}

/// Sends the controlling side over the console socket, named as runc names it.
pub fn send(socket: &UnixStream, master: BorrowedFd<'_>) -> Result<()> {
    let fds = [master.as_raw_fd()];
    let name = [IoSlice::new(b"/dev/ptmx")];
    sendmsg::<()>(socket.as_raw_fd(), &name, &[ControlMessage::ScmRights(&fds)], MsgFlags::empty(), None)
        .map(drop)
        .context("cannot send the terminal over the console socket")
}

/// Makes a terminal this process's standard fds and its controlling terminal. It must lead a session.
pub fn take(slave: BorrowedFd<'_>) -> Result<()> {
    for number in 0..3 {
        // SAFETY: the standard fds are owned by nobody.
        check(unsafe { libc::dup2(slave.as_raw_fd(), number) }.into()).context("cannot take the terminal")?;
    }
    // SAFETY: takes a number.
    check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }.into()).map(drop).context("cannot control the terminal")
}

/// The container's devpts from within.
pub fn devpts() -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(Path::new("/dev/pts"), flags, Mode::empty()).context("cannot open /dev/pts")
}
