//! How values stand in a message: little-endian integers, byte strings behind their length, lists behind their count.
//!
//! Must not know: what the messages say. Shared by both ends, so it needs no more than `alloc`.

use alloc::string::String;
use alloc::vec::Vec;

/// The bytes are no message: they end early, go on too long, or hold a value that none of this version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Puts values behind one another.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(value.into())
    }

    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// What is longer than 4 GiB would be cut; no message comes near (see [`super::LARGEST`]).
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.bytes.extend_from_slice(&value[..length as usize]);
        self
    }

    pub fn list(&mut self, values: &[Vec<u8>]) -> &mut Self {
        self.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
        for value in values {
            self.bytes(value);
        }
        self
    }

    pub fn optional(&mut self, value: Option<&[u8]>) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            self.bytes(value);
        }
        self
    }
}

/// Takes values off the front of a message, whatever its bytes are.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Reader { rest: message }
    }

    /// Nothing may follow the last value.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        let length = self.u32()?;
        Ok(self.take(length as usize)?.to_vec())
    }

    pub fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// The count is believed only as far as the message has bytes for it: nothing is reserved ahead.
    pub fn list(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        (0..self.u32()?).map(|_| self.bytes()).collect()
    }

    pub fn optional(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        Ok(if self.bool()? { Some(self.bytes()?) } else { None })
    }
}
