//! One blob from registries to disk: resumed where it stopped, retried with back-off, never kept unless it is what its
//! digest says.
//!
//! The network side is async; a thread of its own hashes and writes. Must not know: what a blob is for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use pintle_daemon::backoff::Backoff;
use tokio::sync::{mpsc, oneshot};

use crate::config::Limits;
use crate::content::Content;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::growth::Growth;
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::registry::Remote;

/// Chunks between the network and the disk; each is what the network gave at once, some 16 KiB.
const QUEUE: usize = 64;
/// Times a blob whose bytes were wrong is fetched anew.
const ANEW: u32 = 2;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// What fetching needs.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub content: Content,
    pub limits: Limits,
    /// Where to ask; a blob is asked of the next where one does not have it.
    pub remotes: Arc<Vec<Remote>>,
    pub progress: Progress,
}

enum Step {
    Bytes(Bytes),
    Restart,
}

impl Fetcher {
    /// Fetches a blob unless it is there. `growth` follows what arrives; it breaks off where bytes turn out wrong.
    pub async fn fetch(&self, blob: &Descriptor, growth: Option<Arc<Growth>>) -> Result<()> {
        if blob.size > self.limits.blob_bytes {
            let text = format!("blob {} of {} bytes is too long", blob.digest, blob.size);
            return Err(Error::new(ErrorKind::Refused, text));
        }
        let mut tries = ANEW;
        let mut growth = growth;
        loop {
            match self.fetch_once(blob, growth.take()).await {
                Err(error) if error.kind() == ErrorKind::Corrupt && tries > 0 => {
                    tries -= 1;
                    self.retrying(&blob.digest.to_string(), &error);
                }
                done => return done.context(|| format!("failed to fetch {}", blob.digest)),
            }
        }
    }

    async fn fetch_once(&self, blob: &Descriptor, growth: Option<Arc<Growth>>) -> Result<()> {
        let (steps, received) = mpsc::channel(QUEUE);
        let (start, started) = oneshot::channel();
        let writer = Writer { content: self.content.clone(), blob: blob.clone(), growth: growth.clone() };
        let writer = tokio::task::spawn_blocking(move || writer.run(received, start));
        let downloaded = match started.await {
            Ok(Some(offset)) => match growth {
                Some(growth) => tokio::select! {
                    downloaded = self.download(blob, offset, &steps) => downloaded,
                    () = growth.given_up() => Err(Error::new(ErrorKind::Internal, "given up")),
                },
                None => self.download(blob, offset, &steps).await,
            },
            // it is there, or the writer failed and says why
            Ok(None) | Err(_) => Ok(()),
        };
        let complete = downloaded.is_ok();
        drop(steps);
        let written = joined(writer.await);
        match complete {
            true => written,
            // a full disk explains more than what the network made of it
            false => written.and(downloaded),
        }
    }

    /// Sends everything from `offset` on to the writer.
    async fn download(&self, blob: &Descriptor, offset: u64, steps: &mpsc::Sender<Step>) -> Result<()> {
        let mut position = offset;
        let mut failures = 0;
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut remotes = self.remotes.iter();
        let mut remote = remotes.next();
        while position < blob.size {
            let Some(asked) = remote else { return Err(Error::new(ErrorKind::NotFound, "no registry has it")) };
            let before = position;
            let Err(error) = self.stream(asked, blob, &mut position, steps).await else { continue };
            if steps.is_closed() {
                return Err(error);
            }
            if error.kind() == ErrorKind::Corrupt {
                // what is there does not go with what the registry has
                position = 0;
                let _ = steps.send(Step::Restart).await;
            }
            if position > before {
                failures = 0;
                backoff.reset();
            }
            failures += 1;
            if error.kind() != ErrorKind::Unavailable || failures > self.limits.retries {
                remote = Some(remotes.next().ok_or(error)?);
                failures = 0;
                continue;
            }
            self.retrying(&blob.digest.to_string(), &error);
            tokio::time::sleep(backoff.next_delay()).await;
        }
        Ok(())
    }

