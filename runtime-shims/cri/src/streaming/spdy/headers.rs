//! Stream headers, and their compressed form: one zlib stream per direction and connection, flushed after each block.
//!
//! Must not know: frames.

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;
use super::frame::FrameError;

/// Inflated bytes of one block, and headers in it: far more than any peer of ours sends.
const MOST_BYTES: usize = 64 << 10;
const MOST_HEADERS: usize = 128;

/// Header names (lower case) and values, in the order they came. Several values of one name are separated by NUL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// The value of a header; the name in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn encode(&self) -> Vec<u8> {
        let mut block = Vec::new();
        block.put_u32(self.0.len() as u32);
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(text.len() as u32);
            block.put_slice(text.as_bytes());
        }
        block
    }

    fn decode(mut block: &[u8]) -> Result<Self, FrameError> {
        let broken = || FrameError::Headers("a header block ends early");
        let count = block.try_get_u32().map_err(|_| broken())? as usize;
        if count > MOST_HEADERS {
            return Err(FrameError::Headers("too many headers"));
        }
        let mut text = || -> Result<String, FrameError> {
            let length = block.try_get_u32().map_err(|_| broken())? as usize;
            let (found, rest) = block.split_at_checked(length).ok_or_else(broken)?;
            block = rest;
            String::from_utf8(found.to_vec()).map_err(|_| FrameError::Headers("a header is not UTF-8"))
        };
        let pairs = (0..count).map(|_| Ok((text()?, text()?))).collect::<Result<_, FrameError>>()?;
        Ok(Self(pairs))
    }
}

/// Compresses the header blocks of one direction.
#[derive(Debug)]
pub struct Deflater {
    zlib: Compress,
}

impl Deflater {
    pub fn new() -> Result<Self, FrameError> {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&DICTIONARY).map_err(|_| FrameError::Headers("zlib refused the dictionary"))?;
        Ok(Self { zlib })
    }

    pub fn compress(&mut self, headers: &Headers) -> Result<Vec<u8>, FrameError> {
        let block = headers.encode();
        let mut out = Vec::with_capacity(block.len() + 64);
        let start = self.zlib.total_in();
        loop {
            let done = (self.zlib.total_in() - start) as usize;
            let rest = block.get(done..).unwrap_or_default();
            self.zlib
                .compress_vec(rest, &mut out, FlushCompress::Sync)
                .map_err(|_| FrameError::Headers("zlib failed to compress"))?;
            let all_taken = (self.zlib.total_in() - start) as usize == block.len();
            // Room left over means that the flush is complete.
            if all_taken && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

/// Inflates the header blocks of one direction.
#[derive(Debug)]
pub struct Inflater {
    zlib: Decompress,
}

impl Inflater {
    pub fn new() -> Self {
        Self { zlib: Decompress::new(true) }
    }

    pub fn inflate(&mut self, compressed: &[u8]) -> Result<Headers, FrameError> {
        let mut out = Vec::with_capacity(1024);
        let mut rest = compressed;
        loop {
            let (read, written) = (self.zlib.total_in(), out.len());
            let answer = self.zlib.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            rest = rest.get((self.zlib.total_in() - read) as usize..).unwrap_or_default();
            match answer {
                Ok(Status::StreamEnd) => return Err(FrameError::Headers("the header stream ended")),
                Ok(_) if rest.is_empty() && out.len() < out.capacity() => return Headers::decode(&out),
                Ok(_) if out.len() < out.capacity() && out.len() == written => {
                    return Err(FrameError::Headers("zlib made no progress"));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(&DICTIONARY).map_err(|_| FrameError::Headers("another dictionary"))?;
                }
                Err(_) => return Err(FrameError::Headers("not a zlib stream")),
            }
            if out.len() > MOST_BYTES {
                return Err(FrameError::Headers("too many bytes of headers"));
            }
            out.reserve(4096);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_of_one_connection_share_a_compression_state() {
        let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
        let headers = Headers::default().with("streamType", "stdout").with("port", "80");
        let sizes: Vec<usize> = (0..3)
            .map(|_| {
                let block = deflater.compress(&headers).unwrap();
                assert_eq!(inflater.inflate(&block).unwrap(), headers);
                block.len()
            })
            .collect();
        assert!(sizes[1] < sizes[0], "{sizes:?}");
        assert_eq!(headers.get("STREAMTYPE"), Some("stdout"));
    }

    #[test]
    fn a_block_that_inflates_without_end_is_refused() {
        let mut deflater = Deflater::new().unwrap();
        let bomb = deflater.compress(&Headers::default().with("x", "a".repeat(10 << 20))).unwrap();
        assert!(bomb.len() < 64 << 10);
        assert_eq!(Inflater::new().inflate(&bomb), Err(FrameError::Headers("too many bytes of headers")));
    }

    proptest! {
        #[test]
        fn any_headers_survive(pairs in proptest::collection::vec(("[a-z]{1,20}", ".{0,300}"), 0..40)) {
            let headers = pairs.iter().fold(Headers::default(), |all, (name, value)| all.with(name, value.as_str()));
            let block = Deflater::new().unwrap().compress(&headers).unwrap();
            prop_assert_eq!(Inflater::new().inflate(&block).unwrap(), headers);
        }

        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Inflater::new().inflate(&bytes);
            let _ = Headers::decode(&bytes);
            // After a good beginning too.
            let mut block = Deflater::new().unwrap().compress(&Headers::default().with("a", "b")).unwrap();
            block.extend_from_slice(&bytes);
            let _ = Inflater::new().inflate(&block);
        }
    }
}
