//! Layers as the users of a user namespace see them: ID-mapped copies of their mounts, seen by nobody else.
//!
//! Must not know: which container they are for.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::libc;

/// Copies that last as long as this.
#[derive(Debug)]
pub struct Mapped(Vec<OwnedFd>);

impl Mapped {
    /// Maps every folder by the user namespace at a path.
    pub fn new(folders: &[PathBuf], namespace: &Path) -> anyhow::Result<Self> {
        let users = File::open(namespace).with_context(|| format!("opening {}", namespace.display()))?;
        let one = |folder: &PathBuf| {
            map(folder, &users).with_context(|| format!("mapping the owners of {}", folder.display()))
        };
        folders.iter().map(one).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Where they are, for this process.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()).into()).collect()
    }
}

fn map(folder: &Path, users: &File) -> io::Result<OwnedFd> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path ends with a zero and lives as long as the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave it to us, and nobody else has it.
    let copy = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a valid request.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_IDMAP;
    attributes.userns_fd = u64::try_from(users.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: both descriptors are open; path and request live as long as the call, and the size is the request's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            copy.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(copy) } else { Err(io::Error::last_os_error()) }
}
