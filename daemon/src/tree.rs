//! Trees of files that somebody else made, removed however deep they are.
//!
//! A container makes a folder in a folder ten thousand times in a moment. [`std::fs::remove_dir_all`] follows it with a
//! call and a descriptor for each: it fails where descriptors are few, and where they are many the stack ends, and the
//! process with it. Must not know: whose tree it is.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Folders in folders that are followed at once; what is deeper is taken up to the top first.
const DEEPEST: u32 = 64;

/// Removes a folder with all that is in it. Links are removed, never followed; in place of the folder, too.
///
/// # Errors
/// It is not there, or is no folder; or something in it cannot be removed. Some of it may be gone then.
pub fn remove(folder: &Path) -> io::Result<()> {
    if fs::symlink_metadata(folder)?.is_symlink() {
        return fs::remove_file(folder);
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top: OwnedFd = OpenOptions::new().read(true).custom_flags(flags.bits()).open(folder)?.into();
    while empty(&top, &top, DEEPEST)? {}
    fs::remove_dir(folder)
}

/// Removes what is in a folder; whether something was taken up to the top, which has to be emptied again then.
fn empty(folder: &OwnedFd, top: &OwnedFd, left: u32) -> io::Result<bool> {
    let mut taken_up = false;
    for entry in fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))? {
        let entry = entry?;
        let name = entry.file_name();
        if !entry.file_type()?.is_dir() {
            gone(unlinkat(folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir))?;
        } else if let Some(left) = left.checked_sub(1) {
            taken_up |= empty_and_remove(folder, &name, top, left)?;
        } else {
            // nobody else has such a name there
            let place = format!(".{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>());
            gone(renameat(folder, name.as_os_str(), top, place.as_str()))?;
            taken_up = true;
        }
    }
    Ok(taken_up)
}

fn empty_and_remove(parent: &impl AsFd, name: &OsStr, top: &OwnedFd, left: u32) -> io::Result<bool> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(false),
        opened => opened?,
    };
    let taken_up = empty(&opened, top, left)?;
    gone(unlinkat(parent, name, UnlinkatFlags::RemoveDir))?;
    Ok(taken_up)
}

/// Somebody else may remove it, too.
fn gone(removed: nix::Result<()>) -> io::Result<()> {
    match removed {
        Err(Errno::ENOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes folders in each other, deeper than any path can say.
    fn dig(top: &Path, depth: u32) {
        let mut folder: OwnedFd = fs::File::open(top).unwrap().into();
        for _ in 0..depth {
            nix::sys::stat::mkdirat(&folder, "d", Mode::from_bits_truncate(0o755)).unwrap();
            folder = openat(&folder, "d", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        }
        openat(&folder, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::from_bits_truncate(0o644)).unwrap();
    }

    #[test]
    fn folders_are_removed_however_deep_on_a_small_stack() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        for inner in ["a", "b/c"] {
            fs::create_dir_all(top.join(inner)).unwrap();
            dig(&top.join(inner), 1_500);
        }
        let small = std::thread::Builder::new().stack_size(256 << 10);
        small.spawn(move || remove(&top).unwrap()).unwrap().join().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_and_what_they_lead_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (top, beside) = (dir.path().join("top"), dir.path().join("beside"));
        fs::create_dir_all(top.join("deep")).unwrap();
        fs::create_dir(&beside).unwrap();
        fs::write(beside.join("file"), "kept").unwrap();
        symlink(&beside, top.join("deep/link")).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists() && beside.join("file").exists());
        symlink(&beside, &top).unwrap();
        remove(&top).unwrap();
        assert!(!top.is_symlink() && beside.join("file").exists());
        assert_eq!(remove(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
