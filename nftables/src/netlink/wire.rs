//! Netlink's bytes: messages (`nlmsghdr` + `nfgenmsg`) of nested, 4-byte aligned attributes, written and read.
//!
//! Must not know: what the attributes mean, and sockets.

/// `nlmsghdr` and `nfgenmsg`: the bytes before a netfilter message's first attribute.
const HEADER: usize = 20;
/// `nlmsghdr` alone.
const MESSAGE_HEADER: usize = 16;
/// The flag of an attribute that contains attributes.
const NESTED: u16 = 1 << 15;
/// The two top bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;

pub const REQUEST: u16 = 0x1;
pub const ACK: u16 = 0x4;
pub const DUMP: u16 = 0x300;
pub const EXCLUSIVE: u16 = 0x200;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;

/// `NLMSG_ERROR` and `NLMSG_DONE`.
pub const ERROR: u16 = 2;
pub const DONE: u16 = 3;

/// The start of a netfilter message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `subsystem << 8 | message`.
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// `AF_INET`, `AF_INET6` or 0.
    pub family: u8,
    /// Host order here, network order on the wire.
    pub resource: u16,
}

/// Messages being written, one behind the other.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    message: usize,
}

impl Writer {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins a message; `end_message` must follow its attributes.
    pub fn begin_message(&mut self, header: Header) {
        self.message = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&header.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&header.flags.to_ne_bytes());
        self.bytes.extend_from_slice(&header.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[header.family, 0]);
        self.bytes.extend_from_slice(&header.resource.to_be_bytes());
    }

    pub fn end_message(&mut self) {
        let length = (self.bytes.len() - self.message) as u32;
        self.bytes[self.message..self.message + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// The bytes written so far: the place a later message would begin.
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.header(value.len(), kind);
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A NUL-terminated string.
    pub fn string(&mut self, kind: u16, value: &str) {
        self.header(value.len() + 1, kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    pub fn u8(&mut self, kind: u16, value: u8) {
        self.attribute(kind, &[value]);
    }

    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// An attribute that holds what `fill` writes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.open(kind);
        fill(self);
        self.close(start);
    }

    /// An attribute that holds attributes already written.
    pub fn nested_bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind | NESTED, value);
    }

    /// Opens a nested attribute; hands back what `close` wants.
    pub fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.header(0, kind | NESTED);
        start
    }

    /// Closes the nested attribute opened at `start`. Its length must be below 64 KiB: lengths are 16 bits.
    pub fn close(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "nested attribute of {length} bytes");
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    fn header(&mut self, length: usize, kind: u16) {
        self.bytes.extend_from_slice(&((length + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One received message: its type, sequence number and what follows the `nlmsghdr`.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind the `nfgenmsg`.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(HEADER - MESSAGE_HEADER..).unwrap_or_default())
    }
}

/// The messages of one datagram; stops at the first malformed one.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let body = bytes.get(MESSAGE_HEADER..length)?;
        let message = Message { kind: u16_at(bytes, 4)?, sequence: u32_at(bytes, 8)?, body };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes in order, as `(type without flags, value)`; stops at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of this type.
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut attributes = self;
        attributes.find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attributes inside the first attribute of this type.
    pub fn inside(self, kind: u16) -> Option<Attributes<'a>> {
        self.find(kind).map(Attributes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A host-order number in `bytes` at `offset`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u16, sequence: u32) -> Header {
        Header { kind, flags: REQUEST, sequence, family: 2, resource: 10 }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = Writer::default();
        writer.begin_message(header(7, 1));
        writer.string(1, "abc");
        writer.nested(2, |w| w.be32(3, 9));
        writer.end_message();
        writer.begin_message(header(8, 2));
        writer.end_message();
        let read: Vec<_> = messages(writer.bytes()).collect();
        assert_eq!(read.iter().map(|m| (m.kind, m.sequence)).collect::<Vec<_>>(), [(7, 1), (8, 2)]);
        assert_eq!(read[0].attributes().find(1), Some(&b"abc\0"[..]));
        assert_eq!(read[0].attributes().inside(2).and_then(|a| a.find(3)), Some(&[0, 0, 0, 9][..]));
    }

    #[test]
    fn truncated_bytes_end_the_iteration() {
        let mut writer = Writer::default();
        writer.begin_message(header(7, 1));
        writer.string(1, "abcdefgh");
        writer.end_message();
        for cut in 0..writer.position() {
            assert!(messages(&writer.bytes()[..cut]).next().is_none());
        }
        assert!(Attributes(&[200, 0, 1, 0, 5]).next().is_none());
        assert!(Attributes(&[2, 0, 1, 0]).next().is_none());
    }
}
