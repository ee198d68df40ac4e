//! The store of one machine: a journal that makes groups of writes durable, a redb file that it is brought into beside
//! them, one writer thread, short readers.
//!
//! Must not know: what keys and values mean.

mod checkpoint;
mod file;
mod group;
mod hub;
mod journal;
mod metrics;
mod recent;
mod tables;
mod view;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use parking_lot::RwLock;
use pintle_daemon::metrics::Metrics;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::checkpoint::Checkpointer;
use self::file::{File, Tables};
use self::hub::Hub;
use self::journal::Journal;
use self::metrics::StoreMetrics;
use self::recent::Recent;
use self::tables::Checked;
use self::view::View;
use self::writer::{Request, Writer};
use crate::{Batch, Entry, Error, Event, MAX_VALUE, Page, Range, Store, Watch, WatchEnd, Write, WriteError};

/// Writes that may wait for the writer; more wait for room.
const QUEUE: usize = 1024;
/// KiB of values that may be on their way to the file.
const IN_FLIGHT_KIB: usize = 64 << 10;
/// Readers at once; more wait.
const READERS: usize = 8;
/// Log records one reader goes through in one transaction.
const HISTORY_CHUNK: usize = 1000;

#[derive(Clone)]
pub struct Options {
    /// Bytes of the file kept in memory.
    pub cache: usize,
    /// How long history is kept at least, unless there is more of it than `max_history`. Upstream's API server
    /// compacts etcd every 5 minutes.
    pub history: Duration,
    /// Revisions of history kept at most.
    pub max_history: u64,
    /// Bytes of the journal after which they are brought into the file: a bound on what is read at the start.
    pub journal: u64,
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        let history = Duration::from_secs(300);
        Self { cache: 24 << 20, history, max_history: 500_000, journal: 8 << 20, metrics: Metrics::default() }
    }
}

/// An open store. Dropping it waits for the writes that were sent, and closes the file.
pub struct Embedded {
    /// `None` only while dropping.
    requests: Option<mpsc::Sender<Request>>,
    shared: Arc<Shared>,
    in_flight: Semaphore,
    writer: Option<JoinHandle<()>>,
    _compactor: DropGuard,
}

struct Shared {
    file: Arc<File>,
    recent: Arc<RwLock<Recent>>,
    hub: Arc<Hub>,
    readers: Semaphore,
}

/// Opens the store in `dir`, making both if need be. Must be called within a tokio runtime.
///
/// A file that is damaged, foreign, of another format or in use is an error that names it; it is left as it is.
pub fn open(dir: &Path, options: Options) -> Result<Embedded, Error> {
    let metrics = StoreMetrics::new(&options.metrics);
    let file = Arc::new(File::open(dir, options.cache)?);
    let meta = file.read(|| (), |tables, ()| Ok(tables.meta))?;
    // a store of an earlier format gets its number here
    file.write(|transaction| meta.save_into(transaction))?;
    let (journal, replay) = Journal::open(dir, options.journal, meta)?;
    let mut recent = Recent::new(meta.revision, replay.compacted);
    recent.extend(&replay.changes, replay.compacted);
    metrics.revision.set(recent.revision.cast_signed());
    metrics.size.set(file.len().cast_signed());
    let hub = Arc::new(Hub::new(recent.revision, metrics.clone()));
    let left = recent.freeze();
    let recent = Arc::new(RwLock::new(recent));
    let checkpointer = Checkpointer::start(file.clone(), recent.clone(), metrics.clone(), meta).map_err(no_thread)?;
    let (sender, requests) = mpsc::channel(QUEUE);
    let readers = Semaphore::new(READERS);
    let shared = Arc::new(Shared { file: file.clone(), recent: recent.clone(), hub: hub.clone(), readers });
    let cancel = CancellationToken::new();
    let compact = compact_by_age(shared.clone(), sender.downgrade(), options.history, metrics.clone());
    tokio::spawn(cancel.clone().run_until_cancelled_owned(compact));
    let flushing = left.is_some();
    left.into_iter().for_each(|layer| checkpointer.flush(layer));
    let (leaving, max_history) = (replay.segments, options.max_history);
    let writer = Writer { file, recent, journal, checkpointer, leaving, flushing, hub, requests, metrics, max_history };
    let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(|| writer.run());
    Ok(Embedded {
        requests: Some(sender),
        shared,
        in_flight: Semaphore::new(IN_FLIGHT_KIB),
        writer: Some(thread.map_err(no_thread)?),
        _compactor: cancel.drop_guard(),
    })
}

fn no_thread(error: std::io::Error) -> Error {
    Error::Backend { what: "starting the store's threads".to_owned(), source: Arc::new(error) }
}

