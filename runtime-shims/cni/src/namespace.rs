//! Doing something in another network namespace, on a thread that ends with it.
//!
//! Must not know: what is done there.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::error::{CniError, Code, Context, Result};

/// The kernel answers at once, unless something is very wrong.
const WITHIN: Duration = Duration::from_secs(30);

/// Opens a network namespace's file.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).context(Code::UnknownContainer, || format!("cannot open the namespace {}", path.display()))
}

/// Moves the calling thread, which must be one of [`run`]. Sockets that it opened before stay where they were opened.
pub fn enter(namespace: &File) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).context(Code::Network, || "cannot enter the network namespace".into())
}

/// Runs asynchronous work in a namespace; in the caller's own when there is none given. The work has a thread and a
/// tokio runtime of its own, because a namespace belongs to a thread.
pub fn run<T, F>(namespace: Option<&File>, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            if let Some(namespace) = namespace {
                enter(namespace)?;
            }
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let tokio = tokio.context(Code::Io, || "cannot start".into())?;
            let late = |_| CniError::new(Code::Network, format!("the kernel did not answer within {WITHIN:?}"));
            tokio.block_on(async { tokio::time::timeout(WITHIN, work()).await.map_err(late)? })
        });
        there.join().unwrap_or_else(|_| Err(CniError::new(Code::Network, "the work in the namespace broke down")))
    })
}
