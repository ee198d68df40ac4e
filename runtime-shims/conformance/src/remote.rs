//! The client's side of streaming: SPDY/3.1, which every runtime of CRI v1 speaks, and WebSocket.
//!
//! Must not know: what is demanded.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use pintle_cri::streaming::spdy::{Connection, Headers, Side, Stream, StreamReader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::demand::Skip;

/// An answer's head is not longer.
const HEAD: usize = 8192;
/// Within which a stream says something, or ends.
const WITHIN: Duration = Duration::from_secs(30);
/// Half of a WebSocket session is closed by naming the channel on this one (v5).
const CLOSE: u8 = 255;

/// The streams of a command, as v4.channel.k8s.io has them.
pub struct Command {
    /// Keeps the others alive.
    _connection: Connection,
    pub error: StreamReader,
    pub stdin: Option<Stream>,
    pub stdout: StreamReader,
    /// None with a terminal, whose one output is stdout.
    pub stderr: Option<StreamReader>,
    pub resize: Option<Stream>,
}

impl Command {
    /// Opens the streams that were asked for.
    pub async fn open(url: &str, stdin: bool, tty: bool) -> anyhow::Result<Self> {
        let connection = upgrade(url, "v4.channel.k8s.io").await?;
        let error = open(&connection, "error").await?.reader;
        let stdin = if stdin { Some(open(&connection, "stdin").await?) } else { None };
        let stdout = open(&connection, "stdout").await?.reader;
        let stderr = if tty { None } else { Some(open(&connection, "stderr").await?.reader) };
        let resize = if tty { Some(open(&connection, "resize").await?) } else { None };
        Ok(Self { _connection: connection, error, stdin, stdout, stderr, resize })
    }

    pub async fn say(&mut self, text: &'static str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("no stdin")?;
        stdin.writer.send(Bytes::from_static(text.as_bytes())).await.context("sending to stdin")
    }

    pub async fn close_stdin(&mut self) -> anyhow::Result<()> {
        self.stdin.as_mut().context("no stdin")?.writer.finish().await.context("closing stdin")
    }

    pub async fn resize(&mut self, width: u16, height: u16) -> anyhow::Result<()> {
        let resize = self.resize.as_mut().context("no terminal")?;
        let size = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
        resize.writer.send(Bytes::from(size)).await.context("sending a size")
    }
}

/// A port of a pod, as portforward.k8s.io has it: two streams for a connection.
pub struct Port {
    pub error: StreamReader,
    pub data: Stream,
}

impl Port {
    pub async fn open(connection: &Connection, port: u16, request: u32) -> anyhow::Result<Self> {
        let stream = async |kind: &str| {
            let headers = Headers::default().with("streamtype", kind).with("port", port.to_string());
            let stream = connection.open(headers.with("requestid", request.to_string())).await;
            stream.with_context(|| format!("opening the stream {kind}"))
        };
        let mut error = stream("error").await?;
        error.writer.finish().await?;
        Ok(Self { error: error.reader, data: stream("data").await? })
    }
}

/// Speaks SPDY with the server behind a URL.
pub async fn upgrade(url: &str, protocol: &str) -> anyhow::Result<Connection> {
    let (host, path) = parts(url)?;
    let attempt = async {
        let mut socket = TcpStream::connect(host).await.with_context(|| format!("connecting to {host}"))?;
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
            head.push(socket.read_u8().await.context("reading the answer to an upgrade")?);
        }
        let text = String::from_utf8_lossy(&head);
        ensure!(text.starts_with("HTTP/1.1 101"), "the upgrade was answered with {:?}", text.lines().next());
        Ok(Connection::start(socket, Side::Client).0)
    };
    tokio::time::timeout(WITHIN, attempt).await.context("no answer to an upgrade")?
}

fn parts(url: &str) -> anyhow::Result<(&str, &str)> {
    let parts = url.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    parts.with_context(|| format!("{url:?} is no URL of plain HTTP"))
}

