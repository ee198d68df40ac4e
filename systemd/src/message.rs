//! D-Bus messages: calls as bytes, and what is needed of replies, errors and signals. Pure.
//!
//! Must not know: sockets.

use crate::Error;
use crate::wire::{Reader, Writer};

/// The fixed part: byte order, kind, flags, version, the body's length, serial, the length of the header's fields.
pub const FIXED: usize = 16;
/// No message of systemd's that matters here is longer.
const LONGEST: usize = 4 << 20;

const LITTLE: u8 = b'l';
const VERSION: u8 = 1;

/// A method call.
pub struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'static str,
    /// The types of the body.
    pub signature: &'a str,
    pub body: Vec<u8>,
}

impl Call<'_> {
    /// The whole message.
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let mut message = Writer::default();
        message.bytes(&[LITTLE, Kind::CALL, 0, VERSION]);
        message.u32(u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        message.u32(serial);
        message.array(8, |fields| {
            let mut field = |code: u8, kind: &str, value: &str| {
                fields.align(8);
                fields.byte(code);
                fields.signature(kind);
                if kind == "g" { fields.signature(value) } else { fields.text(value) }
            };
            field(1, "o", self.path);
            field(2, "s", self.interface);
            field(3, "s", self.member);
            field(6, "s", self.destination);
            if !self.signature.is_empty() {
                field(8, "g", self.signature);
            }
        });
        message.align(8);
        message.bytes(&self.body);
        message.into_bytes()
    }
}

/// What kind of message one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Reply,
    /// Its name; the text is the body.
    Error(String),
    /// Its member.
    Signal(String),
    Other,
}

impl Kind {
    const CALL: u8 = 1;
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub kind: Kind,
    /// The serial of the call that it answers.
    pub answers: Option<u32>,
    pub body: Vec<u8>,
}

/// How long the rest of a message is whose fixed part came: the fields, padded, and the body.
///
/// # Errors
/// Not a message, or an endless one.
pub fn rest(fixed: &[u8; FIXED]) -> Result<usize, Error> {
    let mut reader = Reader::new(fixed);
    let (order, _kind, _flags, version) = (reader.byte(), reader.byte(), reader.byte(), reader.byte());
    if order != Some(LITTLE) || version != Some(VERSION) {
        return Err(Error::Malformed("not little-endian D-Bus of version 1"));
    }
    let (body, _serial, fields) = (reader.u32(), reader.u32(), reader.u32());
    let number = |value: Option<u32>| u64::from(value.unwrap_or(u32::MAX));
    let rest = number(fields).next_multiple_of(8) + number(body);
    usize::try_from(rest).ok().filter(|rest| *rest <= LONGEST).ok_or(Error::Malformed("an endless message"))
}

/// Reads a whole message.
///
/// # Errors
/// Not a message.
pub fn decode(bytes: &[u8]) -> Result<Received, Error> {
    read(bytes).ok_or(Error::Malformed("a header that cannot be read"))
}

fn read(bytes: &[u8]) -> Option<Received> {
    let kind = *bytes.get(1)?;
    let mut reader = Reader::new(bytes);
    let (_start, length, _serial) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let mut fields = reader.array(8)?;
    let (mut member, mut error, mut answers) = (None, None, None);
    while !fields.is_at_end() {
        fields.align(8);
        let code = fields.byte()?;
        match (code, fields.signature()?) {
            (3, "s") => member = Some(fields.text()?),
            (4, "s") => error = Some(fields.text()?),
            (5, "u") => answers = Some(fields.u32()?),
            (_, "s" | "o") => drop(fields.text()?),
            (_, "g") => drop(fields.signature()?),
            (_, "u") => drop(fields.u32()?),
            _ => return None,
        }
    }
    reader.align(8);
    let body = reader.rest()?.to_vec();
    if u32::try_from(body.len()) != Ok(length) {
        return None;
    }
    let kind = match kind {
        2 => Kind::Reply,
        3 => Kind::Error(error?.to_owned()),
        4 => Kind::Signal(member?.to_owned()),
        _ => Kind::Other,
    };
    Some(Received { kind, answers, body })
}
