//! Exec and attach for a WebSocket client, over a SPDY connection to the runtime: channels here, streams there.
//!
//! Must not know: how either connection came about.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::SplitStream;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use super::spdy::{Connection, Headers, StreamError, StreamReader, StreamWriter};
use super::websocket::{self, Framing, Outgoing};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// A status of the runtime's may be this long; it is a few hundred bytes.
const MOST_STATUS: usize = 64 << 10;

/// The streams a client wants. With a terminal there is no stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A version of the remote command subprotocol over WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    pub framing: Framing,
    /// The error channel carries a JSON status at the end (v4); before, plain text and only on failure.
    status: bool,
    /// A client can close its stdin and go on reading (v5).
    half_close: bool,
}

const fn protocol(name: &'static str, framing: Framing, status: bool, half_close: bool) -> Protocol {
    Protocol { name, framing, status, half_close }
}

/// What is spoken here; the empty name is a client that offers none.
pub const PROTOCOLS: [Protocol; 6] = [
    protocol("v5.channel.k8s.io", Framing::Binary, true, true),
    protocol("v4.channel.k8s.io", Framing::Binary, true, false),
    protocol("v4.base64.channel.k8s.io", Framing::Base64, true, false),
    protocol("channel.k8s.io", Framing::Binary, false, false),
    protocol("base64.channel.k8s.io", Framing::Base64, false, false),
    protocol("", Framing::Binary, false, false),
];

/// The runtime's half of the session.
struct Opened {
    error: StreamReader,
    stdout: Option<StreamReader>,
    stderr: Option<StreamReader>,
    input: Input,
    /// Halves that nothing is sent on, kept so that they are not closed early.
    _unused: Vec<StreamWriter>,
}

struct Input {
    stdin: Option<StreamWriter>,
    resize: Option<StreamWriter>,
}

/// Serves the session until the command ends or the client goes.
pub async fn serve<IO>(socket: WebSocketStream<IO>, protocol: Protocol, runtime: Connection, wanted: Streams)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, mut source) = socket.split();
    let (client, write) = websocket::outgoing(sink, protocol.framing);
    let session = async move {
        // Tells the client that the session stands, before anything is printed.
        let first = if wanted.stdout {
            STDOUT
        } else if wanted.stderr {
            STDERR
        } else {
            ERROR
        };
        if client.send(first, &[]).await.is_err() {
            return;
        }
        let status = match open(&runtime, wanted).await {
            Ok(opened) => exchange(&mut source, &client, protocol, opened).await,
            Err(error) => Some(failure(&format!("the container runtime opened no streams: {error}"))),
        };
        if let Some(status) = status {
            report(&client, protocol, &status).await;
        }
        drop(client);
        runtime.go_away().await;
        drop(runtime);
        websocket::until_closed(&mut source).await;
    };
    tokio::join!(session, write);
}

async fn open(runtime: &Connection, wanted: Streams) -> Result<Opened, StreamError> {
    let stream = |kind: &str| runtime.open(Headers::default().with("streamtype", kind));
    let error = stream("error").await?;
    let mut unused = vec![error.writer];
    let mut input = Input { stdin: None, resize: None };
    if wanted.stdin {
        input.stdin = Some(stream("stdin").await?.writer);
    }
    let mut output = async |kind: &str, wanted: bool| -> Result<Option<StreamReader>, StreamError> {
        if !wanted {
            return Ok(None);
        }
        let opened = stream(kind).await?;
        unused.push(opened.writer);
        Ok(Some(opened.reader))
    };
    let stdout = output("stdout", wanted.stdout).await?;
    let stderr = output("stderr", wanted.stderr && !wanted.tty).await?;
    if wanted.tty {
        input.resize = Some(stream("resize").await?.writer);
    }
    Ok(Opened { error: error.reader, stdout, stderr, input, _unused: unused })
}

/// Carries both directions; the runtime's status, or `None` when the client went first.
async fn exchange<IO>(
    source: &mut SplitStream<WebSocketStream<IO>>,
    client: &Outgoing,
    protocol: Protocol,
    opened: Opened,
) -> Option<Bytes>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Opened { error, stdout, stderr, input, _unused } = opened;
    let from_runtime = async {
        // complaints first: clients such as `kubectl cp` leave when the output says that it is complete
        let outputs = async { tokio::join!(biased; copy(stderr, client, STDERR), copy(stdout, client, STDOUT)) };
        let (status, _) = tokio::join!(collect(error), outputs);
        status
    };
    tokio::select! {
        () = take_input(source, protocol, input) => None,
        status = from_runtime => Some(status),
    }
}

