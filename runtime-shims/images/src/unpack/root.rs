//! A folder as a world of its own: every path resolves inside it, whatever links say (openat2).
//!
//! Must not know: tar.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstatat, major, minor, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use pintle_daemon::inside;

use super::metadata::set_opaque;
use crate::error::{Context, Error, ErrorKind, Result};

/// Links that are followed to make a missing folder, at most.
const MOST_LINKS: u32 = 40;

pub(super) struct Root {
    dir: OwnedFd,
    /// The folder asked for last: members of an archive come folder by folder.
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
    /// Folders made for what is in them, by their inodes.
    implied: HashMap<u64, PathBuf>,
}

impl Root {
    pub fn open(dir: &Path) -> Result<Self> {
        let opened = File::open(dir).context(|| format!("cannot open {}", dir.display()))?;
        Ok(Self { dir: opened.into(), last: None, implied: HashMap::new() })
    }

    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// What was found before may have been replaced.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// A member describes this folder.
    pub fn described(&mut self, folder: &Option<FileStat>) {
        folder.iter().for_each(|it| drop(self.implied.remove(&it.st_ino)));
    }

    /// The folders that were made and that no member describes.
    pub fn implied(self) -> BTreeSet<PathBuf> {
        self.implied.into_values().collect()
    }

    /// The folder of these names below the root; where parts of it are missing, they are made.
    pub fn folder(&mut self, names: &[&[u8]]) -> Result<Arc<OwnedFd>> {
        let path = names.join(&b'/');
        if let Some((_, fd)) = self.last.as_ref().filter(|(known, _)| *known == path) {
            return Ok(fd.clone());
        }
        let fd = Arc::new(match self.open_folder(&path) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {
                let mut links = MOST_LINKS;
                self.make_folder(Path::new(OsStr::from_bytes(&path)), &mut links)?
            }
            opened => opened.map_err(refused)?,
        });
        self.last = Some((path, fd.clone()));
        Ok(fd)
    }

    /// An existing folder; links in the path are followed as if the root were `/`.
    pub fn open_folder(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        inside::open(&self.dir, path, how)
    }

    /// Makes a folder part by part. A link to nothing is followed: its target is made, inside the root.
    fn make_folder(&mut self, path: &Path, links: &mut u32) -> Result<OwnedFd> {
        let mut done = PathBuf::new();
        let mut fd = self.open_folder(b"").map_err(refused)?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let parent = done.clone();
            done.push(name);
            fd = match open_in(&fd, name) {
                Ok(opened) => opened,
                Err(Errno::ENOENT) => self.make_part(&fd, &parent, name, links)?,
                // a link, which the root is to be known for
                Err(_) => match self.open_folder(done.as_os_str().as_bytes()) {
                    Err(Errno::ENOENT | Errno::ENOTDIR) => self.make_part(&fd, &parent, name, links)?,
                    opened => opened.map_err(refused)?,
                },
            };
        }
        Ok(fd)
    }

    fn make_part(&mut self, parent: &OwnedFd, parent_path: &Path, name: &OsStr, links: &mut u32) -> Result<OwnedFd> {
        let existing = status(parent, name.as_bytes())?;
        let hidden = existing.as_ref().is_some_and(is_whiteout);
        if existing.is_some() && !hidden {
            let target: OsString = readlinkat(parent, name).map_err(refused)?;
            *links = links.checked_sub(1).ok_or_else(|| refused(Errno::ELOOP))?;
            return self.make_folder(&inside(parent_path, Path::new(&target)), links);
        }
        if hidden {
            remove(parent, name.as_bytes(), false)?;
        }
        mkdirat(parent, name, Mode::from_bits_truncate(0o755)).context(|| "cannot make a folder")?;
        let made = open_beneath(parent, name.as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        if hidden {
            set_opaque(&made)?;
        } else if let Some(status) = status(parent, name.as_bytes())? {
            self.implied.insert(status.st_ino, parent_path.join(name));
        }
        Ok(made)
    }
}

/// A folder in a folder, no link.
fn open_in(folder: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    inside::open(folder, name, how)
}

/// Where a link in a folder leads, as names below the root.
fn inside(folder: &Path, target: &Path) -> PathBuf {
    let mut path = if target.is_absolute() { PathBuf::new() } else { folder.to_owned() };
    for part in target.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            _ => {}
        }
    }
    path
}

fn refused(errno: Errno) -> Error {
    let kind = match errno {
        Errno::ENOTDIR | Errno::EINVAL => ErrorKind::Corrupt,
        Errno::ELOOP | Errno::EXDEV | Errno::ENAMETOOLONG => ErrorKind::Refused,
        other => return Error::io(other.into()),
    };
    Error::new(kind, format!("its folder cannot be resolved: {}", errno.desc()))
}

/// Opens a name in a folder, never through a link.
pub(super) fn open_beneath(folder: &OwnedFd, name: &[u8], flags: OFlag) -> Result<OwnedFd> {
    open_beneath_with(folder, name, flags, Mode::empty())
}

pub(super) fn open_beneath_with(folder: &OwnedFd, name: &[u8], flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::openat(folder, name, flags, mode).context(|| "cannot open it")
}

/// A name that hides what lower layers have, in overlayfs' form.
pub(super) fn is_whiteout(status: &FileStat) -> bool {
    let device = (major(status.st_rdev), minor(status.st_rdev));
    status.st_mode & libc::S_IFMT == libc::S_IFCHR && device == (0, 0)
}

/// What is at a name in a folder, links not followed.
pub(super) fn status(folder: &OwnedFd, name: &[u8]) -> Result<Option<FileStat>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        found => found.map(Some).context(|| "cannot look at it"),
    }
}

/// Removes a name in a folder with everything below it.
pub(super) fn remove(folder: &OwnedFd, name: &[u8], is_dir: bool) -> Result<()> {
    if !is_dir {
        return unlinkat(folder, name, UnlinkatFlags::NoRemoveDir).context(|| "cannot replace it");
    }
    pintle_daemon::tree::remove(&beneath(folder, name)).context(|| "cannot replace a folder")
}

/// A path to a name in an open folder, for calls that take no descriptor. The last part is not resolved by this.
pub(super) fn beneath(folder: &OwnedFd, name: &[u8]) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_fd().as_raw_fd().to_string()).join(OsStr::from_bytes(name))
}
