//! Folders and files as the users of a user namespace see them: ID-mapped copies of their mounts, at places of their own.
//!
//! Must not know: which container they are for.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::libc;
use nix::mount::{MntFlags, umount2};

use crate::sys::mount::{self, Change, IDMAP, RDONLY};

/// Copies that are there as long as this. What was mounted from them meanwhile stays.
#[derive(Debug)]
pub struct Mapped {
    dir: PathBuf,
    users: File,
    count: usize,
}

impl Mapped {
    /// No copy yet: they will be in `dir`, which is made, and mapped by the user namespace at a path.
    ///
    /// # Errors
    /// There is no such namespace, or there is something in the folder's place.
    pub fn by(namespace: &Path, dir: &Path) -> Result<Self> {
        let users = File::open(namespace).with_context(|| format!("cannot open {}", namespace.display()))?;
        if let Some(above) = dir.parent() {
            fs::create_dir_all(above).with_context(|| format!("cannot make {}", above.display()))?;
        }
        fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), users, count: 0 })
    }

    /// Shows `source`, with what is mounted below it but without mapping that; the new place. What is root's on the host
    /// is root's in the namespace. Kernels before 6.15 take only such a copy for an overlay's layer: one that is mounted.
    ///
    /// # Errors
    /// The file system cannot map owners.
    pub fn add(&mut self, source: &Path, read_only: bool) -> Result<PathBuf> {
        let at = self.dir.join(self.count.to_string());
        let copy = mount::copy(source, true).with_context(|| format!("cannot open {}", source.display()))?;
        let set = IDMAP | if read_only { RDONLY } else { 0 };
        let map = Change { set, users: u64::from(self.users.as_raw_fd().unsigned_abs()), ..Change::default() };
        mount::change(copy.as_fd(), false, map)
            .with_context(|| format!("the file system of {} cannot map owners", source.display()))?;
        let made = if source.is_dir() { fs::create_dir(&at) } else { File::create_new(&at).map(drop) };
        made.with_context(|| format!("cannot make {}", at.display()))?;
        self.count += 1;
        let target = File::options().read(true).custom_flags(libc::O_PATH).open(&at);
        let target = target.with_context(|| format!("cannot open {}", at.display()))?;
        mount::attach(copy.as_fd(), target.as_fd()).with_context(|| format!("cannot mount at {}", at.display()))?;
        Ok(at)
    }

    /// Takes away what a process left in such a folder that was killed; none is no error.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clear(dir: &Path) -> io::Result<()> {
        for place in fs::read_dir(dir).into_iter().flatten().flatten() {
            remove(&place.path())?;
        }
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // what stays, the next start clears
        let _ = Self::clear(&self.dir);
    }
}

/// Never removes what is in a folder: that is the source's.
fn remove(place: &Path) -> io::Result<()> {
    let _ = umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    if fs::symlink_metadata(place)?.is_dir() { fs::remove_dir(place) } else { fs::remove_file(place) }
}
