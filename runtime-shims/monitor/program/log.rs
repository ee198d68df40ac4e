//! The log file of a container.
//!
//! Must not know: where the bytes come from. A log that cannot be written never holds a container up: what does not fit
//! is dropped, counted, and noted in the log as soon as it can be written again.

use alloc::format;
use alloc::vec::Vec;

use crate::lines;
use crate::sys::{self, Clock, Errno, Fd, Open, Result};

#[derive(Debug)]
pub struct Log {
    path: Vec<u8>,
    file: Fd,
    /// Bytes of records dropped since the last note, and why.
    dropped: Option<(u64, Errno)>,
    /// Bytes of records dropped ever.
    pub lost: u64,
}

impl Log {
    pub fn open(path: &[u8]) -> Result<Log> {
        let file = sys::open(path, Open::Append)?;
        Ok(Log { path: path.to_vec(), file, dropped: None, lost: 0 })
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Goes on in a fresh file when the old one was renamed; keeps the old one when that cannot be opened.
    pub fn reopen(&mut self) -> Result<()> {
        self.file = sys::open(&self.path, Open::Append)?;
        Ok(())
    }

    /// Nothing more will be written: the last chance for the note.
    pub fn finish(&mut self) {
        let _ = self.note();
    }

    /// Writes whole records.
    pub fn append(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        if let Err((written, why)) = self.note().map_err(|why| (0, why)).and_then(|()| self.write(records)) {
            let bytes = (records.len() - written) as u64;
            self.lost += bytes;
            self.dropped = Some((self.dropped.map_or(0, |(before, _)| before) + bytes, why));
        }
    }

    /// Says in the log what was dropped before.
    fn note(&mut self) -> Result<()> {
        let Some((bytes, why)) = self.dropped else { return Ok(()) };
        let mut note = Vec::new();
        lines::head(b"stderr", b"F", sys::now(Clock::Real), &mut note);
        let text = format!("[pintle: {bytes} bytes of log could not be written and are lost: error {}]\n", why.0);
        note.extend_from_slice(text.as_bytes());
        self.write(&note).map_err(|(_, why)| why)?;
        self.dropped = None;
        Ok(())
    }

    /// How many bytes of whole records were written before the error: the file never ends within one.
    fn write(&self, records: &[u8]) -> core::result::Result<(), (usize, Errno)> {
        let mut written = 0;
        while let Some(rest) = records.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(more) if more > 0 => written += more,
                failed => return Err((self.cut(records, written), failed.err().unwrap_or(Errno::EIO))),
            }
        }
        Ok(())
    }

    /// Takes the beginning of a record back off the file.
    fn cut(&self, records: &[u8], written: usize) -> usize {
        let whole = records.iter().take(written).rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if let Ok(length) = self.file.length() {
            let _ = self.file.truncate(length.saturating_sub(written - whole));
        }
        whole
    }
}
