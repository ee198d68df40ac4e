//! Doing something in another network namespace, on a thread that ends with it.
//!
//! Must not know: what is done there.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::error::{CniError, Code, Context, Result};

/// Opens a network namespace's file.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).context(Code::UnknownContainer, || format!("cannot open the namespace {}", path.display()))
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
                setns(namespace, CloneFlags::CLONE_NEWNET)
                    .context(Code::Network, || "cannot enter the network namespace".into())?;
            }
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let tokio = tokio.context(Code::Io, || "cannot start".into())?;
            tokio.block_on(work())
        });
        there.join().unwrap_or_else(|_| Err(CniError::new(Code::Network, "the work in the namespace broke down")))
    })
}
