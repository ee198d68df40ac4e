//! subPath: a place below a volume, opened so that no symbolic link leads out of it, and pinned by a bind mount.
//! Source: upstream's subpath package; here the kernel's openat2 keeps the path beneath the volume.
//!
//! Must not know: what the volume is.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use pintle_daemon::inside;

/// Binds `volume/sub_path` to `target`, making missing directories, and hands back the place to mount.
///
/// # Errors
/// The path leaves the volume, or the file system refuses.
pub fn bind(volume: &Path, sub_path: &str, target: &Path) -> anyhow::Result<PathBuf> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("opening {}", volume.display()))?;
    let found = beneath(&root, sub_path).with_context(|| format!("failed to prepare subPath {sub_path:?}"))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    if is_mounted(target)? {
        if is_same(&source, target) {
            return Ok(target.to_path_buf());
        }
        // the volume shows another file there by now
        umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).context("unmounting the old subPath")?;
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::metadata(&source)?.is_dir() {
        fs::create_dir_all(target)?
    } else {
        fs::write(target, b"")?
    }
    mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("binding {}", target.display()))?;
    Ok(target.to_path_buf())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    identity(one).is_some_and(|found| Some(found) == identity(other))
}

fn is_mounted(target: &Path) -> anyhow::Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|place| Path::new(place) == target))
}

fn beneath(root: &OwnedFd, sub_path: &str) -> anyhow::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match inside::open(root, Path::new(sub_path), how) {
        Ok(found) => Ok(found),
        Err(nix::Error::ENOENT) => {
            make_directories(root, sub_path)?;
            Ok(inside::open(root, Path::new(sub_path), how)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes each missing directory of the path, one component at a time, each below the last.
fn make_directories(root: &OwnedFd, sub_path: &str) -> anyhow::Result<()> {
    let mut done = PathBuf::new();
    for part in Path::new(sub_path).components() {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY)
            .resolve(ResolveFlag::RESOLVE_BENEATH);
        let parent = if done.as_os_str().is_empty() { root.try_clone()? } else { inside::open(root, &done, how)? };
        match mkdirat(&parent, Path::new(&part), Mode::from_bits_truncate(0o750)) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        done.push(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_out_are_refused_and_directories_are_made() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        let root = open(dir.path(), OFlag::O_PATH, Mode::empty()).unwrap();
        assert!(beneath(&root, "out/passwd").is_err());
        assert!(beneath(&root, "../x").is_err());
        assert!(beneath(&root, "a/b").is_ok());
        assert!(dir.path().join("a/b").is_dir());
    }
}
