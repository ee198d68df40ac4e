//! The device nodes and links of a container's /dev.
//!
//! Must not know: which of them its processes may open (the cgroup says).

use std::fs::{self, Metadata};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::descend::{Links, Missing, reach, split};
use crate::sys::mount;

/// What every container has: path, major, minor.
const DEFAULT: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links of /dev, and what they lead to.
const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Copies of the host's nodes, for a container that cannot make its own.
pub fn copies(spec: &Spec) -> Result<Vec<(PathBuf, OwnedFd)>> {
    let default = DEFAULT.iter().map(|(path, ..)| Ok((PathBuf::from(path), copy(Path::new(path))?)));
    let asked = devices(spec).iter().map(|device| Ok((device.path().clone(), copy(&on_host(device)?)?)));
    default.chain(asked).collect()
}

fn copy(path: &Path) -> Result<OwnedFd> {
    let failed = || format!("cannot open the device {}", path.display());
    let kind = fs::metadata(path).with_context(failed)?.file_type();
    ensure!(kind.is_char_device() || kind.is_block_device(), "{} is no device", path.display());
    mount::copy(path, false).with_context(failed)
}

/// Where the host has a device: at the path that the container gets it at, or elsewhere below /dev.
fn on_host(device: &LinuxDevice) -> Result<PathBuf> {
    let node = node(device)?;
    let is_it = |found: &Metadata| {
        let kind = SFlag::from_bits_truncate(found.mode()) & SFlag::S_IFMT;
        (kind, found.rdev()) == (node.kind, makedev(node.major, node.minor))
    };
    if fs::metadata(device.path()).is_ok_and(|found| is_it(&found)) {
        return Ok(device.path().clone());
    }
    let mut folders = vec![PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if is_it(&found) {
                return Ok(entry.path());
            }
            folders.extend(found.is_dir().then(|| entry.path()));
        }
    }
    bail!("the host has no node of the device {}", device.path().display())
}

fn devices(spec: &Spec) -> &[LinuxDevice] {
    spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default()
}

/// Makes the nodes and links below `root`; `copies` stand in where they are given.
pub fn make(root: BorrowedFd<'_>, spec: &Spec, copies: &[(PathBuf, OwnedFd)]) -> Result<()> {
    if copies.is_empty() {
        for (path, major, minor) in DEFAULT {
            let node = Node { kind: SFlag::S_IFCHR, major, minor, mode: 0o666, owner: (0, 0) };
            node.make(root, Path::new(path))?;
        }
        devices(spec).iter().try_for_each(|device| node(device)?.make(root, device.path()))?;
    }
    for (path, copy) in copies {
        let target = reach(root, path, Missing::File, Links::Inside)?;
        mount::attach(copy.as_fd(), target.as_fd())
            .with_context(|| format!("cannot mount the device {}", path.display()))?;
    }
    LINKS.iter().try_for_each(|(path, target)| link(root, Path::new(path), target))
}

struct Node {
    kind: SFlag,
    major: u64,
    minor: u64,
    mode: u32,
    owner: (u32, u32),
}

fn node(device: &LinuxDevice) -> Result<Node> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => bail!("{}: a device has a kind: c, b or p", device.path().display()),
    };
    let number = |number: i64| u64::try_from(number).with_context(|| format!("{number} is no device number"));
    let (major, minor) = match kind {
        SFlag::S_IFIFO => (0, 0),
        _ => (number(device.major())?, number(device.minor())?),
    };
    let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    Ok(Node { kind, major, minor, mode: device.file_mode().unwrap_or(0o666) & 0o7777, owner })
}

impl Node {
    fn make(&self, root: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let (folder, name) = split(path)?;
        let folder = reach(root, folder, Missing::Folder, Links::Inside)?;
        let (mode, device) = (Mode::from_bits_truncate(self.mode), makedev(self.major, self.minor));
        let failed = || format!("cannot make the device {}", path.display());
        match mknodat(folder.as_fd(), name, self.kind, mode, device) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let there = fstatat(folder.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW).with_context(failed)?;
                let same =
                    there.st_rdev == device && SFlag::from_bits_truncate(there.st_mode) & SFlag::S_IFMT == self.kind;
                ensure!(same, "{} is there and is another file", path.display());
                return Ok(());
            }
            Err(error) => return Err(error).with_context(failed),
        }
        // what the umask took
        fchmodat(folder.as_fd(), name, mode, FchmodatFlags::FollowSymlink).with_context(failed)?;
        let (user, group) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        fchownat(folder.as_fd(), name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW).with_context(failed)
    }
}

fn link(root: BorrowedFd<'_>, path: &Path, target: &str) -> Result<()> {
    let (folder, name) = split(path)?;
    let folder = reach(root, folder, Missing::Folder, Links::Inside)?;
    match symlinkat(target, folder.as_fd(), name) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make the link {}", path.display())),
    }
}
