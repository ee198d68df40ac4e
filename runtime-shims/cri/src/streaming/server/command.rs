//! An exec or attach session: SPDY streams on one side, pipes to the process on the other.
//!
//! Must not know: how the client's connection came about, or how the process is started.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::super::bridge::Streams;
use super::super::spdy::{Connection, Incoming, Stream, StreamReader, StreamWriter};

/// The best first. Before v4 the error stream carries plain text.
pub const PROTOCOLS: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const WITH_STATUS: &str = "v4.channel.k8s.io";
const WITHOUT_RESIZE: [&str; 2] = ["v2.channel.k8s.io", "channel.k8s.io"];
/// Upstream's limit for a client to open its streams.
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// A command's own children may hold its output open after its end: nobody waits for them longer than this.
const SILENT_AFTER_END: Duration = Duration::from_secs(2);
/// A client that was told the end closes within this time, in which it also reads what is still on its way.
const CLOSES_WITHIN: Duration = Duration::from_secs(30);
const PIECE: usize = 32 << 10;

/// Begins a process, or joins one, with the streams that the client opened.
pub type Begin = Box<dyn FnOnce(Streams) -> BoxFuture<'static, anyhow::Result<Begun>> + Send>;

/// A process that was begun or joined, and our ends of its pipes.
pub struct Begun {
    pub near: Near,
    pub process: Box<dyn Process>,
}

/// A process whose streams somebody gets.
pub trait Process: Send + Sync {
    /// Waits for its end: its exit code, or `None` of one that was joined.
    fn ended(&self) -> BoxFuture<'_, anyhow::Result<Option<i32>>>;

    fn resize(&self, columns: u16, rows: u16) -> BoxFuture<'_, ()>;

