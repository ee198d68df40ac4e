//! Members of a layer made real below a root: files, links, and whiteouts in the form overlayfs takes.
//!
//! A layer stands alone: a whiteout hides what lower layers have, never what this layer brings itself. Must not know:
//! compression, digests.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, makedev, mkdirat, mknodat};
use nix::unistd::{linkat, symlinkat};

use super::metadata::{describe, describe_name, set_opaque, set_time};
use super::root::{Root, is_whiteout, open_beneath, open_beneath_with, remove, status};
use super::tar::{Entry, Kind, stream_error};
use crate::error::{Context, Error, ErrorKind, Result};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other marks of AUFS, of no meaning to anybody else.
const MARK: &[u8] = b".wh..wh.";

pub(super) struct Target {
    root: Root,
    /// Times of folders, set when nothing changes in them any more.
    times: Vec<(Vec<u8>, (i64, u32))>,
    /// Bytes of their paths.
    remembered: usize,
}

/// What is remembered of folders, at most: honest layers have some hundred thousand short paths.
const MOST_REMEMBERED: usize = 128 << 20;

impl Target {
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self { root: Root::open(dir)?, times: Vec::new(), remembered: 0 })
    }

    /// Makes a member; `content` reads what it holds.
    pub fn apply(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let names = names(&entry.path)?;
        let Some((name, folder)) = names.split_last() else { return self.describe_root(entry) };
        if *name == OPAQUE {
            let folder = self.root.folder(folder)?;
            return set_opaque(&open_beneath(&folder, b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?);
        }
        if name.starts_with(MARK) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let folder = self.root.folder(folder)?;
            return white_out(&folder, hidden);
        }
        self.make(entry, folder, name, content)
    }

    fn make(&mut self, entry: &Entry, folder: &[&[u8]], name: &[u8], content: &mut impl Read) -> Result<()> {
        let parent = self.root.folder(folder)?;
        let existing = status(&parent, name)?;
        let keep = entry.kind == Kind::Directory && existing.as_ref().is_some_and(is_dir);
        if let Some(old) = existing.as_ref().filter(|_| !keep) {
            if entry.kind == Kind::HardLink && self.same_file(entry, old)? {
                return Ok(());
            }
            remove(&parent, name, is_dir(old))?;
            self.root.forget();
        }
        match entry.kind {
            Kind::File => make_file(&parent, name, entry, content),
            Kind::Directory => {
                let path = [folder, &[name]].concat().join(&b'/');
                self.remember(path, entry)?;
                let hid = existing.as_ref().is_some_and(is_whiteout);
                make_folder(&parent, name, entry, keep, hid)?;
                self.root.described(&status(&parent, name)?);
                Ok(())
            }
            Kind::SymbolicLink => {
                symlinkat(entry.link.as_slice(), &parent, name).map_err(unusable).context(|| "cannot make the link")?;
                describe_name(&parent, name, entry, true)
            }
            Kind::HardLink => self.link(entry, &parent, name),
            Kind::Fifo => make_node(&parent, name, entry, SFlag::S_IFIFO),
            Kind::CharacterDevice if is_harmless(entry.device) => make_node(&parent, name, entry, SFlag::S_IFCHR),
            // left out: a container gets its devices from the runtime, and no image a host's disk
            Kind::CharacterDevice | Kind::BlockDevice => Ok(()),
        }
    }

    /// A link to what this layer has; the target itself is not followed.
    fn link(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let (folder, target) = self.link_target(entry)?;
        linkat(&folder, target.as_slice(), parent, name, AtFlags::empty()).map_err(unusable).context(|| {
            let target = String::from_utf8_lossy(&entry.link).into_owned();
            format!("cannot link to {target:?}")
        })
    }

    /// Archives may name a file as a link to itself.
    fn same_file(&mut self, entry: &Entry, existing: &FileStat) -> Result<bool> {
        let (folder, target) = self.link_target(entry)?;
        let found = status(&folder, &target)?;
        Ok(found.is_some_and(|it| (it.st_dev, it.st_ino) == (existing.st_dev, existing.st_ino)))
    }

    fn link_target(&mut self, entry: &Entry) -> Result<(OwnedFd, Vec<u8>)> {
        let target = names(&entry.link)?;
        let (name, folder) = target.split_last().ok_or_else(|| corrupt("hard link to the root"))?;
        let folder = self.root.open_folder(&folder.join(&b'/')).map_err(unusable)?;
        Ok((folder, name.to_vec()))
    }

    fn describe_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(corrupt("the root is not a folder"));
        }
        self.remember(Vec::new(), entry)?;
        describe(self.root.dir(), entry)
    }

    fn remember(&mut self, path: Vec<u8>, entry: &Entry) -> Result<()> {
        self.remembered += path.len() + size_of::<(Vec<u8>, (i64, u32))>();
        if self.remembered > MOST_REMEMBERED {
            return Err(Error::new(ErrorKind::Refused, "layer has too many folders of too long names"));
        }
        self.times.push((path, entry.mtime));
        Ok(())
    }

    /// Sets what making later members would have changed. The folders that no member describes.
    pub fn finish(self) -> Result<BTreeSet<PathBuf>> {
        for (path, mtime) in self.times.iter().rev() {
            // it may have been replaced since; what is there then has its own time
            let Ok(folder) = self.root.open_folder(path) else { continue };
            let folder = open_beneath(&folder, b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            set_time(&folder, *mtime)?;
        }
        Ok(self.root.implied())
    }
}

