//! The mount calls that work on fds: a mount is made detached, changed, then attached where an fd says.
//!
//! Must not know: where anything belongs.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;

use super::check;

pub const RDONLY: u64 = 0x1;
pub const NOSUID: u64 = 0x2;
pub const NODEV: u64 = 0x4;
pub const NOEXEC: u64 = 0x8;
/// The two bits of access times: none is relatime.
pub const ATIME: u64 = 0x70;
pub const NOATIME: u64 = 0x10;
pub const STRICTATIME: u64 = 0x20;
pub const NODIRATIME: u64 = 0x80;
pub const IDMAP: u64 = 0x10_0000;
pub const NOSYMFOLLOW: u64 = 0x20_0000;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const AT_EMPTY_PATH: libc::c_uint = 0x1000;
const MOVE_MOUNT_BOTH_EMPTY: libc::c_uint = 0x4 | 0x40;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const CLOEXEC: libc::c_uint = 1;

/// A change of a mount's attributes (`RDONLY` …) and of its propagation (`MS_SLAVE` …; 0 leaves it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Change {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    /// The user namespace of an `IDMAP`.
    pub users: u64,
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: callers pass what the kernel just returned as a new fd of this process.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// A detached copy of the mount at a path, with those below it if `recursive`.
pub fn copy(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    clone_tree(libc::AT_FDCWD, &text(path)?, if recursive { AT_RECURSIVE } else { 0 })
}

/// A detached copy of what an fd names.
pub fn copy_of(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    clone_tree(fd.as_raw_fd(), c"", AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 })
}

fn clone_tree(at: RawFd, path: &std::ffi::CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    let flags = flags | OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: the path is a C string that lives through the call.
    check(unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) }).map(owned)
}

/// Attaches a detached mount on top of what `target` names.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let (from, to, empty) = (mount.as_raw_fd(), target.as_raw_fd(), c"".as_ptr());
    // SAFETY: both paths are empty C strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, MOVE_MOUNT_BOTH_EMPTY) }).map(drop)
}

/// Changes the mount an fd names, and those below it if `recursive`.
pub fn change(mount: BorrowedFd<'_>, recursive: bool, change: Change) -> io::Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let (fd, size) = (mount.as_raw_fd(), size_of::<Change>());
    // SAFETY: the kernel reads `size` bytes of a struct laid out as its mount_attr.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const change, size) }).map(drop)
}

/// A new, detached mount of a file system: its options are `(name, value)`, a flag has no value.
pub fn new(kind: &str, options: &[(String, Option<String>)], attributes: u64) -> io::Result<OwnedFd> {
    let kind = text(Path::new(kind))?;
    // SAFETY: a C string that lives through the call.
    let context = owned(check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOEXEC) })?);
    for (name, value) in options {
        configure(&context, name, value.as_deref())?;
    }
    let (fd, none) = (context.as_raw_fd(), std::ptr::null::<u8>());
    // SAFETY: this command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) })?;
    // SAFETY: takes and returns numbers.
    check(unsafe { libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, attributes) }).map(owned)
}

/// Gives the root of a mount SELinux' label.
pub fn label(mount: BorrowedFd<'_>, label: &str) -> io::Result<()> {
    // an fd of a mount itself has no attributes to be set
    let root = openat(mount, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let (name, value) = (c"security.selinux".as_ptr(), text(Path::new(label))?);
    let (fd, bytes) = (root.as_raw_fd(), value.as_bytes_with_nul());
    // SAFETY: name and value live through the call, which keeps neither.
    check(unsafe { libc::fsetxattr(fd, name, bytes.as_ptr().cast(), bytes.len(), 0) }.into()).map(drop)
}

fn configure(context: &OwnedFd, name: &str, value: Option<&str>) -> io::Result<()> {
    let name = text(Path::new(name))?;
    let value = value.map(|value| text(Path::new(value))).transpose()?;
    let (command, value) = match &value {
        Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
        None => (FSCONFIG_SET_FLAG, std::ptr::null()),
    };
    let (fd, name) = (context.as_raw_fd(), name.as_ptr());
    // SAFETY: name and value are C strings that live through the call, or null where the command takes none.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, name, value, 0) }).map(drop)
}