    /// The client types no more, and our end of the pipe is closed.
    fn input_ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The session is over: what was begun is ended, what was joined goes on.
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Our ends of the pipes.
#[derive(Debug, Default)]
pub struct Near {
    pub stdin: Option<pipe::Sender>,
    pub stdout: Option<pipe::Receiver>,
    pub stderr: Option<pipe::Receiver>,
}

/// The process's ends of the pipes.
#[derive(Debug, Default)]
pub struct Ends {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

#[derive(Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

/// Serves until the process ends or the client goes.
pub async fn serve(
    wanted: Streams,
    begin: Begin,
    connection: Connection,
    mut incoming: Incoming,
    protocol: &'static str,
) {
    let opened = tokio::time::timeout(OPENED_WITHIN, collect(&mut incoming, wanted, protocol)).await;
    let Ok(Some(mut opened)) = opened else {
        return tracing::debug!("a streaming client did not open its streams");
    };
    let Some(mut error) = opened.error.take() else { return };
    let result = match begin(opened.streams(wanted.tty)).await {
        Err(error) => {
            // clients wait for the end of the outputs, too
            drop(opened);
            Err(error)
        }
        Ok(Begun { near, process }) => {
            let result = tokio::select! {
                result = carry(&*process, near, opened) => Some(result),
                () = gone(&mut incoming) => None,
            };
            process.leave().await;
            let Some(result) = result else { return };
            result
        }
    };
    if let Some(text) = status(protocol, result) {
        // a client that is gone needs no status
        let _ = error.writer.send(Bytes::from(text)).await;
    }
    let _ = error.writer.finish().await;
    connection.go_away().await;
    // it closes when it has read everything
    let _ = tokio::time::timeout(CLOSES_WITHIN, gone(&mut incoming)).await;
}

impl Opened {
    fn streams(&self, tty: bool) -> Streams {
        let (stdin, stdout, stderr) = (self.stdin.is_some(), self.stdout.is_some(), self.stderr.is_some());
        Streams { stdin, stdout, stderr, tty }
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

/// Carries everything until the process has ended and its outputs are read.
async fn carry(process: &dyn Process, near: Near, opened: Opened) -> anyhow::Result<Option<i32>> {
    let Near { stdin, stdout, stderr } = near;
    let input = async {
        tokio::join!(feed(opened.stdin, stdin, process), resize(opened.resize, process));
        std::future::pending::<()>().await;
    };
    let (ended, end) = tokio::sync::watch::channel(false);
    let exit = async {
        let code = process.ended().await;
        // nobody listens where nothing is put out
        let _ = ended.send(true);
        code
    };
    let output = async {
        // complaints first: clients such as `kubectl cp` leave when the output says that it is complete
        let stderr = drain(stderr, opened.stderr, end.clone());
        let (code, (), ()) = tokio::join!(biased; exit, stderr, drain(stdout, opened.stdout, end.clone()));
        code
    };
    tokio::select! { () = input => Ok(None), code = output => code }
}

/// Pipes for the streams that are wanted.
///
/// # Errors
/// No descriptors are left.
pub fn pipes(wanted: Streams) -> std::io::Result<(Near, Ends)> {
    let (mut near, mut far) = (Near::default(), Ends::default());
    if wanted.stdin {
        let (sender, receiver) = pipe::pipe()?;
        (near.stdin, far.stdin) = (Some(sender), Some(receiver.into_blocking_fd()?));
    }
    let output = |wanted: bool| -> std::io::Result<(Option<pipe::Receiver>, Option<OwnedFd>)> {
        if !wanted {
            return Ok((None, None));
        }
        let (sender, receiver) = pipe::pipe()?;
        Ok((Some(receiver), Some(sender.into_blocking_fd()?)))
    };
    (near.stdout, far.stdout) = output(wanted.stdout)?;
    (near.stderr, far.stderr) = output(wanted.stderr)?;
    Ok((near, far))
}

async fn feed(from: Option<Stream>, to: Option<pipe::Sender>, process: &dyn Process) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    while let Ok(Some(data)) = from.reader.next().await {
        if to.write_all(&data).await.is_err() {
            // the process reads no more
            return;
        }
    }
    drop(to);
    process.input_ended().await;
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// The client writes a JSON object per change.
async fn resize(from: Option<Stream>, process: &dyn Process) {
    let Some(mut from) = from else { return };
    while let Some(data) = next(&mut from.reader).await {
        for size in serde_json::Deserializer::from_slice(&data).into_iter::<Size>().map_while(Result::ok) {
            process.resize(size.width, size.height).await;
        }
    }
}

async fn next(reader: &mut StreamReader) -> Option<Bytes> {
    reader.next().await.ok().flatten()
}

async fn drain(from: Option<pipe::Receiver>, to: Option<Stream>, mut end: tokio::sync::watch::Receiver<bool>) {
    let Some(mut from) = from else { return };
    let mut to = to;
    let mut piece = BytesMut::with_capacity(PIECE);
    while read(&mut from, &mut piece, &mut end).await {
        let data = piece.split().freeze();
        // read also where nobody wants it, so that the process never waits
        if let Some(stream) = to.as_mut()
            && stream.writer.send(data).await.is_err()
        {
            return;
        }
        piece.reserve(PIECE);
    }
    if let Some(stream) = to.as_mut() {
        finish(&mut stream.writer).await;
    }
}

async fn finish(writer: &mut StreamWriter) {
    // a lost connection ends the session anyway
    let _ = writer.finish().await;
}

/// Whether there was more to read, before the end or long silence after it.
async fn read(from: &mut pipe::Receiver, piece: &mut BytesMut, end: &mut tokio::sync::watch::Receiver<bool>) -> bool {
    let silence = async {
        // an error is the end too
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
fn status(protocol: &str, result: anyhow::Result<Option<i32>>) -> Option<String> {
    let status = match &result {
        Ok(None | Some(0)) => json!({ "metadata": {}, "status": "Success" }),
        Ok(Some(code)) => json!({
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
    let failed = status.get("message").and_then(serde_json::Value::as_str);
    failed.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::super::spdy::{Headers, Side};
    use super::*;

    #[test]
    fn an_exit_code_is_told_where_clients_look_for_it() {
        let text = status("v4.channel.k8s.io", Ok(Some(7))).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["reason"], "NonZeroExitCode");
        assert_eq!(read["details"]["causes"][0], json!({ "reason": "ExitCode", "message": "7" }));
    }

    #[tokio::test]
    async fn what_cannot_begin_ends_its_outputs_before_its_client_goes() {
        let (near, far) = tokio::io::duplex(PIECE);
        let (client, _none) = Connection::start(near, Side::Client);
        let (server, incoming) = Connection::start(far, Side::Server);
        let begin: Begin = Box::new(|_| Box::pin(std::future::ready(Err(anyhow::anyhow!("no such file")))));
        let wanted = Streams { stdout: true, ..Streams::default() };
        let serving = tokio::spawn(serve(wanted, begin, server, incoming, WITH_STATUS));
        let open = async |kind: &str| client.open(Headers::default().with("streamtype", kind)).await.unwrap();
        let (mut error, mut stdout) = (open("error").await, open("stdout").await);
        assert_eq!(next(&mut stdout.reader).await, None);
        let status = next(&mut error.reader).await.unwrap();
        assert!(String::from_utf8_lossy(&status).contains("no such file"), "{status:?}");
        assert!(!serving.is_finished());
    }

    #[test]
    fn older_clients_hear_of_failures_only() {
        assert_eq!(status("channel.k8s.io", Ok(Some(0))), None);
        assert_eq!(status("channel.k8s.io", Err(anyhow::anyhow!("gone"))), Some("gone".into()));
    }
}
