//! Protobuf's wire format: varints, tags, lengths.
//!
//! Must not know: messages.

pub const VARINT: u32 = 0;
pub const FIXED64: u32 = 1;
pub const BYTES: u32 = 2;
pub const FIXED32: u32 = 5;

pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_tag(number: u32, wire: u32, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | wire), out);
}

pub fn put_int(number: u32, value: i64, out: &mut Vec<u8>) {
    put_tag(number, VARINT, out);
    put_varint(value as u64, out);
}

pub fn put_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    put_tag(number, BYTES, out);
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// A nested message: `body` writes it, its length is put before it afterwards.
pub fn put_message(number: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    put_tag(number, BYTES, out);
    let start = out.len();
    out.push(0);
    body(out);
    let mut length = (out.len() - start - 1) as u64;
    if length < 0x80 {
        out[start] = length as u8;
        return;
    }
    let mut prefix = [0u8; 10];
    let mut size = 0;
    while length >= 0x80 {
        prefix[size] = length as u8 | 0x80;
        length >>= 7;
        size += 1;
    }
    prefix[size] = length as u8;
    out.splice(start..=start, prefix[..=size].iter().copied());
}

/// The payload of one field.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// Reads the fields of a message in the order they come.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn done(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and payload; None where the bytes are no protobuf.
    pub fn field(&mut self) -> Option<(u32, Payload<'a>)> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0)?;
        let payload = match (tag & 7) as u32 {
            VARINT => Payload::Varint(self.varint()?),
            FIXED64 => Payload::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            FIXED32 => {
                self.take(4)?;
                Payload::Fixed32
            }
            BYTES => {
                let length = usize::try_from(self.varint()?).ok()?;
                Payload::Bytes(self.take(length)?)
            }
            _ => return None,
        };
        Some((number, payload))
    }

    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for at in 0..10 {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}
