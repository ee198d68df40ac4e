//! Tar archives in memory: written reproducibly (no times, no owners but root), read without trusting a byte.
//!
//! Must not know: images.

use thiserror::Error;

const BLOCK: usize = 512;
/// What ustar's name field takes; longer names go into a GNU record before the entry.
const NAME: usize = 100;

/// One entry to write. Paths are relative, without a leading `/`.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub path: &'a str,
    pub mode: u32,
    pub content: Content<'a>,
}

#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    File(&'a [u8]),
    Directory,
    /// A symbolic link to this.
    Link(&'a str),
}

impl<'a> Entry<'a> {
    pub fn file(path: &'a str, mode: u32, bytes: &'a [u8]) -> Self {
        Self { path, mode, content: Content::File(bytes) }
    }

    pub fn directory(path: &'a str, mode: u32) -> Self {
        Self { path, mode, content: Content::Directory }
    }

    pub fn link(path: &'a str, target: &'a str) -> Self {
        Self { path, mode: 0o777, content: Content::Link(target) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TarError {
    #[error("the archive ends in the middle of {0:?}")]
    Short(String),
    #[error("the header at byte {0} is not tar's")]
    Header(usize),
}

/// Writes an archive: an image's layer, or anything else.
pub fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let (kind, bytes, link) = match entry.content {
            Content::File(bytes) => (b'0', bytes, ""),
            Content::Directory => (b'5', &[][..], ""),
            Content::Link(target) => (b'2', &[][..], target),
        };
        for (long, kind) in [(link, b'K'), (entry.path, b'L')] {
            if long.len() > NAME {
                let terminated = [long.as_bytes(), &[0]].concat();
                write(&mut out, "././@LongLink", 0o644, kind, &terminated, "");
            }
        }
        write(&mut out, entry.path, entry.mode, kind, bytes, link);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

fn write(out: &mut Vec<u8>, path: &str, mode: u32, kind: u8, bytes: &[u8], link: &str) {
    let mut header = [0u8; BLOCK];
    put(&mut header, 0, cut(path));
    put(&mut header, 100, format!("{mode:07o}").as_bytes());
    put(&mut header, 108, b"0000000");
    put(&mut header, 116, b"0000000");
    put(&mut header, 124, format!("{:011o}", bytes.len()).as_bytes());
    put(&mut header, 136, b"00000000000");
    put(&mut header, 148, b"        ");
    put(&mut header, 156, &[kind]);
    put(&mut header, 157, cut(link));
    put(&mut header, 257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

fn cut(text: &str) -> &[u8] {
    text.as_bytes().get(..NAME).unwrap_or(text.as_bytes())
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    if let Some(field) = header.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

/// The regular files of an archive, by path (without `./`); names up to 100 bytes, which is all that image layouts have.
///
/// # Errors
/// It ends early, or is no tar.
pub fn files(archive: &[u8]) -> Result<Vec<(String, &[u8])>, TarError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = archive.get(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let (path, kind, size) = read_header(header).ok_or(TarError::Header(at))?;
        let start = at + BLOCK;
        let bytes = start.checked_add(size).and_then(|end| archive.get(start..end));
        let bytes = bytes.ok_or_else(|| TarError::Short(path.clone()))?;
        at = start + size.next_multiple_of(BLOCK);
        if matches!(kind, b'0' | 0) {
            found.push((path, bytes));
        }
    }
    Ok(found)
}

/// Path, kind and size; `None` when the checksum is wrong.
fn read_header(header: &[u8]) -> Option<(String, u8, usize)> {
    let sum = octal(header.get(148..156)?)?;
    let blank = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
    let real: usize = header.iter().enumerate().map(|(at, byte)| usize::from(blank(at, *byte))).sum();
    let path = String::from_utf8_lossy(text(header.get(..NAME)?)).into_owned();
    let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
    (sum == real).then_some((path, *header.get(156)?, octal(header.get(124..136)?)?))
}

fn octal(field: &[u8]) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(text(field)).ok()?.trim(), 8).ok()
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_are_read_as_they_were_written() {
        let long = "d/".repeat(60) + "file";
        let archive = layer(&[
            Entry::directory("etc", 0o755),
            Entry::file("etc/passwd", 0o644, b"root"),
            Entry::link("bin", "usr/bin"),
            Entry::file(&long, 0o600, &[1; 513]),
        ]);
        let read = files(&archive).unwrap();
        assert_eq!(read[0], ("etc/passwd".into(), &b"root"[..]));
        assert_eq!(read[1].1, [1; 513]);
        assert_eq!(archive.len() % BLOCK, 0);
    }

    #[test]
    fn a_cut_archive_names_the_file_that_is_cut() {
        let archive = layer(&[Entry::file("a", 0o644, &[1; 600])]);
        assert_eq!(files(&archive[..BLOCK + 100]), Err(TarError::Short("a".into())));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), at in 0usize..512) {
            let _ = files(&bytes);
            let mut broken = layer(&[Entry::file("a", 0o644, &bytes)]);
            broken[at] ^= 0x15;
            let _ = files(&broken);
        }
    }
}
