//! Files in a container's root, read so that no link in it leads out of it.
//!
//! Must not know: which files.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::libc;

/// The text of a file at `path` in `root`, up to `most` bytes; empty where there is none, or it is no file.
pub fn read(root: &Path, path: &str, most: u64) -> io::Result<String> {
    // not waiting for the other end of a FIFO that an image may have there
    let file = match open(root, path, libc::O_RDONLY | libc::O_NONBLOCK) {
        Ok(file) => file,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
            return Ok(String::new());
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Where a path in `root` really is, on the host.
pub fn resolve(root: &Path, path: &str) -> io::Result<PathBuf> {
    let found = open(root, path, libc::O_PATH)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Opens with `root` as the root of every link.
fn open(root: &Path, path: &str, flags: i32) -> io::Result<File> {
    let root = File::open(root)?;
    let path = CString::new(Path::new(path).as_os_str().as_bytes())?;
    // SAFETY: all zeroes is a valid request.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::try_from(flags | libc::O_CLOEXEC).map_err(io::Error::other)?;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path ends with a zero, and the request lives as long as the call and is of the size given.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave it to us, and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_end_at_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(outside.path().join("passwd"), "outside").unwrap();
        std::os::unix::fs::symlink("../../passwd", root.join("etc/passwd")).unwrap();
        assert_eq!(read(&root, "/etc/passwd", 100).unwrap(), "");
        std::fs::write(root.join("passwd"), "inside").unwrap();
        assert_eq!(read(&root, "/etc/passwd", 100).unwrap(), "inside");
        assert_eq!(read(&root, "/etc", 100).unwrap(), "");
        assert_eq!(resolve(&root, "etc/passwd").unwrap(), root.canonicalize().unwrap().join("passwd"));
    }
}
