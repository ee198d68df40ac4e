//! Bytes both ways between two connections.
//!
//! Must not know: what they say.

use std::io;
use std::pin::pin;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

/// Between reading and writing, in each direction.
const BUFFER: usize = 16 << 10;

/// Until both directions have ended, each on its own, or one side breaks off. What that side said before reaches the other,
/// however slowly it reads; and a side that cannot be written to any more may still have something to say.
///
/// # Errors
/// What broke off.
pub async fn both_ways<N, F>(near: N, far: F) -> io::Result<()>
where
    N: AsyncRead + AsyncWrite,
    F: AsyncRead + AsyncWrite,
{
    let ((from_near, to_near), (from_far, to_far)) = (split(near), split(far));
    let mut there = pin!(carry(from_near, to_far));
    let mut back = pin!(carry(from_far, to_near));
    tokio::select! {
        ended = &mut there => match ended {
            End::Broken(error) => Err(error),
            End::Said | End::Unheard => back.await.result(),
        },
        ended = &mut back => match ended {
            End::Broken(error) => Err(error),
            End::Said | End::Unheard => there.await.result(),
        },
    }
}

/// How a direction ended.
enum End {
    /// In order.
    Said,
    /// Nobody takes it any more.
    Unheard,
    /// Whoever spoke is gone.
    Broken(io::Error),
}

impl End {
    fn result(self) -> io::Result<()> {
        if let Self::Broken(error) = self { Err(error) } else { Ok(()) }
    }
}

/// Everything that was read is written before an end of any kind is handed on.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> End {
    let mut buffer = vec![0; BUFFER];
    let end = loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) => break End::Said,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(error) => break End::Broken(error),
        };
        if to.write_all(read).await.is_err() || to.flush().await.is_err() {
            break End::Unheard;
        }
    };
    // one that is gone needs no end
    let _ = to.shutdown().await;
    end
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{DuplexStream, ReadBuf, duplex};

    use super::*;

    /// Says so much, then breaks off; what is written to it is refused.
    struct Broken(usize);

    impl AsyncRead for Broken {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.0 == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let length = self.0.min(1000).min(to.remaining());
            to.put_slice(&vec![7; length]);
            self.0 -= length;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn read(mut from: DuplexStream) -> usize {
        let mut all = Vec::new();
        from.read_to_end(&mut all).await.unwrap();
        all.len()
    }

    #[tokio::test]
    async fn what_was_said_before_a_connection_broke_arrives() {
        let (mut client, near) = duplex(64);
        client.write_all(b"not heard any more").await.unwrap();
        let (relayed, heard) = tokio::join!(both_ways(near, Broken(100_000)), read(client));
        assert_eq!(heard, 100_000);
        assert_eq!(relayed.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn each_direction_ends_on_its_own() {
        let ((mut client, near), (mut server, far)) = (duplex(64), duplex(64));
        let relayed = tokio::spawn(both_ways(near, far));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!((question.as_str(), read(client).await), ("question", 6));
        assert!(relayed.await.unwrap().is_ok());
    }
}
