//! Tar streams: ustar, GNU and pax headers, with bounds on everything a header can claim.
//!
//! Our own reader, because a layer is hostile until its digest is known: names and attributes are bounded before they
//! are read into memory. Must not know: files on disk.

use std::io::{self, Read};

use crate::error::{Error, ErrorKind, Result};

const BLOCK: usize = 512;
/// Longest name or extended header, in bytes (Go's archive/tar reads as much).
const LONGEST_EXTENSION: u64 = 1 << 20;
/// All extended headers of one member: there may be any number.
const LONGEST_EXTENSIONS: u64 = 4 * LONGEST_EXTENSION;
/// Longest path or link.
const LONGEST_PATH: usize = 4096;
const XATTR: &[u8] = b"SCHILY.xattr.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    SymbolicLink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One member, with everything that extensions say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    pub size: u64,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    pub fn shown_path(&self) -> String {
        String::from_utf8_lossy(&self.path).chars().take(300).collect()
    }
}

/// What pax records and GNU long names say of the next member.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads members one by one; between two of them, it reads as the content of the last.
pub(crate) struct TarReader<R> {
    inner: R,
    /// Content of the current member that was not read, and the padding after it.
    left: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next member; nothing at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        let mut said = 0;
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header[124..136])?;
            let size = u64::try_from(size).map_err(|_| corrupt("negative size"))?;
            if b"LKxX".contains(&header[156]) {
                said += size.min(LONGEST_EXTENSIONS);
                check_extensions(said)?;
            }
            match header[156] {
                b'L' => extensions.path = Some(self.name(size)?),
                b'K' => extensions.link = Some(self.name(size)?),
                b'x' | b'X' => pax(&self.extension(size)?, &mut extensions)?,
                b'g' => self.expect(size),
                _ => return self.member(&header, size, extensions).map(Some),
            }
        }
    }

    fn member(&mut self, header: &[u8; BLOCK], size: u64, extensions: Extensions) -> Result<Entry> {
        let path = extensions.path.unwrap_or_else(|| header_path(header));
        let kind = kind(header[156], &path)?;
        let size = if kind == Kind::File { extensions.size.unwrap_or(size) } else { 0 };
        let link = extensions.link.unwrap_or_else(|| text(&header[157..257]));
        if path.len() > LONGEST_PATH || link.len() > LONGEST_PATH {
            return Err(Error::new(ErrorKind::Refused, "tar member's name is longer than 4096 bytes"));
        }
        self.expect(size);
        let owner = |extended: Option<u64>, field: &[u8]| -> Result<u32> {
            let id = extended.map_or_else(|| number(field).map(|it| it as u64), Ok)?;
            u32::try_from(id).map_err(|_| corrupt("owner beyond 32 bits"))
        };
        Ok(Entry {
            kind,
            size,
            mode: number(&header[100..108])? as u32 & 0o7777,
            uid: owner(extensions.uid, &header[108..116])?,
            gid: owner(extensions.gid, &header[116..124])?,
            mtime: extensions.mtime.map_or_else(|| number(&header[136..148]).map(|it| (it, 0)), Ok)?,
            device: (device(&header[329..337], kind)?, device(&header[337..345], kind)?),
            xattrs: extensions.xattrs,
            path,
            link,
        })
    }

    /// The next header; nothing at a block of zeros or the end of the stream.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(corrupt("archive ends in a header")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(stream_error(error)),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        check_sum(&block)?;
        Ok(Some(block))
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<()> {
        let wanted = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut self.inner.by_ref().take(wanted), &mut io::sink()).map_err(stream_error)?;
        if skipped < self.left {
            return Err(corrupt("archive ends in a member"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > LONGEST_EXTENSION {
            return Err(Error::new(ErrorKind::Refused, format!("tar extension of {size} bytes is too long")));
        }
        self.expect(size);
        let mut bytes = Vec::with_capacity(size as usize);
        self.read_to_end(&mut bytes).map_err(stream_error)?;
        Ok(bytes)
    }

    fn name(&mut self, size: u64) -> Result<Vec<u8>> {
        Ok(text(&self.extension(size)?))
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(corrupt("archive ends in a member").into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn check_extensions(said: u64) -> Result<()> {
    match said > LONGEST_EXTENSIONS {
        true => Err(Error::new(ErrorKind::Refused, "tar member with extensions of more than 4 MiB")),
        false => Ok(()),
    }
}

fn kind(flag: u8, path: &[u8]) -> Result<Kind> {
    Ok(match flag {
        0 | b'0' | b'7' if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::SymbolicLink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Err(Error::new(ErrorKind::Unsupported, "sparse tar members are not supported")),
        other => return Err(corrupt(&format!("unhandled tar header type {other}"))),
    })
}

/// The name in a header: of POSIX's form, what does not fit stands in a prefix.
fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&header[..100]);
    let posix = &header[257..263] == b"ustar\0";
    let prefix = if posix { text(&header[345..500]) } else { Vec::new() };
    if prefix.is_empty() { name } else { [prefix, name].join(&b'/') }
}

fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// A number of a header: octal, or signed base 256 where the first bit is set.
fn number(field: &[u8]) -> Result<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
}

fn binary(field: &[u8]) -> Result<i64> {
    let negative = field[0] & 0x40 != 0;
    let start: i128 = if negative { -1 } else { 0 };
    let mut value = (start << 7) | i128::from(field[0] & 0x7f);
    for byte in &field[1..] {
        value = (value << 8) | i128::from(*byte);
    }
    i64::try_from(value).map_err(|_| corrupt("number beyond 64 bits"))
}

fn octal(field: &[u8]) -> Result<i64> {
    let digits: Vec<u8> =
        field.iter().copied().skip_while(|it| *it == b' ').take_while(|it| !matches!(it, 0 | b' ')).collect();
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => Ok((value << 3) | i64::from(digit - b'0')),
        _ => Err(corrupt("number that is not octal")),
    })
}

