//! Owners, modes, times and extended attributes, set on open files or on names that are not followed.
//!
//! Must not know: tar streams, where a path leads.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::root::beneath;
use super::tar::Entry;
use crate::error::{Context, Error, ErrorKind, Result};

/// Longest extended attribute the kernel takes.
const LONGEST_XATTR: usize = 64 << 10;
const OVERLAY_OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Owner, then mode (a change of owner clears set-user-ID), then attributes (it clears capabilities too).
pub(super) fn describe(file: &OwnedFd, entry: &Entry) -> Result<()> {
    fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).context(|| "cannot set its owner")?;
    fchmod(file, Mode::from_bits_truncate(entry.mode)).context(|| "cannot set its mode")?;
    for (name, value) in allowed(entry) {
        set_xattr(file, name, value)?;
    }
    Ok(())
}

/// The same for what cannot be opened: links, pipes and devices.
pub(super) fn describe_name(folder: &OwnedFd, name: &[u8], entry: &Entry, is_link: bool) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).context(|| "cannot set its owner")?;
    if !is_link {
        // nothing but us writes here, so it is still the pipe or device that was just made
        fchmodat(folder, name, Mode::from_bits_truncate(entry.mode), FchmodatFlags::FollowSymlink)
            .context(|| "cannot set its mode")?;
    }
    for (key, value) in allowed(entry) {
        set_xattr_at(folder, name, key, value)?;
    }
    let time = modified(entry.mtime);
    utimensat(folder, name, &time, &time, UtimensatFlags::NoFollowSymlink).context(|| "cannot set its time")
}

pub(super) fn set_time(file: &OwnedFd, mtime: (i64, u32)) -> Result<()> {
    let time = modified(mtime);
    futimens(file, &time, &time).context(|| "cannot set its time")
}

fn modified((seconds, nanoseconds): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, i64::from(nanoseconds))
}

/// Overlayfs' own attributes would let a layer redirect into others; `trusted` is the host administrator's, and so are the
/// labels of files (source of the latter: containers/storage's `xattrsToIgnore`).
fn allowed(entry: &Entry) -> impl Iterator<Item = &(Vec<u8>, Vec<u8>)> {
    let ours =
        |key: &[u8]| key.starts_with(b"trusted.") || key.starts_with(b"user.overlay.") || key == b"security.selinux";
    entry.xattrs.iter().filter(move |(key, _)| !ours(key))
}

/// Whether a folder hides what lower layers have in it.
pub(crate) fn is_opaque(folder: &Path) -> Result<bool> {
    let path = CString::new(folder.as_os_str().as_bytes()).map_err(|_| Error::io(Errno::EINVAL.into()))?;
    let name = CString::new(OVERLAY_OPAQUE).map_err(|_| Error::io(Errno::EINVAL.into()))?;
    let mut value = [0_u8; 1];
    // SAFETY: both names end with zero, and the kernel writes at most as many bytes as there are.
    let read = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match Errno::result(read) {
        Ok(_) => Ok(value == *b"y"),
        Err(Errno::ENODATA | Errno::ERANGE | Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno).context(|| format!("cannot look at {}", folder.display())),
    }
}

/// Hides what lower layers have in a folder.
pub(super) fn set_opaque(folder: &OwnedFd) -> Result<()> {
    set_xattr(folder, OVERLAY_OPAQUE, b"y")
}

fn set_xattr(file: &OwnedFd, name: &[u8], value: &[u8]) -> Result<()> {
    let key = checked(name, value)?;
    // SAFETY: the descriptor is open, the key ends in NUL, the value's pointer and length belong together.
    let done = unsafe { libc::fsetxattr(file.as_raw_fd(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    accept(Errno::result(done).map(drop), name)
}

fn set_xattr_at(folder: &OwnedFd, name: &[u8], key: &[u8], value: &[u8]) -> Result<()> {
    let path = beneath(folder, name);
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| nul())?;
    let c_key = checked(key, value)?;
    // SAFETY: both strings end in NUL, the value's pointer and length belong together.
    let done = unsafe { libc::lsetxattr(path.as_ptr(), c_key.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    accept(Errno::result(done).map(drop), key)
}

fn checked(name: &[u8], value: &[u8]) -> Result<CString> {
    if value.len() > LONGEST_XATTR {
        return Err(Error::new(ErrorKind::Refused, "extended attribute is longer than 64 KiB"));
    }
    CString::new(name).map_err(|_| nul())
}

fn nul() -> Error {
    Error::new(ErrorKind::Corrupt, "name with a zero byte")
}

/// Attributes that this file system or kind of file does not have are left out, as containerd does.
fn accept(done: nix::Result<()>, name: &[u8]) -> Result<()> {
    let shown = String::from_utf8_lossy(name);
    match done {
        Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(Errno::EPERM) if name.starts_with(b"user.") => Ok(()),
        Err(Errno::ENODATA | Errno::EINVAL | Errno::ERANGE | Errno::ENAMETOOLONG) => {
            Err(Error::new(ErrorKind::Corrupt, format!("invalid extended attribute {shown:?}")))
        }
        done => done.context(|| format!("cannot set extended attribute {shown:?}")),
    }
}