/// Twice per `keep`, compacts up to the revision of one `keep` ago.
async fn compact_by_age(
    shared: Arc<Shared>,
    requests: mpsc::WeakSender<Request>,
    keep: Duration,
    metrics: StoreMetrics,
) {
    let mut seen = [shared.hub.published(); 2];
    loop {
        tokio::time::sleep(keep / 2).await;
        metrics.size.set(shared.file.len() as i64);
        let [oldest, newer] = seen;
        seen = [newer, shared.hub.published()];
        let Some(requests) = requests.upgrade() else { return };
        // a full queue: the next turn does it; already compacted: the writer says so to nobody
        let _ = requests.try_send(Request::Compact { revision: oldest, answer: None });
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // it catches its own panics; there is nothing to do about one here
            let _ = writer.join();
        }
        // replays still running end with an error instead of keeping the file open
        self.shared.file.close();
    }
}

impl Embedded {
    async fn send(&self, request: Request) -> Result<(), Error> {
        let requests = self.requests.as_ref().ok_or(Error::Closed)?;
        requests.send(request).await.map_err(|_| Error::Closed)
    }
}

impl Shared {
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(View<'_>) -> Checked<Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let _turn = self.readers.acquire().await.map_err(|_| Error::Closed)?;
        let shared = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let view = |tables: &Tables, recent| act(View { tables, recent });
            shared.file.read(|| shared.recent.read(), view).flatten()
        });
        read.await.unwrap_or_else(|error| {
            Err(Error::Backend { what: "reading the store".to_owned(), source: Arc::new(error) })
        })
    }

    /// The next chunk of history after `after`, and how far it goes.
    async fn history(self: &Arc<Self>, prefix: Arc<str>, after: u64, until: u64) -> Result<(Vec<Event>, u64), Error> {
        self.read(move |view| view.history(&prefix, after, until, HISTORY_CHUNK)).await
    }

    /// What happened after `after` up to `until`, from the log.
    fn replay(
        self: Arc<Self>,
        prefix: Arc<str>,
        after: u64,
        until: u64,
    ) -> BoxStream<'static, Result<Batch, WatchEnd>> {
        stream::unfold((self, prefix, after), move |(shared, prefix, after)| async move {
            if after >= until {
                return None;
            }
            match shared.history(prefix.clone(), after, until).await {
                Ok((events, revision)) => {
                    Some((Ok(Batch { events: events.into(), revision }), (shared, prefix, revision)))
                }
                Err(error) => Some((Err(error.into()), (shared, prefix, until))),
            }
        })
        .boxed()
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    match key.is_empty() || key.contains('\0') {
        true => Err(Error::InvalidKey(key.to_owned())),
        false => Ok(()),
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let key = key.to_owned();
        self.shared.read(move |view| view.get(&key).map(Ok)).await
    }

    async fn range(&self, range: Range<'_>) -> Result<Page, Error> {
        let (prefix, start_after) = (range.prefix.to_owned(), range.start_after.map(str::to_owned));
        let (limit, revision, count) = (range.limit, range.revision, range.count);
        self.shared
            .read(move |view| {
                let start_after = start_after.as_deref();
                view.page(Range { prefix: &prefix, start_after, limit, revision, count })
            })
            .await
    }

    async fn write(&self, write: Write) -> Result<Entry, WriteError> {
        check_key(write.key())?;
        let size = write.value().map_or(0, |value| value.len());
        if size > MAX_VALUE {
            return Err(Error::TooLarge(size).into());
        }
        let kib = (size >> 10) as u32 + 1;
        let _room = self.in_flight.acquire_many(kib).await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.send(Request::Write { write, answer }).await?;
        answered.await.map_err(|_| Error::Closed)?
    }

    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, Error> {
        let (joined_at, live) = self.shared.hub.join(prefix, after);
        if after >= joined_at {
            return Ok(Watch::new(live));
        }
        // asked now, so that whoever is too late learns it before the first event
        let compacted = self.shared.recent.read().compacted;
        if after < compacted {
            return Err(Error::Compacted { asked: after, compacted });
        }
        let replay = self.shared.clone().replay(prefix.into(), after, joined_at);
        // a failed replay ends the watch: nothing may follow the gap
        let joined = replay.chain(live).scan(false, |ended, batch| {
            let next = (!*ended).then(|| batch.inspect_err(|_| *ended = true));
            std::future::ready(next)
        });
        Ok(Watch::new(joined.boxed()))
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Compact { revision, answer: Some(answer) }).await?;
        answered.await.map_err(|_| Error::Closed)?
    }

    async fn revision(&self) -> Result<u64, Error> {
        Ok(self.shared.hub.published())
    }
}
