//! Which compression a stream has, by its first bytes, and the stream without it.
//!
//! Must not know: what is compressed.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Between 0x184d2a50 and 0x184d2a5f, little-endian: a frame that decoders skip, with which zstd:chunked may start.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
/// Named in errors: known, not supported.
const UNSUPPORTED: [(&[u8], &str); 3] = [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4")];

/// The plain stream of gzip, zstd or plain bytes. Media types are not asked: they are wrong too often.
pub(crate) fn decompress<R: Read + Send + 'static>(mut stream: R) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::with_capacity(8);
    stream.by_ref().take(8).read_to_end(&mut head)?;
    if let Some((_, name)) = UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)) {
        let text = format!("{name} compression is not supported (gzip, zstd and none are)");
        return Err(crate::Error::new(crate::ErrorKind::Unsupported, text).into());
    }
    let stream = BufReader::with_capacity(128 << 10, Cursor::new(head.clone()).chain(stream));
    Ok(match &head[..] {
        it if it.starts_with(GZIP) => Box::new(MultiGzDecoder::new(stream)),
        it if it.starts_with(ZSTD) || it.get(1..4) == Some(ZSTD_SKIPPABLE) => Box::new(zstd(stream)?),
        _ => Box::new(stream),
    })
}

fn zstd<R: BufRead>(stream: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    zstd::stream::read::Decoder::with_buffer(stream)
}