/// Writers leave these fields as they are in members that are no devices.
fn device(field: &[u8], kind: Kind) -> Result<u32> {
    match kind {
        Kind::CharacterDevice | Kind::BlockDevice => {
            u32::try_from(number(field)?).map_err(|_| corrupt("device number beyond 32 bits"))
        }
        _ => Ok(0),
    }
}

/// The sum of the header's bytes with blanks for the sum itself; old writers added them as signed.
fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    let claimed = octal(&block[148..156])?;
    let others = || block[..148].iter().chain(&block[156..]);
    let unsigned: i64 = others().map(|byte| i64::from(*byte)).sum::<i64>() + 8 * 32;
    let signed: i64 = others().map(|byte| i64::from(*byte as i8)).sum::<i64>() + 8 * 32;
    match claimed == unsigned || claimed == signed {
        true => Ok(()),
        false => Err(corrupt("invalid tar header")),
    }
}

/// Records of `LENGTH key=value\n`, the length counting all of it.
fn pax(bytes: &[u8], extensions: &mut Extensions) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() && rest.iter().any(|byte| *byte != 0) {
        let (record, after) = split_record(rest).ok_or_else(|| corrupt("invalid pax record"))?;
        rest = after;
        let at = record.iter().position(|byte| *byte == b'=').ok_or_else(|| corrupt("pax record without value"))?;
        pax_record(&record[..at], &record[at + 1..], extensions)?;
    }
    Ok(())
}

fn split_record(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = rest.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&rest[..blank]).ok()?.parse().ok()?;
    let record = rest.get(blank + 1..length)?;
    Some((record.strip_suffix(b"\n")?, &rest[length..]))
}

fn pax_record(key: &[u8], value: &[u8], extensions: &mut Extensions) -> Result<()> {
    let whole = || -> Result<Option<u64>> {
        let text = std::str::from_utf8(value).ok().filter(|it| !it.is_empty());
        text.map(|it| it.parse().map_err(|_| corrupt("invalid number in a pax record"))).transpose()
    };
    match key {
        b"path" => extensions.path = (!value.is_empty()).then(|| value.to_vec()),
        b"linkpath" => extensions.link = (!value.is_empty()).then(|| value.to_vec()),
        b"size" => extensions.size = whole()?,
        b"uid" => extensions.uid = whole()?,
        b"gid" => extensions.gid = whole()?,
        b"mtime" => extensions.mtime = time(value)?,
        _ if key.starts_with(XATTR) => extensions.xattrs.push((key[XATTR.len()..].to_vec(), value.to_vec())),
        _ if key.starts_with(b"GNU.sparse.") => {
            return Err(Error::new(ErrorKind::Unsupported, "sparse tar members are not supported"));
        }
        _ => {}
    }
    Ok(())
}

/// Seconds with a fraction, maybe negative; the nanoseconds count forward.
fn time(value: &[u8]) -> Result<Option<(i64, u32)>> {
    let invalid = || corrupt("invalid time in a pax record");
    let value = std::str::from_utf8(value).map_err(|_| invalid())?;
    if value.is_empty() {
        return Ok(None);
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds: i64 = whole.parse().map_err(|_| invalid())?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| invalid())?;
    Ok(Some(match value.starts_with('-') && nanoseconds > 0 {
        true => (seconds.checked_sub(1).ok_or_else(invalid)?, 1_000_000_000 - nanoseconds),
        false => (seconds, nanoseconds),
    }))
}

fn corrupt(text: &str) -> Error {
    Error::new(ErrorKind::Corrupt, text.to_owned())
}

/// A stream that cannot be decompressed is the layer's fault; one that cannot be read has its own kind already.
pub(crate) fn stream_error(error: io::Error) -> Error {
    let broken =
        matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof);
    let ours = error.get_ref().is_some_and(|it| it.is::<Error>());
    match (broken || error.raw_os_error().is_none()) && !ours {
        true => corrupt(&error.to_string()),
        false => Error::io(error),
    }
    .context("cannot read layer")
}
