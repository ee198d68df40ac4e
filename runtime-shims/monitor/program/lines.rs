//! A stream of bytes as records of a CRI log: `TIMESTAMP STREAM TAG TEXT\n`, with tag `F` for a line's end and `P` for a
//! part of a line that goes on.
//!
//! Must not know: files, descriptors and clocks.

use alloc::vec::Vec;

/// The text of one record is no longer; a longer line is written in parts (upstream's runtimes agree on this size).
pub const LONGEST: usize = 16 * 1024;

/// One stream's way into the log.
#[derive(Debug)]
pub struct Lines {
    name: &'static [u8],
    /// Its line ends are a terminal's, whose carriage return nobody wrote.
    terminal: bool,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Lines {
    pub fn new(name: &'static [u8], terminal: bool) -> Lines {
        Lines { name, terminal, begun: Vec::new() }
    }

    /// Takes what the stream brought at `now_ns` since 1970, and puts the records that are complete at the end of `out`.
    pub fn push(&mut self, input: &[u8], now_ns: u64, out: &mut Vec<u8>) {
        for piece in input.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            while let Some((part, rest)) =
                text.split_at_checked(LONGEST - self.begun.len()).filter(|it| !it.1.is_empty())
            {
                self.record(b"P", part, now_ns, out);
                text = rest;
            }
            if ended {
                self.line(text, now_ns, out);
            } else {
                self.begun.extend_from_slice(text);
            }
        }
    }

    /// The stream has ended: a line without an end is a part.
    pub fn end(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            self.record(b"P", b"", now_ns, out);
        }
    }

    fn line(&mut self, mut text: &[u8], now_ns: u64, out: &mut Vec<u8>) {
        if self.terminal {
            if text.is_empty() && self.begun.last() == Some(&b'\r') {
                self.begun.pop();
            }
            text = text.strip_suffix(b"\r").unwrap_or(text);
        }
        self.record(b"F", text, now_ns, out);
    }

    fn record(&mut self, tag: &[u8], text: &[u8], now_ns: u64, out: &mut Vec<u8>) {
        head(self.name, tag, now_ns, out);
        out.extend_from_slice(&self.begun);
        out.extend_from_slice(text);
        out.push(b'\n');
        if !self.begun.is_empty() {
            self.begun = Vec::new();
        }
    }
}

/// A record's beginning, up to its text.
pub fn head(stream: &[u8], tag: &[u8], now_ns: u64, out: &mut Vec<u8>) {
    timestamp(now_ns, out);
    for word in [stream, tag] {
        out.push(b' ');
        out.extend_from_slice(word);
    }
    out.push(b' ');
}

/// RFC 3339 in UTC, always with nine digits, so that the records of a log sort and align.
pub fn timestamp(now_ns: u64, out: &mut Vec<u8>) {
    let (seconds, nanoseconds) = (now_ns / 1_000_000_000, now_ns % 1_000_000_000);
    let (day, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, date) = date(day);
    for (value, digits, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (date, 2, b'T'),
        (time / 3600, 2, b':'),
        (time / 60 % 60, 2, b':'),
        (time % 60, 2, b'.'),
        (nanoseconds, 9, b'Z'),
    ] {
        decimal(value, digits, out);
        out.push(after);
    }
}

fn decimal(value: u64, digits: u32, out: &mut Vec<u8>) {
    for place in (0..digits).rev() {
        out.push(b'0' + (value / 10_u64.pow(place) % 10) as u8);
    }
}

/// Year, month and day of the month of a day since 1970, by eras of 400 years that begin on the first of March.
fn date(day: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    let day = day + DAYS_FROM_MARCH_OF_YEAR_0;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day - (153 * from_march + 2) / 5 + 1)
}