    /// One request, from `position` as far as it goes.
    async fn stream(
        &self,
        remote: &Remote,
        blob: &Descriptor,
        position: &mut u64,
        steps: &mpsc::Sender<Step>,
    ) -> Result<()> {
        let gone = |_| Error::new(ErrorKind::Internal, "the writer is gone");
        let mut stream = remote.blob(&blob.digest, *position).await?;
        if stream.from != *position {
            steps.send(Step::Restart).await.map_err(gone)?;
            *position = stream.from;
        }
        while let Some(bytes) = stream.bytes.next().await {
            let bytes = bytes?;
            *position += bytes.len() as u64;
            if *position > blob.size {
                let text = format!("{} sent more than the {} bytes of {}", remote.host, blob.size, blob.digest);
                return Err(Error::new(ErrorKind::Corrupt, text));
            }
            steps.send(Step::Bytes(bytes)).await.map_err(gone)?;
            let bytes = *position;
            self.progress.tell(|| Event::Fetched { blob: blob.digest.clone(), bytes });
        }
        match *position == blob.size {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, format!("{} broke off: unexpected EOF", remote.host))),
        }
    }

    fn retrying(&self, what: &str, error: &Error) {
        tracing::debug!(what, %error, "trying again");
        self.progress.tell(|| Event::Retrying { what: what.to_owned(), error: error.to_string() });
    }

    /// Tries something on one registry again while that may help.
    pub async fn retry<T, F: Future<Output = Result<T>>>(&self, what: &str, mut ask: impl FnMut() -> F) -> Result<T> {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut failures = 0;
        loop {
            match ask().await {
                Err(error) if error.kind() == ErrorKind::Unavailable && failures < self.limits.retries => {
                    failures += 1;
                    self.retrying(what, &error);
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                done => return done,
            }
        }
    }
}

/// The blocking side of a download.
struct Writer {
    content: Content,
    blob: Descriptor,
    growth: Option<Arc<Growth>>,
}

impl Writer {
    /// Says at which byte to go on, or that the blob is there; then writes what comes. An early end of the steps leaves
    /// what is there for the next time.
    fn run(self, steps: mpsc::Receiver<Step>, start: oneshot::Sender<Option<u64>>) -> Result<()> {
        let done = self.write(steps, start);
        if let Some(growth) = self.growth.as_ref().filter(|_| done.is_err()) {
            growth.break_off();
        }
        done
    }

    fn write(&self, mut steps: mpsc::Receiver<Step>, start: oneshot::Sender<Option<u64>>) -> Result<()> {
        let mut ingest = self.content.ingest(&self.blob.digest)?;
        if let Some(length) = self.content.size(&self.blob.digest) {
            ingest.discard();
            if let Some(growth) = &self.growth {
                growth.start(self.content.reader(&self.blob.digest)?, length);
                growth.complete();
            }
            // a receiver that is gone does not care
            let _ = start.send(None);
            return Ok(());
        }
        if ingest.length() > self.blob.size {
            ingest.restart()?;
        }
        if let Some(growth) = &self.growth {
            growth.start(ingest.reader()?, ingest.length());
        }
        let _ = start.send(Some(ingest.length()));
        while let Some(step) = steps.blocking_recv() {
            match step {
                Step::Bytes(bytes) => {
                    ingest.write(&bytes)?;
                    self.grown(|growth| growth.grow(ingest.length()));
                }
                Step::Restart => {
                    ingest.restart()?;
                    self.grown(Growth::break_off);
                }
            }
        }
        if ingest.length() < self.blob.size {
            self.grown(Growth::break_off);
            return Ok(());
        }
        self.grown(Growth::complete);
        ingest.commit().map(drop)
    }

    fn grown(&self, tell: impl FnOnce(&Growth)) {
        if let Some(growth) = self.growth.as_deref() {
            tell(growth);
        }
    }
}

/// The result of a blocking task; it is never cancelled, so only a panic is no result.
pub(crate) fn joined<T>(task: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    task.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, format!("a task failed: {error}"))))
}
