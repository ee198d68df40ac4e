//! What a watcher of a store holds in hand.
//!
//! Must not know: where the events come from.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;

use crate::{Error, Event};

/// Events that became visible together, in revision order.
#[derive(Debug, Clone)]
pub struct Batch {
    pub events: Arc<[Event]>,
    /// Every event up to this revision has been delivered now.
    pub revision: u64,
}

/// Why a watch ended. Whoever wants to go on watches again after the last revision seen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WatchEnd {
    #[error("the watcher was too slow and was closed")]
    Slow,
    #[error(transparent)]
    Store(#[from] Error),
}

/// A running watch; dropping it ends it.
pub struct Watch(BoxStream<'static, Result<Batch, WatchEnd>>);

impl Watch {
    pub fn new(batches: BoxStream<'static, Result<Batch, WatchEnd>>) -> Self {
        Self(batches)
    }

    /// The next events. After an error there is nothing more to come.
    pub async fn next(&mut self) -> Result<Batch, WatchEnd> {
        self.0.next().await.unwrap_or(Err(WatchEnd::Store(Error::Closed)))
    }
}
