//! Files in a container's root, read so that no link in it leads out of it.
//!
//! Must not know: which files.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::libc;
use pintle_daemon::inside;

/// The text of a file at `path` in `root`, up to `most` bytes; empty where there is none, or it is no file.
pub fn read(root: &Path, path: &str, most: u64) -> io::Result<String> {
    // not waiting for the other end of a FIFO that an image may have there
    let file = match open(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
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
    let found = open(root, path, OFlag::O_PATH)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Opens with `root` as the root of every link.
fn open(root: &Path, path: &str, flags: OFlag) -> io::Result<File> {
    let root = File::open(root)?;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(File::from(inside::open(root, path, how)?))
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