async fn open(connection: &Connection, kind: &str) -> anyhow::Result<Stream> {
    let stream = connection.open(Headers::default().with("streamtype", kind)).await;
    stream.with_context(|| format!("opening the stream {kind}"))
}

/// All that a stream says until its end.
pub async fn all(mut reader: StreamReader) -> anyhow::Result<Vec<u8>> {
    let mut found = Vec::new();
    let read = async {
        while let Ok(Some(data)) = reader.next().await {
            found.extend_from_slice(&data);
        }
    };
    tokio::time::timeout(WITHIN, read).await.context("a stream does not end")?;
    Ok(found)
}

/// The same as text.
pub async fn text(reader: StreamReader) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&all(reader).await?).into_owned())
}

/// So many bytes of a stream, or fewer where it ends.
pub async fn read(reader: &mut StreamReader, length: usize) -> anyhow::Result<Vec<u8>> {
    let mut found = Vec::new();
    let read = async {
        while found.len() < length {
            let Ok(Some(data)) = reader.next().await else { return };
            found.extend_from_slice(&data);
        }
    };
    let read = tokio::time::timeout(WITHIN, read).await;
    read.with_context(|| format!("only {} bytes of {length} came", found.len()))?;
    Ok(found)
}

/// What a stream says until this is in it.
pub async fn until(reader: &mut StreamReader, wanted: &str) -> anyhow::Result<String> {
    let mut found = String::new();
    let read = async {
        while !found.contains(wanted) {
            match reader.next().await {
                Ok(Some(data)) => found.push_str(&String::from_utf8_lossy(&data)),
                ended => bail!("the stream ended ({ended:?}) without {wanted:?}"),
            }
        }
        Ok(())
    };
    match tokio::time::timeout(WITHIN, read).await {
        Ok(read) => read.map(|()| found),
        Err(_) => bail!("the stream says no {wanted:?}, but {found:?}"),
    }
}

/// A command's session over WebSocket.
pub struct WebSocket(WebSocketStream<TcpStream>);

impl WebSocket {
    /// # Errors
    /// [`Skip`] where the runtime speaks no WebSocket, or not this protocol: kubelets translate then.
    pub async fn open(url: &str, protocol: &'static str) -> anyhow::Result<Self> {
        let (host, path) = parts(url)?;
        let mut request = format!("ws://{host}/{path}").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
        let socket = TcpStream::connect(host).await.with_context(|| format!("connecting to {host}"))?;
        let shaken = tokio::time::timeout(WITHIN, tokio_tungstenite::client_async(request, socket)).await;
        match shaken.context("no answer to a WebSocket's handshake")? {
            Ok((socket, answer)) if answer.headers().get("sec-websocket-protocol").is_some_and(|it| it == protocol) => {
                Ok(Self(socket))
            }
            Ok(_) | Err(Error::Http(_) | Error::Protocol(_)) => {
                Err(Skip(format!("the runtime speaks no {protocol} over WebSocket: kubelets translate it")).into())
            }
            Err(error) => Err(error).context("a WebSocket's handshake"),
        }
    }

    pub async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.send([&[0], text.as_bytes()].concat()).await
    }

    /// Half of the session: v5 alone can.
    pub async fn close_stdin(&mut self) -> anyhow::Result<()> {
        self.send(vec![CLOSE, 0]).await
    }

    async fn send(&mut self, message: Vec<u8>) -> anyhow::Result<()> {
        self.0.send(Message::Binary(message.into())).await.context("sending a message")
    }

    /// Everything until the end: stdout, stderr and the error channel.
    pub async fn all(mut self) -> anyhow::Result<[String; 3]> {
        let mut found = [const { Vec::new() }; 4];
        let read = async {
            while let Some(Ok(message)) = self.0.next().await {
                let data = message.into_data();
                if let Some((channel, data)) = data.split_first()
                    && let Some(stream) = found.get_mut(usize::from(*channel))
                {
                    stream.extend_from_slice(data);
                }
            }
        };
        tokio::time::timeout(WITHIN, read).await.context("a WebSocket does not end")?;
        let [_, out, err, error] = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok([out, err, error])
    }
}
