//! SPDY/3.1 frames as values, and their bytes. Payloads of data frames are not read here: they may be 16 MiB.
//!
//! Must not know: streams' states, sockets.

use bytes::{Buf, BufMut};
use thiserror::Error;

use super::headers::{Deflater, Headers, Inflater};

const VERSION: u16 = 3;
/// The 8 bytes each frame begins with.
pub const HEAD: usize = 8;
/// A control frame may be this long; compressed headers of ours are some hundred bytes.
const MOST_CONTROL_BYTES: usize = 64 << 10;
const FLAG_FIN: u8 = 1;
/// Reset because nobody here takes such a stream.
pub const REFUSED_STREAM: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("SPDY version {0}, only 3 is spoken here")]
    Version(u16),
    #[error("a SPDY control frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a SPDY frame of type {0} is shorter than it must be")]
    Short(u16),
    #[error("broken SPDY headers: {0}")]
    Headers(&'static str),
}

/// The beginning of a frame: what follows it, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Data { stream: u32, fin: bool, length: usize },
    Control { kind: u16, fin: bool, length: usize },
}

/// Control frames that mean something here; the others (settings, window updates) are read and left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    SynStream {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    GoAway,
    /// More headers on an open stream; only their end-of-stream flag is heeded.
    MoreHeaders {
        stream: u32,
        fin: bool,
    },
    Ignored,
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

impl Head {
    pub fn parse(bytes: [u8; HEAD]) -> Result<Self, FrameError> {
        let [a, b, c, d, flags, rest @ ..] = bytes;
        let fin = flags & FLAG_FIN != 0;
        let length = rest.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        if a & 0x80 == 0 {
            return Ok(Self::Data { stream: u32::from_be_bytes([a, b, c, d]), fin, length });
        }
        match u16::from_be_bytes([a & 0x7f, b]) {
            VERSION if length > MOST_CONTROL_BYTES => Err(FrameError::TooLong(length)),
            VERSION => Ok(Self::Control { kind: u16::from_be_bytes([c, d]), fin, length }),
            other => Err(FrameError::Version(other)),
        }
    }
}

impl Control {
    /// Reads a control frame's payload. Headers must be inflated in the order they come, wanted or not.
    pub fn parse(kind: u16, fin: bool, mut payload: &[u8], inflater: &mut Inflater) -> Result<Self, FrameError> {
        let mut number = || payload.try_get_u32().map_err(|_| FrameError::Short(kind));
        const ID: u32 = 0x7fff_ffff;
        match kind {
            SYN_STREAM => {
                let (stream, _associated) = (number()? & ID, number()?);
                let block = payload.get(2..).ok_or(FrameError::Short(kind))?;
                Ok(Self::SynStream { stream, fin, headers: inflater.inflate(block)? })
            }
            SYN_REPLY | HEADERS => {
                let stream = number()? & ID;
                inflater.inflate(payload)?;
                let reply = kind == SYN_REPLY;
                Ok(if reply { Self::SynReply { stream, fin } } else { Self::MoreHeaders { stream, fin } })
            }
            RST_STREAM => Ok(Self::Reset { stream: number()? & ID, status: number()? }),
            PING => Ok(Self::Ping(number()?)),
            GOAWAY => Ok(Self::GoAway),
            _ => Ok(Self::Ignored),
        }
    }

    /// The frame's bytes. [`Control::Ignored`] has none.
    pub fn encode(&self, deflater: &mut Deflater) -> Result<Vec<u8>, FrameError> {
        let mut payload = Vec::new();
        let (kind, fin) = match self {
            Self::SynStream { stream, fin, headers } => {
                payload.put_u32(*stream);
                payload.put_u32(0);
                // Priority and slot: none.
                payload.put_u16(0);
                payload.put_slice(&deflater.compress(headers)?);
                (SYN_STREAM, *fin)
            }
            Self::SynReply { stream, fin } | Self::MoreHeaders { stream, fin } => {
                payload.put_u32(*stream);
                payload.put_slice(&deflater.compress(&Headers::default())?);
                (if matches!(self, Self::SynReply { .. }) { SYN_REPLY } else { HEADERS }, *fin)
            }
            Self::Reset { stream, status } => {
                payload.put_u32(*stream);
                payload.put_u32(*status);
                (RST_STREAM, false)
            }
            Self::Ping(id) => {
                payload.put_u32(*id);
                (PING, false)
            }
            Self::GoAway => {
                payload.put_u64(0);
                (GOAWAY, false)
            }
            Self::Ignored => return Ok(Vec::new()),
        };
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.put_u16(0x8000 | VERSION);
        bytes.put_u16(kind);
        bytes.put_u32(u32::from(fin) << 24 | payload.len() as u32);
        bytes.put_slice(&payload);
        Ok(bytes)
    }
}

/// The 8 bytes before a data frame's payload; `length` below 16 MiB.
pub fn data_head(stream: u32, fin: bool, length: usize) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    let (id, rest) = bytes.split_at_mut(4);
    id.copy_from_slice(&(stream & 0x7fff_ffff).to_be_bytes());
    rest.copy_from_slice(&(u32::from(fin) << 24 | (length as u32 & 0x00ff_ffff)).to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reread(bytes: &[u8], inflater: &mut Inflater) -> Control {
        let (head, payload) = bytes.split_at(HEAD);
        match Head::parse(head.try_into().unwrap()).unwrap() {
            Head::Control { kind, fin, length } => {
                assert_eq!(length, payload.len());
                Control::parse(kind, fin, payload, inflater).unwrap()
            }
            data => panic!("{data:?}"),
        }
    }

    #[test]
    fn control_frames_are_read_as_they_were_written() {
        let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
        let headers = Headers::default().with("streamtype", "error");
        for frame in [
            Control::SynStream { stream: 1, fin: false, headers },
            Control::SynReply { stream: 1, fin: true },
            Control::MoreHeaders { stream: 7, fin: false },
            Control::Reset { stream: 5, status: 5 },
            Control::Ping(4),
            Control::GoAway,
        ] {
            let bytes = frame.encode(&mut deflater).unwrap();
            assert_eq!(reread(&bytes, &mut inflater), frame);
        }
    }

    #[test]
    fn data_frames_carry_stream_end_and_length() {
        let head = Head::parse(data_head(9, true, 70_000)).unwrap();
        assert_eq!(head, Head::Data { stream: 9, fin: true, length: 70_000 });
    }

    #[test]
    fn another_version_and_an_endless_control_frame_are_refused() {
        assert_eq!(Head::parse([0x80, 2, 0, 1, 0, 0, 0, 0]), Err(FrameError::Version(2)));
        assert_eq!(Head::parse([0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]), Err(FrameError::TooLong(0x00ff_ffff)));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_no_panic(
            head: [u8; HEAD],
            kind in 0u16..10,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Head::parse(head);
            let _ = Control::parse(kind, false, &payload, &mut Inflater::new());
        }
    }
}
