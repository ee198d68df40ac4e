//! A mount namespace with next to nothing in it, from which containers' own are made: the kernel copies every mount of the
//! namespace that another is made from, and a node has several for each of its pods.
//!
//! Must not know: containers.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use crate::rootfs::{self, LinksOnTheWay, WhenMissing, reach_inside};
use crate::sys::mount::{self, Change, NODEV, NOEXEC, NOSUID, RDONLY};

/// What it has of the host's. A user namespace may make a proc or sysfs only where it sees one as whole.
const KEPT: [(&str, WhenMissing); 3] =
    [("/proc", WhenMissing::Folder), ("/sys", WhenMissing::Folder), ("/dev/null", WhenMissing::File)];

/// Makes one, which lives as long as the fd is open.
///
/// # Errors
/// No right to mount, or a root that is no mount's.
pub fn mounts() -> Result<OwnedFd> {
    // a thread has a namespace of its own as soon as it asks, and takes it along where nobody keeps it
    std::thread::spawn(make).join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread crashed")))
}

fn make() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    rootfs::isolate().context("cannot leave the host's mount propagation")?;
    let copy = |(path, kind): (&'static str, WhenMissing)| {
        let copy = mount::copy(Path::new(path), true).with_context(|| format!("cannot copy {path}"))?;
        Ok((path, kind, copy))
    };
    let kept = KEPT.into_iter().map(copy).collect::<Result<Vec<_>>>()?;
    let mode = [("mode".to_owned(), Some("755".to_owned()))];
    let root = mount::new("tmpfs", &mode, NOSUID | NODEV | NOEXEC).context("cannot make a tmpfs")?;
    rootfs::cover(root.as_fd()).context("cannot attach the tmpfs")?;
    for (path, kind, copy) in kept {
        let target = reach_inside(root.as_fd(), Path::new(path), kind, LinksOnTheWay::Refused)?;
        mount::attach(copy.as_fd(), target.as_fd()).with_context(|| format!("cannot attach {path}"))?;
    }
    mount::change(root.as_fd(), false, Change { set: RDONLY, ..Change::default() })?;
    rootfs::take(root.as_fd())?;
    Ok(File::open("/proc/thread-self/ns/mnt").context("cannot open the mount namespace")?.into())
}
