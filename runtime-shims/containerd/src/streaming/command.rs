//! An exec or attach session: SPDY streams on one side, pipes to the process on the other.
//!
//! Must not know: how the client's connection came about.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pintle_cri::streaming::bridge::Streams;
use pintle_cri::streaming::spdy::{Connection, Incoming, Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tonic::Status;

use crate::Inner;
use crate::exec::{Running, Wanted};

/// The best first. Before v4 the error stream carries plain text.
pub const PROTOCOLS: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const WITH_STATUS: &str = "v4.channel.k8s.io";
const WITHOUT_RESIZE: [&str; 2] = ["v2.channel.k8s.io", "channel.k8s.io"];
/// Upstream's limit for a client to open its streams.
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// A command's own children may hold its output open after its end: nobody waits for them longer than this.
const SILENT_AFTER_END: Duration = Duration::from_secs(2);
const PIECE: usize = 32 << 10;

/// What to run or join, and with which streams.
pub struct Command {
    pub runtime: Arc<Inner>,
    pub container: String,
    pub target: Target,
    pub streams: Streams,
}

#[derive(Debug)]
pub enum Target {
    /// A process specification as JSON.
    Exec(Vec<u8>),
    /// The container's own process.
    Own,
}

#[derive(Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Command {
    /// Serves until the process ends or the client goes, which ends an exec.
    pub async fn serve(self, connection: Connection, mut incoming: Incoming, protocol: &'static str) {
        let opened = tokio::time::timeout(OPENED_WITHIN, collect(&mut incoming, self.streams, protocol)).await;
        let Ok(Some(mut opened)) = opened else {
            return tracing::debug!("a streaming client did not open its streams");
        };
        let Some(mut error) = opened.error.take() else { return };
        let result = match self.begin(opened.stdin.is_some()).await {
            Err(status) => Err(anyhow::Error::msg(status.message().to_owned())),
            Ok(mut running) => {
                let result = tokio::select! {
                    result = carry(&mut running, opened) => Some(result),
                    () = gone(&mut incoming) => None,
                };
                running.remove().await;
                let Some(result) = result else { return };
                result
            }
        };
        if let Some(text) = status(protocol, result) {
            // A client that is gone needs no status.
            let _ = error.writer.send(Bytes::from(text)).await;
        }
        let _ = error.writer.finish().await;
        connection.go_away().await;
        let _ = tokio::time::timeout(SILENT_AFTER_END, gone(&mut incoming)).await;
    }
}

impl Command {
    async fn begin(self, stdin: bool) -> Result<Running, Status> {
        match self.target {
            Target::Exec(process) => {
                let wanted = Wanted { stdin, terminal: self.streams.tty };
                self.runtime.begin_exec(&self.container, process, wanted).await
            }
            Target::Own => self.runtime.begin_attach(&self.container, self.streams).await,
        }
    }
}

async fn gone(incoming: &mut Incoming) {
    while incoming.next().await.is_some() {}
}

/// Waits for the streams that the client announced.
async fn collect(incoming: &mut Incoming, wanted: Streams, protocol: &str) -> Option<Opened> {
    let resize = wanted.tty && !WITHOUT_RESIZE.contains(&protocol);
    let stderr = wanted.stderr && !wanted.tty;
    let expected = 1 + [wanted.stdin, wanted.stdout, stderr, resize].into_iter().map(usize::from).sum::<usize>();
    let mut opened = Opened::default();
    for _ in 0..expected {
        let stream = incoming.next().await?;
        let slot = match stream.headers.get("streamtype") {
            Some("error") => &mut opened.error,
            Some("stdin") => &mut opened.stdin,
            Some("stdout") => &mut opened.stdout,
            Some("stderr") => &mut opened.stderr,
            Some("resize") => &mut opened.resize,
            _ => return None,
        };
        *slot = Some(stream);
    }
    Some(opened)
}

/// Carries everything until the command has ended and its outputs are read; its exit code.
async fn carry(running: &mut Running, opened: Opened) -> anyhow::Result<i32> {
    let (stdin, stdout, stderr) = (running.stdin.take(), running.stdout.take(), running.stderr.take());
    let running = &*running;
    let input = async {
        tokio::join!(feed(running, opened.stdin, stdin), resize(running, opened.resize));
        std::future::pending::<()>().await;
    };
    let (ended, end) = tokio::sync::watch::channel(false);
    let exit = async {
        let code = running.wait().await;
        // Nobody listens where nothing is put out.
        let _ = ended.send(true);
        code
    };
    let output = async {
        let (code, (), ()) =
            tokio::join!(exit, drain(stdout, opened.stdout, end.clone()), drain(stderr, opened.stderr, end.clone()));
        code
    };
    let code = tokio::select! { () = input => return Ok(0), code = output => code };
    code.map_err(|status| anyhow::Error::msg(status.message().to_owned()))
}

async fn feed(running: &Running, from: Option<Stream>, to: Option<Sender>) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    while let Ok(Some(data)) = from.reader.next().await {
        if to.write_all(&data).await.is_err() {
            return;
        }
    }
    drop(to);
    running.close_stdin().await;
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// The client writes a JSON object per change.
async fn resize(running: &Running, from: Option<Stream>) {
    let Some(mut from) = from else { return };
    while let Ok(Some(data)) = from.reader.next().await {
        for size in serde_json::Deserializer::from_slice(&data).into_iter::<Size>().map_while(Result::ok) {
            running.resize(size.width, size.height).await;
        }
    }
}

async fn drain(from: Option<Receiver>, to: Option<Stream>, mut end: tokio::sync::watch::Receiver<bool>) {
    let Some(mut from) = from else { return };
    let mut to = to;
    let mut piece = BytesMut::with_capacity(PIECE);
    while read(&mut from, &mut piece, &mut end).await {
        let data = piece.split().freeze();
        // Read also where nobody wants it, so that the command never waits.
        if let Some(stream) = to.as_mut()
            && stream.writer.send(data).await.is_err()
        {
            return;
        }
        piece.reserve(PIECE);
    }
    if let Some(stream) = to.as_mut() {
        // A lost connection ends the session anyway.
        let _ = stream.writer.finish().await;
    }
}

/// Whether there was more to read, before the end or long silence after it.
async fn read(from: &mut Receiver, piece: &mut BytesMut, end: &mut tokio::sync::watch::Receiver<bool>) -> bool {
    let silence = async {
        // An error is the end too.
        let _ = end.wait_for(|ended| *ended).await;
        tokio::time::sleep(SILENT_AFTER_END).await;
    };
    tokio::select! {
        biased;
        length = from.read_buf(piece) => length.is_ok_and(|length| length > 0),
        () = silence => false,
    }
}

/// What the error stream ends with.
fn status(protocol: &str, result: anyhow::Result<i32>) -> Option<String> {
    let status = match &result {
        Ok(0) => json!({ "metadata": {}, "status": "Success" }),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit code {code}"),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Err(error) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("{error:#}"),
            "reason": "InternalError",
            "details": { "causes": [{ "message": format!("{error:#}") }] },
            "code": 500,
        }),
    };
    if protocol == WITH_STATUS {
        return Some(status.to_string());
    }
    status.get("message").and_then(serde_json::Value::as_str).map(str::to_owned)
}
