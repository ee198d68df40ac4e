//! From a container's root down to a path, without ever leaving the root.
//!
//! Every step opens one name in a folder that was reached the same way, and follows no link: a symbolic link's text is
//! walked like the path itself, an absolute one from the container's root. So neither links nor `..` in an image, nor
//! a process that changes folders meanwhile, lead outside.
//! Must not know: what the path is for.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// What becomes of names that are not there. Folders on the way are made for both kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The answer is None.
    Tell,
    Folder,
    File,
}

/// Whether links may be on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are followed inside the root.
    Inside,
    /// They are an error: what is mounted there must be found there by everybody.
    Refused,
}

/// An O_PATH fd of `path` inside `root`; None only for `Missing::Tell`.
pub fn descend(root: BorrowedFd<'_>, path: &Path, missing: Missing, links: Links) -> Result<Option<OwnedFd>> {
    walk(root, path, missing, links).with_context(|| format!("{} in the container's root", path.display()))
}

/// As `descend`, for what is made if it is missing.
pub fn reach(root: BorrowedFd<'_>, path: &Path, missing: Missing, links: Links) -> Result<OwnedFd> {
    descend(root, path, missing, links)?.with_context(|| format!("{} is not there", path.display()))
}

fn walk(root: BorrowedFd<'_>, path: &Path, missing: Missing, links: Links) -> Result<Option<OwnedFd>> {
    let mut left = names(&clean(path));
    // the folders from the root down to here: `..` in a link goes back along them, and never above
    let mut way: Vec<OwnedFd> = vec![root.try_clone_to_owned().context("no fd left")?];
    let mut budget = LINKS;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let Some(here) = way.last() else { bail!("no way") };
        let last = left.is_empty();
        let Some(next) = step(here.as_fd(), &name, missing, last)? else { return Ok(None) };
        if is(&next, SFlag::S_IFLNK)? {
            ensure!(links == Links::Inside, "{} is a symbolic link", name.display());
            budget = budget.checked_sub(1).context("too many symbolic links")?;
            let target = readlinkat(next.as_fd(), "").context("a link that cannot be read")?;
            if Path::new(&target).is_absolute() {
                way.truncate(1);
            }
            names(Path::new(&target)).into_iter().rev().for_each(|name| left.push_front(name));
            continue;
        }
        ensure!(last || is(&next, SFlag::S_IFDIR)?, "{} is no folder", name.display());
        way.push(next);
    }
    Ok(way.pop())
}

/// Without `..`, which in a path of a specification goes no higher than the root.
fn clean(path: &Path) -> std::path::PathBuf {
    let mut clean = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// One name: opened, or made and opened.
fn step(here: BorrowedFd<'_>, name: &OsStr, missing: Missing, last: bool) -> Result<Option<OwnedFd>> {
    let open = || openat(here, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    let failed = || format!("cannot open {}", name.display());
    match open() {
        Ok(fd) => return Ok(Some(fd)),
        Err(Errno::ENOENT) if missing == Missing::Tell => return Ok(None),
        Err(Errno::ENOENT) => {}
        Err(error) => return Err(error).with_context(failed),
    }
    let made = if last && missing == Missing::File {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(here, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
    } else {
        mkdirat(here, name, Mode::from_bits_truncate(0o755))
    };
    match made {
        Ok(()) | Err(Errno::EEXIST) => open().map(Some).with_context(failed),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", name.display())),
    }
}

/// Whether an fd is of a kind of file.
pub fn is(fd: &OwnedFd, kind: SFlag) -> Result<bool> {
    let mode = fstat(fd.as_fd()).context("cannot stat")?.st_mode;
    Ok(SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == kind)
}

/// Whether an fd needs a symbolic-link-free file or folder of the same kind below it to be mounted on.
pub fn kind_to_make(source: BorrowedFd<'_>) -> Result<Missing> {
    let mode = fstat(source).context("cannot stat what is to be mounted")?.st_mode;
    let folder = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
    Ok(if folder { Missing::Folder } else { Missing::File })
}

/// The folder and the name of a path whose last part must not be followed.
pub fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    path.parent().zip(path.file_name()).with_context(|| format!("{} names no file", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        let root = File::open(dir.path().join("root")).unwrap();
        (dir, root)
    }

    fn inode(fd: &OwnedFd) -> u64 {
        fstat(fd.as_fd()).unwrap().st_ino
    }

    #[test]
    fn links_and_parents_stay_inside() {
        let (dir, root) = root();
        let inside = dir.path().join("root");
        symlink("/", inside.join("up")).unwrap();
        symlink("../../../../etc", inside.join("far")).unwrap();
        for path in ["/etc", "/up/etc", "/far", "/../../etc", "/up/up/far", "/etc/../../etc"] {
            let fd = reach(root.as_fd(), Path::new(path), Missing::Folder, Links::Inside).unwrap();
            assert_eq!(inode(&fd), fs::metadata(inside.join("etc")).unwrap().ino(), "{path}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made beside the root");
    }

    #[test]
    fn a_dangling_link_is_made_where_it_points_to_inside() {
        let (dir, root) = root();
        symlink("/run", dir.path().join("root/var")).unwrap();
        reach(root.as_fd(), Path::new("/var/secrets/x"), Missing::File, Links::Inside).unwrap();
        assert!(dir.path().join("root/run/secrets/x").is_file());
    }

    #[test]
    fn a_loop_and_a_refused_link_are_errors() {
        let (dir, root) = root();
        symlink("loop", dir.path().join("root/loop")).unwrap();
        symlink("etc", dir.path().join("root/proc")).unwrap();
        let fd = root.as_fd();
        let error = descend(fd, Path::new("/loop"), Missing::Tell, Links::Inside).unwrap_err();
        assert!(format!("{error:#}").contains("too many symbolic links"));
        let error = reach(fd, Path::new("/proc"), Missing::Folder, Links::Refused).unwrap_err();
        assert!(format!("{error:#}").contains("proc is a symbolic link"));
        assert!(descend(fd, Path::new("/none/x"), Missing::Tell, Links::Inside).unwrap().is_none());
    }
}