/// The parts of a member's path. Absolute ones start at the root too; `..` no honest layer has.
fn names(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(Error::new(ErrorKind::Refused, "path leads out of the layer"));
    }
    if path.contains(&0) {
        return Err(corrupt("name with a zero byte"));
    }
    Ok(parts)
}

/// Hides a name of lower layers. What this layer has at the name stays; a folder hides what it would be merged with.
fn white_out(folder: &OwnedFd, name: &[u8]) -> Result<()> {
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Error::new(ErrorKind::Refused, "whiteout of no name"));
    }
    match status(folder, name)? {
        Some(found) if is_dir(&found) => set_opaque(&open_beneath(folder, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?),
        Some(_) => Ok(()),
        None => mknodat(folder, name, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).context(|| "cannot hide it"),
    }
}

fn make_file(parent: &OwnedFd, name: &[u8], entry: &Entry, content: &mut impl Read) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut file = File::from(open_beneath_with(parent, name, flags, Mode::from_bits_truncate(0o600))?);
    copy(content, &mut file, entry.size)?;
    let file = OwnedFd::from(file);
    describe(&file, entry)?;
    set_time(&file, entry.mtime)
}

fn copy(content: &mut impl Read, file: &mut File, size: u64) -> Result<()> {
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).clamp(1, 256 << 10)];
    let mut left = size;
    while left > 0 {
        match content.read(&mut buffer) {
            Ok(0) => return Err(corrupt("archive ends in a member")),
            Ok(read) => {
                io::Write::write_all(file, &buffer[..read]).context(|| "cannot write it")?;
                left = left.saturating_sub(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(stream_error(error)),
        }
    }
    Ok(())
}

fn make_folder(parent: &OwnedFd, name: &[u8], entry: &Entry, exists: bool, opaque: bool) -> Result<()> {
    if !exists {
        mkdirat(parent, name, Mode::from_bits_truncate(0o700)).context(|| "cannot make the folder")?;
    }
    let folder = open_beneath(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    if opaque {
        set_opaque(&folder)?;
    }
    describe(&folder, entry)
}

fn make_node(parent: &OwnedFd, name: &[u8], entry: &Entry, kind: SFlag) -> Result<()> {
    let device = makedev(entry.device.0.into(), entry.device.1.into());
    mknodat(parent, name, kind, Mode::empty(), device).context(|| "cannot make the node")?;
    describe_name(parent, name, entry, false)
}

fn is_dir(status: &FileStat) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// null, zero, full, random, urandom, tty: what every container has anyway.
fn is_harmless((major, minor): (u32, u32)) -> bool {
    matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, 0))
}

fn unusable(errno: Errno) -> Error {
    match errno {
        Errno::ENOENT => corrupt("this layer has no such file"),
        Errno::ENOTDIR | Errno::EPERM | Errno::EXDEV | Errno::ELOOP | Errno::ENAMETOOLONG | Errno::EMLINK => {
            corrupt(errno.desc())
        }
        other => Error::io(other.into()),
    }
}

fn corrupt(text: &str) -> Error {
    Error::new(ErrorKind::Corrupt, text.to_owned())
}
