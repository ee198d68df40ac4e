//! Reading a CRI log: the tail, since a time, with or without timestamps, up to a limit, following it while its
//! container runs. Source: upstream's kuberuntime/logs.
//!
//! Must not know: who asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use inotify::{Inotify, WatchMask};
use jiff::Timestamp;
use pintle_cri::log::{Stream, parse};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, BufReader, SeekFrom};
use tokio::sync::mpsc;

/// Behind inotify, a follower looks again: soon after the last event, since a log is closed before its container counts
/// as ended, then ever more seldom.
const SOON: Duration = Duration::from_millis(100);
const RESYNC: Duration = Duration::from_secs(5);
/// A chunk is handed on when it is this long, or when the log has no more for now.
const CHUNK: usize = 32 << 10;
const BLOCK: u64 = 64 << 10;

/// What to show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub follow: bool,
    pub timestamps: bool,
    /// The last so many lines.
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
    /// Bytes.
    pub limit: Option<u64>,
    /// One of the two streams only.
    pub stream: Option<Stream>,
}

/// Why reading stopped before its end.
enum Stop {
    /// The limit is reached, or nobody listens any more.
    Done,
}

struct Reader<'a> {
    options: &'a Options,
    to: &'a mpsc::Sender<Bytes>,
    chunk: BytesMut,
    left: u64,
    /// The line so far: a record whose end is not written yet.
    line: Vec<u8>,
    /// The next record continues a line.
    continues: bool,
}

/// Sends the log's text to `to`. While following, `running` says whether more can come.
///
/// # Errors
/// The file cannot be opened or read.
pub async fn read<R: Future<Output = bool> + Send>(
    path: &Path,
    options: &Options,
    to: &mpsc::Sender<Bytes>,
    running: impl Fn() -> R + Send,
) -> std::io::Result<()> {
    let mut changes = options.follow.then(|| watch(path)).flatten();
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let left = options.limit.unwrap_or(u64::MAX);
    let mut reader = Reader { options, to, chunk: BytesMut::new(), left, line: Vec::new(), continues: false };
    let mut input = BufReader::new(file);
    let mut pause = SOON;
    loop {
        // asked before the rest is read: what was written before the end is not missed
        let more = options.follow && running().await;
        if reader.drain(&mut input).await?.is_err() {
            return Ok(());
        }
        if let Some(next) = rotated(path, &input).await {
            // what came between the last look at the old file and its rotation; nothing comes since the new one is there
            if reader.drain(&mut input).await?.is_err() {
                return Ok(());
            }
            input = next;
            continue;
        }
        if !more {
            return Ok(());
        }
        tokio::select! {
            () = next_change(&mut changes) => pause = SOON,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RESYNC),
            () = to.closed() => return Ok(()),
        }
    }
}

type Changes = inotify::EventStream<Vec<u8>>;

/// Events of the log's directory: writes, and the rename of a rotation.
fn watch(path: &Path) -> Option<Changes> {
    let inotify = Inotify::init().ok()?;
    let dir = path.parent().map(PathBuf::from)?;
    inotify.watches().add(dir, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::CLOSE_WRITE).ok()?;
    inotify.into_event_stream(vec![0; 4096]).ok()
}

async fn next_change(changes: &mut Option<Changes>) {
    match changes {
        Some(stream) => drop(stream.next().await),
        None => std::future::pending().await,
    }
}

/// The new file at the log's path, when a rotation put one there.
async fn rotated(path: &Path, input: &BufReader<File>) -> Option<BufReader<File>> {
    use std::os::unix::fs::MetadataExt as _;
    let (open, there) = (input.get_ref().metadata().await.ok()?, tokio::fs::metadata(path).await.ok()?);
    if (open.dev(), open.ino()) == (there.dev(), there.ino()) {
        return None;
    }
    Some(BufReader::new(File::open(path).await.ok()?))
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut found = 0;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start)).await?;
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact(&mut block).await?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + at as u64 + 1;
            // the newline at the very end ends the last line
            if after == length {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(after);
            }
        }
        end = start;
    }
    Ok(0)
}

impl Reader<'_> {
    /// Reads to the end of what is there.
    async fn drain(&mut self, input: &mut BufReader<File>) -> std::io::Result<Result<(), Stop>> {
        loop {
            let count = input.read_until(b'\n', &mut self.line).await?;
            if count == 0 || !self.line.ends_with(b"\n") {
                return Ok(self.flush().await);
            }
            let line = std::mem::take(&mut self.line);
            self.record(&line);
            if (self.chunk.len() >= CHUNK || self.left == 0) && self.flush().await.is_err() {
                return Ok(Err(Stop::Done));
            }
            if self.left == 0 {
                return Ok(Err(Stop::Done));
            }
        }
    }

    fn record(&mut self, line: &[u8]) {
        // a line that is no record is skipped, as upstream does
        let Ok(record) = parse(line) else { return };
        let early = self.options.since.is_some_and(|since| record.timestamp < since);
        let other = self.options.stream.is_some_and(|stream| stream != record.stream);
        if early || other {
            return;
        }
        if self.options.timestamps && !self.continues {
            self.put(record.written_timestamp.as_bytes());
            self.put(b" ");
        }
        self.put(record.content);
        self.continues = record.partial;
    }

    fn put(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.chunk.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.left -= room as u64;
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.to.send(self.chunk.split().freeze()).await.map_err(|_| Stop::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000000Z stdout F one\n2026-01-01T00:00:02.000000000Z stderr F two\n\
                       2026-01-01T00:00:03.000000000Z stdout P thr\n2026-01-01T00:00:03.000000000Z stdout F ee\n";

    async fn shown(options: Options) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (to, mut from) = mpsc::channel(16);
        read(&path, &options, &to, || async { false }).await.unwrap();
        drop(to);
        let mut text = Vec::new();
        while let Some(chunk) = from.recv().await {
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn every_option_narrows_what_is_shown() {
        assert_eq!(shown(Options::default()).await, "one\ntwo\nthree\n");
        assert_eq!(shown(Options { tail: Some(3), ..Options::default() }).await, "two\nthree\n");
        assert_eq!(shown(Options { tail: Some(0), ..Options::default() }).await, "");
        assert_eq!(shown(Options { limit: Some(5), ..Options::default() }).await, "one\nt");
        let since = "2026-01-01T00:00:02Z".parse().ok();
        assert_eq!(shown(Options { since, ..Options::default() }).await, "two\nthree\n");
        assert_eq!(shown(Options { stream: Some(Stream::Stderr), ..Options::default() }).await, "two\n");
        let stamped = shown(Options { timestamps: true, tail: Some(2), ..Options::default() }).await;
        assert_eq!(stamped, "2026-01-01T00:00:03.000000000Z three\n");
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_written_later_and_the_file_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:01Z stdout F one\n").unwrap();
        let (to, mut from) = mpsc::channel(16);
        let (stop, running) = tokio::sync::watch::channel(true);
        let reading = tokio::spawn({
            let path = path.clone();
            async move {
                let options = Options { follow: true, ..Options::default() };
                read(&path, &options, &to, || async { *running.borrow() }).await
            }
        });
        assert_eq!(from.recv().await.unwrap(), "one\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "2026-01-01T00:00:02Z stdout F two\n").unwrap();
        assert_eq!(from.recv().await.unwrap(), "two\n");
        stop.send_replace(false);
        std::fs::write(dir.path().join("wake"), "").unwrap();
        assert!(from.recv().await.is_none());
        reading.await.unwrap().unwrap();
    }
}
