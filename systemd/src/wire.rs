//! D-Bus' marshalling: values of the few types that are needed, aligned as the specification has it. Pure.
//!
//! Little-endian, which is what every machine that Pintle runs on is.
//! Must not know: what a message is.

/// Bytes being written. Alignment counts from the first.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes(&value.to_le_bytes());
    }

    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// A string or an object path.
    pub fn text(&mut self, value: &str) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.bytes(value.as_bytes());
        self.byte(0);
    }

    pub fn signature(&mut self, value: &str) {
        self.byte(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.bytes(value.as_bytes());
        self.byte(0);
    }

    /// An array, whose elements `each` writes; they are aligned to `to`. Its length does not count the first gap.
    pub fn array(&mut self, to: usize, each: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length = self.0.len();
        self.align(to);
        let start = self.0.len();
        each(self);
        let written = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(length - 4..length) {
            place.copy_from_slice(&written.to_le_bytes());
        }
    }
}

/// Bytes being read, from outside: nothing is believed. Alignment counts from the first.
#[derive(Debug)]
pub struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.all.len()
    }

    /// What is left; `None` behind the end.
    pub fn rest(&self) -> Option<&'a [u8]> {
        self.all.get(self.at..)
    }

    pub fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.all.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A string or an object path.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.terminated(length)
    }

    pub fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        self.terminated(length.into())
    }

    fn terminated(&mut self, length: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    /// A reader of an array's elements, which are aligned to `to`; this one goes on behind them.
    pub fn array(&mut self, to: usize) -> Option<Reader<'a>> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.align(to);
        let (start, end) = (self.at, self.at.checked_add(length)?);
        self.take(length)?;
        Some(Reader { all: self.all.get(..end)?, at: start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_aligned_and_arrays_count_their_elements_alone() {
        let mut writer = Writer::default();
        writer.byte(7);
        writer.text("ab");
        writer.array(8, |writer| writer.u64(1));
        assert_eq!(
            writer.into_bytes(),
            [
                7, 0, 0, 0, 2, 0, 0, 0, b'a', b'b', 0, 0, // the string, then the gap before the length
                8, 0, 0, 0, // eight bytes of elements
                1, 0, 0, 0, 0, 0, 0, 0
            ]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.signature("ao");
        writer.array(4, |writer| {
            writer.text("/a");
            writer.text("/bc");
        });
        writer.u32(9);
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.signature(), Some("ao"));
        let mut array = reader.array(4).unwrap();
        assert_eq!((array.text(), array.text(), array.is_at_end()), (Some("/a"), Some("/bc"), true));
        assert_eq!((reader.u32(), reader.is_at_end()), (Some(9), true));
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_nothing() {
        assert_eq!(Reader::new(&[4, 0, 0, 0, b'a', b'b', 0]).text(), None);
        assert_eq!(Reader::new(&[2, 0, 0, 0, b'a', b'b', 1]).text(), None, "no terminator");
        assert_eq!(Reader::new(&[255, 255, 255, 255]).text(), None);
        assert!(Reader::new(&[255, 255, 255, 255, 0]).array(8).is_none());
        assert_eq!(Reader::new(&[1, 0, 0, 0, 0xff, 0]).text(), None, "no UTF-8");
    }
}
