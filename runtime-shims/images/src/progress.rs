//! What a pull or an import tells whoever watches it.
//!
//! Must not know: how it is shown.

use std::fmt;
use std::sync::Arc;

use crate::digest::Digest;

/// A step of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The image is known: its manifest, and its layers' blobs with their bytes, lowest first.
    Resolved { manifest: Digest, layers: Vec<(Digest, u64)> },
    /// So many bytes of a blob are there; a resumed one does not start at 0.
    Fetched { blob: Digest, bytes: u64 },
    /// A download failed and is tried again.
    Retrying { what: String, error: String },
    /// A layer is there, downloaded and unpacked, or was already.
    Ready { blob: Digest },
}

/// Where events go. Called from the middle of the work: it must not block.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(Event) + Send + Sync>>);

impl Progress {
    pub fn to(watcher: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watcher)))
    }

    /// Nobody watches.
    pub fn none() -> Self {
        Self(None)
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(watcher) = &self.0 {
            watcher(event());
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
