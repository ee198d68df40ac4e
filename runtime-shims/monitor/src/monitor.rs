//! The client of one monitor.
//!
//! Must not know: what the processes are for.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::error::Error;
use crate::exit::{Exited, Exits, exited};
use crate::program;
use crate::protocol::{Body, LARGEST, Reply, Request, Status, VERSION};
use crate::run::{Attach, Keep, Run, Started};

/// How long an answer may take that waits for nothing but the monitor.
const PATIENCE: Duration = Duration::from_secs(30);
/// Parts of one answer: more than the longest list has.
const MOST_PARTS: usize = 64;
/// Exits kept for a listener; who falls further behind asks for the list.
const MOST_EXITS: usize = 256;

/// A connection to a monitor. Clones share it; it closes with the last, which the monitor does not mind.
#[derive(Debug, Clone)]
pub struct Monitor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    shared: Arc<Shared>,
    number: AtomicU32,
    pid: AtomicU32,
    reader: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    connection: Connection,
    /// None once the monitor is gone.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    pending: HashMap<u32, mpsc::Sender<Body>>,
    exits: broadcast::Sender<Exited>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Monitor {
    /// Starts a monitor for the sandbox whose state is in `dir`, and connects. It shows as `pintle-monitor NAME`, NAME
    /// being the directory's. `cgroups` are directories, one of each hierarchy, made when they are not there; whoever
    /// made the sandbox removes them after the monitor.
    ///
    /// # Errors
    /// [`Error::Serves`] when there is one; [`Error::Start`] when it cannot run or join a cgroup.
    pub async fn spawn(dir: &Path, cgroups: &[PathBuf]) -> Result<Monitor, Error> {
        let (place, cgroups) = (dir.to_owned(), cgroups.to_vec());
        let started = tokio::task::spawn_blocking(move || program::start(&place, &cgroups));
        let started = timeout(PATIENCE, started).await.map_err(|_| Error::Silent(dir.to_owned()))?;
        started.map_err(|error| Error::Start(error.to_string()))??;
        Monitor::connect(dir).await
    }

    /// Connects to the monitor in `dir`.
    ///
    /// # Errors
    /// [`Error::Absent`] when none was started there or it ended in order, [`Error::Gone`] when it was killed,
    /// [`Error::Version`] when the two have no version in common.
    pub async fn connect(dir: &Path) -> Result<Monitor, Error> {
        let connection = Connection::open(dir)?;
        let open = Open { pending: HashMap::new(), exits: broadcast::channel(MOST_EXITS).0 };
        let shared = Arc::new(Shared { connection, open: Mutex::new(Some(open)) });
        let reader = tokio::spawn(read(shared.clone())).abort_handle();
        let (number, pid) = (AtomicU32::new(1), AtomicU32::new(0));
        let monitor = Monitor { inner: Arc::new(Inner { dir: dir.to_owned(), shared, number, pid, reader }) };
        match monitor.ask(&Request::Hello { oldest: VERSION, newest: VERSION }).await? {
            Body::Hello { version: VERSION, pid } => monitor.inner.pid.store(pid, Ordering::Relaxed),
            other => return Err(unexpected(&other)),
        }
        Ok(monitor)
    }

    /// The monitor's own process.
    pub fn pid(&self) -> u32 {
        self.inner.pid.load(Ordering::Relaxed)
    }

    /// Runs a command line, and returns once it has ended and left its process behind. A caller that goes away meanwhile
    /// changes nothing: the process is in the list, or was never left.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the command line wrote, [`Error::Exists`] for an id that is not forgotten.
    pub async fn run(&self, run: Run) -> Result<Started, Error> {
        let patience = run.timeout.saturating_add(PATIENCE);
        let (run, descriptors) = run.split();
        match self.ask_with(&Request::Run(run), descriptors, patience).await? {
            Body::Started { pid } => Ok(Started { pid }),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads and writes the streams of a process that somebody else runs.
    ///
    /// # Errors
    /// [`Error::Exists`] for an id whose outputs have not ended; [`Error::Io`] when the log cannot be made.
    pub async fn keep(&self, keep: Keep) -> Result<(), Error> {
        let (keep, descriptors) = keep.split();
        done(self.ask_with(&Request::Keep(keep), descriptors, PATIENCE).await?)
    }

    /// Waits for a [`Monitor::run`] that an earlier client asked for; `within` bounds it.
    ///
    /// # Errors
    /// As that one's; [`Error::NotFound`] when it has failed already.
    pub async fn started(&self, id: &str, within: Duration) -> Result<Started, Error> {
        match self.ask_with(&Request::Started { id: id.to_owned() }, Vec::new(), within).await? {
            Body::Started { pid } => Ok(Started { pid }),
            other => Err(unexpected(&other)),
        }
    }

    /// Every process that is not forgotten.
    pub async fn list(&self) -> Result<Vec<Status>, Error> {
        let mut parts = self.send(&Request::List, Vec::new()).await?;
        let mut all = Vec::new();
        loop {
            match self.part(&mut parts, PATIENCE).await? {
                Body::Statuses { statuses, more } => {
                    all.extend(statuses);
                    if !more {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Every exit from the first on, those before this call included, each at least once.
    pub async fn exits(&self) -> Result<Exits, Error> {
        let live = self.open_now().as_ref().map(|open| open.exits.subscribe()).ok_or_else(|| self.gone())?;
        Ok(Exits { live, known: exited(self.list().await?), monitor: self.clone() })
    }

    /// Joins a process's streams, until it ends, the descriptors are closed, or nothing is read for ten seconds while
    /// there is something to read.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it does not run, or its streams are not the monitor's.
    pub async fn attach(&self, id: &str, attach: Attach) -> Result<(), Error> {
        let (streams, descriptors) = attach.split();
        let request = Request::Attach { id: id.to_owned(), streams };
        done(self.ask_with(&request, descriptors, PATIENCE).await?)
    }

    /// # Errors
    /// [`Error::NotRunning`] when it has no terminal.
    pub async fn resize(&self, id: &str, columns: u16, rows: u16) -> Result<(), Error> {
        done(self.ask(&Request::Resize { id: id.to_owned(), columns, rows }).await?)
    }

    /// The process reads the end of its input, after what was typed before.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has none, or it is a terminal, which has no end.
    pub async fn close_stdin(&self, id: &str) -> Result<(), Error> {
        done(self.ask(&Request::CloseStdin { id: id.to_owned() }).await?)
    }

    /// Goes on in a fresh log file, when the old one was renamed. Nothing is lost between the two.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it has no log; [`Error::Io`] when the file cannot be made, and the old one goes on.
    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        done(self.ask(&Request::ReopenLog { id: id.to_owned() }).await?)
    }

    /// Sends a signal to the process, and never to another one that got its number.
    ///
    /// # Errors
    /// [`Error::NotRunning`] once it has ended.
    pub async fn signal(&self, id: &str, signal: u32) -> Result<(), Error> {
        done(self.ask(&Request::Signal { id: id.to_owned(), signal }).await?)
    }

    /// Drops all that is known of a process; its files stay. One that still runs is dropped as soon as its exit has been
    /// told, and keeps its id until then. What was kept goes at once.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn forget(&self, id: &str) -> Result<(), Error> {
        done(self.ask(&Request::Forget { id: id.to_owned() }).await?)
    }

    /// Ends the monitor, and returns once it has.
    ///
    /// # Errors
    /// [`Error::Busy`] while anything runs.
    pub async fn stop(&self) -> Result<(), Error> {
        done(self.ask(&Request::Stop).await?)?;
        timeout(PATIENCE, self.closed()).await.map_err(|_| self.silent())
    }

    /// Returns once the monitor is gone, whether it was told to end or was killed.
    pub async fn closed(&self) {
        let live = self.open_now().as_ref().map(|open| open.exits.subscribe());
        let Some(mut live) = live else { return };
        while !matches!(live.recv().await, Err(broadcast::error::RecvError::Closed)) {}
    }

    async fn ask(&self, request: &Request) -> Result<Body, Error> {
        self.ask_with(request, Vec::new(), PATIENCE).await
    }

    async fn ask_with(&self, request: &Request, descriptors: Vec<OwnedFd>, patience: Duration) -> Result<Body, Error> {
        let mut parts = self.send(request, descriptors).await?;
        self.part(&mut parts, patience).await
    }

    async fn part(&self, parts: &mut mpsc::Receiver<Body>, patience: Duration) -> Result<Body, Error> {
        match timeout(patience, parts.recv()).await.map_err(|_| self.silent())? {
            Some(Body::Refused(refusal)) => Err(refusal.into()),
            Some(body) => Ok(body),
            None => Err(self.gone()),
        }
    }

    async fn send(&self, request: &Request, descriptors: Vec<OwnedFd>) -> Result<mpsc::Receiver<Body>, Error> {
        // Number 0 is an event's.
        let number = self.inner.number.fetch_add(1, Ordering::Relaxed).max(1);
        let message = request.encode(number);
        if message.len() > LARGEST {
            return Err(Error::TooLong(format!("{:.80}", format!("{request:?}"))));
        }
        let (sender, parts) = mpsc::channel(MOST_PARTS);
        self.open_now().as_mut().ok_or_else(|| self.gone())?.pending.insert(number, sender);
        match timeout(PATIENCE, self.inner.shared.connection.send(&message, &descriptors)).await {
            Ok(Ok(())) => Ok(parts),
            Ok(Err(error)) => Err(self.send_error(error)),
            Err(_) => Err(self.silent()),
        }
    }

    fn send_error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.gone(),
            _ => Error::Io { what: "send to the monitor".to_owned(), source: error },
        }
    }

    fn open_now(&self) -> MutexGuard<'_, Option<Open>> {
        lock(&self.inner.shared)
    }

    fn gone(&self) -> Error {
        Error::Gone(self.inner.dir.clone())
    }

    fn silent(&self) -> Error {
        Error::Silent(self.inner.dir.clone())
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Option<Open>> {
    shared.open.lock().unwrap_or_else(PoisonError::into_inner)
}

fn done(body: Body) -> Result<(), Error> {
    match body {
        Body::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(body: &Body) -> Error {
    Error::Protocol(format!("an answer of another kind: {body:?}"))
}

/// Hands on what comes, until nothing does any more.
async fn read(shared: Arc<Shared>) {
    while let Ok(message) = shared.connection.receive().await {
        let Ok(reply) = Reply::decode(&message) else { break };
        if let Some(open) = lock(&shared).as_mut() {
            open.hand_on(reply);
        }
    }
    *lock(&shared) = None;
}

impl Open {
    fn hand_on(&mut self, Reply { number, body }: Reply) {
        if let Body::Exited { id, exit } = body {
            // That nobody listens is no error.
            let _ = self.exits.send(Exited { id, exit });
            return;
        }
        let last = !matches!(body, Body::Statuses { more: true, .. });
        if let Some(sender) = self.pending.get(&number) {
            // Who stopped waiting hears nothing; more parts than a list has do not come.
            let _ = sender.try_send(body);
        }
        if last {
            self.pending.remove(&number);
        }
    }
}