/// Passes a client's messages on until it goes.
async fn take_input<IO>(source: &mut SplitStream<WebSocketStream<IO>>, protocol: Protocol, mut input: Input)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    while let Some((channel, data)) = websocket::next(source, protocol.framing).await {
        let closes_stdin = protocol.half_close && data.first() == Some(&STDIN);
        match channel {
            STDIN => pass(&mut input.stdin, data).await,
            RESIZE => pass(&mut input.resize, data).await,
            CLOSE if closes_stdin => close(&mut input.stdin).await,
            // Upstream ignores what no channel is for.
            _ => {}
        }
    }
}

/// A stream that fails takes no more; the session goes on, since output may still come.
async fn pass(stream: &mut Option<StreamWriter>, data: Bytes) {
    if let Some(writer) = stream
        && writer.send(data).await.is_err()
    {
        *stream = None;
    }
}

async fn close(stream: &mut Option<StreamWriter>) {
    if let Some(mut writer) = stream.take() {
        // A lost connection shows on the streams that are read.
        let _ = writer.finish().await;
    }
}

async fn copy(from: Option<StreamReader>, client: &Outgoing, channel: u8) {
    let Some(mut from) = from else { return };
    while let Ok(Some(data)) = from.next().await {
        if client.send(channel, &data).await.is_err() {
            return;
        }
    }
}

/// The status a runtime sends at the end; made up when it sends none.
async fn collect(mut from: StreamReader) -> Bytes {
    let mut all = BytesMut::new();
    loop {
        match from.next().await {
            Ok(Some(data)) if all.len() + data.len() <= MOST_STATUS => all.extend_from_slice(&data),
            Ok(Some(_)) => return failure("the container runtime sent an endless status"),
            Ok(None) if all.is_empty() => return Bytes::from_static(br#"{"metadata":{},"status":"Success"}"#),
            Ok(None) => return all.freeze(),
            Err(_) if !all.is_empty() => return all.freeze(),
            Err(error) => return failure(&format!("the session with the container runtime broke: {error}")),
        }
    }
}

async fn report(client: &Outgoing, protocol: Protocol, status: &[u8]) {
    let text;
    let message = if protocol.status {
        status
    } else {
        let Some(plain) = plain_failure(status) else { return };
        text = plain;
        text.as_bytes()
    };
    // A client that is gone needs no status.
    let _ = client.send(ERROR, message).await;
}

/// What clients before v4 are told: nothing of a success, the message of a failure.
fn plain_failure(status: &[u8]) -> Option<String> {
    let Ok(read) = serde_json::from_slice::<Value>(status) else {
        return Some(String::from_utf8_lossy(status).into_owned());
    };
    let text = |key: &str| read.get(key).and_then(Value::as_str);
    (text("status") != Some("Success")).then(|| text("message").unwrap_or("the command failed").to_owned())
}

fn failure(message: &str) -> Bytes {
    let status = json!({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "details": { "causes": [{ "message": message }] },
        "code": 500,
    });
    Bytes::from(status.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::super::spdy::Side;
    use super::*;

    /// A command that prints nothing and succeeds.
    async fn succeeds(io: tokio::io::DuplexStream) {
        let (_connection, mut incoming) = Connection::start(io, Side::Server);
        let mut streams = vec![incoming.next().await.unwrap(), incoming.next().await.unwrap()];
        for stream in &mut streams {
            stream.writer.finish().await.unwrap();
        }
        while incoming.next().await.is_some() {}
    }

    #[tokio::test]
    async fn a_client_that_types_on_is_not_cut_off_before_it_has_read_the_end() {
        let (client, server) = tokio::io::duplex(1 << 10);
        let (near, far) = tokio::io::duplex(1 << 10);
        let types_on = async {
            let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            let mut heard = Vec::new();
            while let Some(Ok(message)) = client.next().await {
                if message.is_close() {
                    break;
                }
                heard.push(message.into_data());
            }
            let typed = client.get_mut().write_all(b"\x82\x81keys\x00").await;
            typed.expect("the connection stands until the client closes it");
            heard
        };
        let streams = Streams { stdout: true, ..Streams::default() };
        let session = async {
            let socket = websocket::start(server).await;
            serve(socket, PROTOCOLS[0], Connection::start(near, Side::Client).0, streams).await;
        };
        let (heard, (), ()) = tokio::join!(types_on, session, succeeds(far));
        assert_eq!(heard.last().unwrap(), &b"\x03{\"metadata\":{},\"status\":\"Success\"}"[..]);
    }

    #[test]
    fn clients_before_v4_hear_of_failures_only() {
        assert_eq!(plain_failure(br#"{"status":"Success"}"#), None);
        assert_eq!(plain_failure(&failure("gone")), Some("gone".into()));
        assert_eq!(plain_failure(b"not json"), Some("not json".into()));
    }
}
