//! Advisory locks on files and folders that other processes may rename or remove meanwhile.
//!
//! Must not know: what is locked.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A lock; dropping it, or the death of the process, ends it.
pub(crate) type Lock = Flock<File>;

/// Locks what `open` opens at `path`, and makes sure that `path` still leads to it afterwards.
pub(crate) fn hold(path: &Path, open: impl Fn() -> io::Result<File>) -> io::Result<Lock> {
    loop {
        let lock = Flock::lock(open()?, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
        if is_at(&lock, path) {
            return Ok(lock);
        }
    }
}

/// The lock, unless somebody holds it or nothing is there.
pub(crate) fn try_hold(path: &Path) -> io::Result<Option<Lock>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(is_at(&lock, path).then_some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().ok().zip(path.symlink_metadata().ok()).is_some_and(|(a, b)| same(a, b))
}
