//! Hands every commit's events to every watcher, in revision order, without waiting for any.
//!
//! Must not know: where events are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, BoxStream, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::metrics::StoreMetrics;
use crate::{Batch, Error, Event, WatchEnd};

/// Commits a watcher may be behind before it is closed.
const QUEUE: usize = 512;

pub struct Hub {
    state: Mutex<State>,
    metrics: StoreMetrics,
}

struct State {
    published: u64,
    /// The writer is gone: nothing will be published any more.
    closed: bool,
    watchers: Vec<Watcher>,
}

struct Watcher {
    prefix: Box<str>,
    after: u64,
    queue: mpsc::Sender<Batch>,
    slow: Arc<AtomicBool>,
}

impl Hub {
    pub fn new(published: u64, metrics: StoreMetrics) -> Self {
        Self { state: Mutex::new(State { published, closed: false, watchers: Vec::new() }), metrics }
    }

    /// The newest revision that watchers have been handed.
    pub fn published(&self) -> u64 {
        self.state.lock().published
    }

    /// Joins: answers the revision after which this watcher gets events live, and these.
    pub fn join(&self, prefix: &str, after: u64) -> (u64, BoxStream<'static, Result<Batch, WatchEnd>>) {
        let (queue, batches) = mpsc::channel(QUEUE);
        let slow = Arc::new(AtomicBool::new(false));
        let mut state = self.state.lock();
        if !state.closed {
            let watcher = Watcher { prefix: prefix.into(), after, queue, slow: slow.clone() };
            state.watchers.push(watcher);
            self.metrics.watchers.set(state.watchers.len() as i64);
        }
        (state.published, live(batches, slow))
    }

    /// Called by the writer alone, with events in revision order, all newer than any before.
    pub fn publish(&self, events: Vec<Event>, revision: u64) {
        let batch = Batch { events: events.into(), revision };
        let mut state = self.state.lock();
        state.published = revision;
        let before = state.watchers.len();
        state.watchers.retain(|watcher| watcher.offer(&batch));
        if state.watchers.len() != before {
            self.metrics.watchers.set(state.watchers.len() as i64);
        }
    }

    /// Ends every watch once it has read what is queued.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.watchers.clear();
    }
}

impl Watcher {
    /// False once the watcher is gone or too slow.
    fn offer(&self, batch: &Batch) -> bool {
        let Some(batch) = self.wanted(batch) else {
            return !self.queue.is_closed();
        };
        match self.queue.try_send(batch) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.slow.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    fn wanted(&self, batch: &Batch) -> Option<Batch> {
        let wants = |event: &Event| event.revision() > self.after && event.key().starts_with(&*self.prefix);
        if batch.events.iter().all(wants) {
            return Some(batch.clone());
        }
        let events: Arc<[Event]> = batch.events.iter().filter(|event| wants(event)).cloned().collect();
        (!events.is_empty()).then_some(Batch { events, revision: batch.revision })
    }
}

fn live(batches: mpsc::Receiver<Batch>, slow: Arc<AtomicBool>) -> BoxStream<'static, Result<Batch, WatchEnd>> {
    stream::unfold(Some((batches, slow)), |open| async move {
        let (mut batches, slow) = open?;
        match batches.recv().await {
            Some(batch) => Some((Ok(batch), Some((batches, slow)))),
            None if slow.load(Ordering::Acquire) => Some((Err(WatchEnd::Slow), None)),
            None => Some((Err(Error::Closed.into()), None)),
        }
    })
    .boxed()
}
