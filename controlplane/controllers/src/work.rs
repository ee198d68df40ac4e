//! The work every controller shares: a queue of keys without duplicates, and the loop that syncs them. A key is never
//! synced twice at once; a key added while it is synced is synced again; a failed one comes back later and later.
//!
//! Must not know: what a key stands for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use indexmap::IndexSet;
use parking_lot::Mutex;
use pintle_client::error::chain;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::QueueMetrics;

/// Delays after failures, as upstream's default rate limiter for one key: 5 ms, doubled, up to 1000 s.
const FIRST_DELAY: Duration = Duration::from_millis(5);
const LAST_DELAY: Duration = Duration::from_secs(1000);
/// A sync that takes longer is given up and tried again.
const SYNC_LIMIT: Duration = Duration::from_secs(120);

/// What a queue's keys need.
pub trait Key: Clone + Eq + Hash + Ord + Display + Debug + Send + Sync + 'static {}
impl<K: Clone + Eq + Hash + Ord + Display + Debug + Send + Sync + 'static> Key for K {}

/// What became of a sync.
pub type Outcome = anyhow::Result<Option<Duration>>;

/// Keys to sync. Cloning shares it. It holds every key at most three times: ready, delayed and running.
pub struct Queue<K> {
    state: Arc<Mutex<State<K>>>,
    changed: Arc<Notify>,
    name: &'static str,
    metrics: QueueMetrics,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            changed: self.changed.clone(),
            name: self.name,
            metrics: self.metrics.clone(),
        }
    }
}

struct State<K> {
    ready: IndexSet<K>,
    delayed: BTreeMap<(Instant, K), ()>,
    due: HashMap<K, Instant>,
    running: HashSet<K>,
    failures: HashMap<K, u32>,
}

impl<K: Key> Queue<K> {
    /// `name` appears in logs and as the label of the workqueue metrics.
    pub fn new(name: &'static str, metrics: QueueMetrics) -> Self {
        let state = State {
            ready: IndexSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            running: HashSet::new(),
            failures: HashMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()), name, metrics }
    }

    pub fn add(&self, key: K) {
        if self.state.lock().ready.insert(key) {
            self.metrics.added(self.name);
            self.changed.notify_one();
        }
    }

    /// Adds the key in a while; an earlier time that is already set stays.
    pub fn add_after(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        if state.due.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        if let Some(due) = state.due.insert(key.clone(), at) {
            state.delayed.remove(&(due, key.clone()));
        }
        state.delayed.insert((at, key), ());
        drop(state);
        self.changed.notify_one();
    }

    /// Syncs keys until `cancel`, `workers` at a time.
    pub async fn run<S, F>(&self, workers: usize, cancel: CancellationToken, sync: S)
    where
        S: Fn(K) -> F,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut running: JoinSet<(K, Outcome)> = JoinSet::new();
        while !cancel.is_cancelled() {
            while running.len() < workers
                && let Some(key) = self.take()
            {
                let work = sync(key.clone());
                running.spawn(async move { (key, guarded(work).await) });
            }
            let due = self.next_due();
            tokio::select! {
                () = cancel.cancelled() => {}
                Some(done) = running.join_next() => self.finished(done),
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// The next key that may run now.
    fn take(&self) -> Option<K> {
        let mut state = self.state.lock();
        let now = Instant::now();
        while state.delayed.first_key_value().is_some_and(|((at, _), ())| *at <= now)
            && let Some(((_, key), ())) = state.delayed.pop_first()
        {
            state.due.remove(&key);
            state.ready.insert(key);
        }
        let index = state.ready.iter().position(|key| !state.running.contains(key))?;
        let key = state.ready.shift_remove_index(index)?;
        state.running.insert(key.clone());
        self.metrics.depth(self.name, state.ready.len());
        Some(key)
    }

    fn next_due(&self) -> Instant {
        let state = self.state.lock();
        let first = state.delayed.first_key_value().map(|((at, _), ())| *at);
        first.unwrap_or_else(|| Instant::now() + LAST_DELAY)
    }

    fn finished(&self, done: Result<(K, Outcome), tokio::task::JoinError>) {
        // panics are caught inside, and nothing aborts a sync but the end of all
        let Ok((key, outcome)) = done else { return };
        self.state.lock().running.remove(&key);
        match outcome {
            Ok(again) => {
                self.state.lock().failures.remove(&key);
                if let Some(delay) = again {
                    self.add_after(key, delay);
                }
            }
            Err(error) => self.failed(key, &error),
        }
    }

    fn failed(&self, key: K, error: &anyhow::Error) {
        let delay = self.next_delay(&key);
        if crate::api::is_conflict(error) {
            tracing::debug!(queue = self.name, %key, error = chain(error.as_ref()), "sync met a newer object");
        } else {
            tracing::warn!(queue = self.name, %key, error = chain(error.as_ref()), "sync failed");
        }
        self.metrics.retried(self.name);
        self.add_after(key, delay);
    }

    fn next_delay(&self, key: &K) -> Duration {
        let mut state = self.state.lock();
        let failures = state.failures.entry(key.clone()).or_default();
        *failures += 1;
        FIRST_DELAY.saturating_mul(1 << (*failures - 1).min(20)).min(LAST_DELAY)
    }
}

/// A sync that takes too long or panics has failed like any other.
async fn guarded(work: impl Future<Output = Outcome>) -> Outcome {
    match timeout(SYNC_LIMIT, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(anyhow::anyhow!("the sync panicked")),
        Err(_) => Err(anyhow::anyhow!("gave up after {} s", SYNC_LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    fn queue() -> Queue<String> {
        Queue::new("test", QueueMetrics::default())
    }

    #[tokio::test]
    async fn a_key_added_many_times_while_it_runs_is_synced_once_more_and_never_twice_at_once() {
        let (queue, cancel) = (queue(), CancellationToken::new());
        let (runs, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        queue.add("a".into());
        queue.add("a".into());
        let (again, stop) = (queue.clone(), cancel.clone());
        let counters = (runs.clone(), at_once.clone());
        queue
            .run(4, cancel, move |key| {
                let ((runs, at_once), again, stop) = (counters.clone(), again.clone(), stop.clone());
                async move {
                    assert_eq!(at_once.fetch_add(1, SeqCst), 0);
                    tokio::task::yield_now().await;
                    at_once.fetch_sub(1, SeqCst);
                    if runs.fetch_add(1, SeqCst) == 0 {
                        again.add(key.clone());
                        again.add(key);
                    } else {
                        stop.cancel();
                    }
                    Ok(None)
                }
            })
            .await;
        assert_eq!(runs.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failing_key_comes_back_until_it_succeeds() {
        let (queue, cancel) = (queue(), CancellationToken::new());
        let tries = Arc::new(AtomicUsize::new(0));
        queue.add("a".into());
        let (seen, stop) = (tries.clone(), cancel.clone());
        queue
            .run(1, cancel, move |_| {
                let done = seen.fetch_add(1, SeqCst) == 3;
                let stop = stop.clone();
                async move {
                    anyhow::ensure!(done, "not yet");
                    stop.cancel();
                    Ok(None)
                }
            })
            .await;
        assert_eq!(tries.load(SeqCst), 4);
    }

    #[test]
    fn delays_double_up_to_a_bound() {
        let queue = queue();
        let delays: Vec<u128> = (0..25).map(|_| queue.next_delay(&"a".to_owned()).as_millis()).collect();
        assert_eq!(delays[..4], [5, 10, 20, 40]);
        assert_eq!(delays[24], 1_000_000);
    }
}
