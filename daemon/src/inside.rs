//! Opening what lies below a folder that others write to, whatever links say.
//!
//! Must not know: whose folder it is.

use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OpenHow, openat2};

/// As often as runc's library tries.
const TRIES: u32 = 128;

/// Opens a path below `root`, as `how` resolves it. A rename or mount anywhere on the machine can leave the kernel unsure
/// where `..` led; then it is asked again, as it wants to be.
///
/// # Errors
/// What the kernel says; EAGAIN where it stays unsure.
pub fn open(root: impl AsFd, path: &(impl NixPath + ?Sized), how: OpenHow) -> nix::Result<OwnedFd> {
    let mut more = 1..TRIES;
    loop {
        match openat2(&root, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) if more.next().is_some() => {}
            opened => return opened,
        }
    }
}
