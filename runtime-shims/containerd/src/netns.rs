//! Network namespaces of sandboxes: made in a thread of their own, pinned as a mount, gone with it.
//!
//! Must not know: what is attached to them.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Makes a network namespace and pins it at `path`.
pub fn make(path: &Path) -> anyhow::Result<()> {
    File::create(path).with_context(|| format!("making {}", path.display()))?;
    let place = path.to_path_buf();
    // A thread has a network namespace of its own; it ends with its work.
    let made = std::thread::spawn(move || -> anyhow::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        pintle_cni::loopback_up().context("setting the loopback link up")?;
        let own = "/proc/thread-self/ns/net";
        mount(Some(own), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("pinning a network namespace at {}", place.display()))
    });
    let outcome = made.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that makes a namespace broke")));
    if outcome.is_err() {
        let _ = fs::remove_file(path);
    }
    outcome
}

/// Does something in a network namespace, in a thread of its own.
pub fn inside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let namespace = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let done = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
        work()
    });
    done.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread in a network namespace broke")))
}

/// Unpins it; the kernel ends it when its last process is gone.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    unmount(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Unmounts what is mounted there, if anything is.
pub fn unmount(path: &Path) -> anyhow::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmounting {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_on_the_loopback_of_a_new_network_is_reached() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netns");
        make(&path).unwrap();
        let reached = inside(&path, || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            Ok(std::net::TcpStream::connect(listener.local_addr()?).map(drop)?)
        });
        remove(&path).unwrap();
        reached.unwrap();
    }
}
