//! Turns a layer's stream into a folder that overlayfs takes as a lower layer, and reaches nothing outside it.
//!
//! Must not know: registries, images, where the folder will be used.

mod apply;
mod compression;
mod metadata;
mod root;
mod tar;

use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::config::Limits;
use crate::digest::{Digest, HashingReader};
use crate::error::{Context, Error, ErrorKind, Result};

pub(crate) use compression::decompress;
pub(crate) use metadata::is_opaque;
pub(crate) use tar::{Kind, TarReader, stream_error};

/// A layer that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Of the uncompressed stream, to its end.
    pub diff_id: Digest,
    /// Bytes of the uncompressed stream, about what it takes on disk.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Folders that were made for what is in them: the layer does not say their owner and mode.
    pub implied: BTreeSet<PathBuf>,
}

/// Unpacks a layer, compressed or not, into an empty folder. Blocks.
///
/// # Errors
/// The layer is not valid, wants out of the folder, or exceeds a limit. What is in the folder then is rubbish.
pub fn unpack(stream: impl Read + Send + 'static, dir: &Path, limits: &Limits) -> Result<Unpacked> {
    let plain = decompress(stream).context(|| "cannot read layer")?;
    let hashed = HashingReader::new(Limited { inner: plain, left: limits.layer_bytes, limit: limits.layer_bytes });
    let mut tar = TarReader::new(BufReader::with_capacity(128 << 10, hashed));
    let mut target = apply::Target::open(dir)?;
    let mut entries = 0;
    while let Some(entry) = tar.next_entry()? {
        entries += 1;
        if entries > limits.layer_entries {
            let text = format!("layer has more than {} entries", limits.layer_entries);
            return Err(Error::new(ErrorKind::Refused, text));
        }
        let shown = entry.shown_path();
        target.apply(&entry, &mut tar).context(|| format!("cannot unpack {shown:?}"))?;
    }
    let implied = target.finish()?;
    let mut buffered = tar.into_inner();
    std::io::copy(&mut buffered, &mut std::io::sink()).map_err(stream_error)?;
    let hashed = buffered.into_inner();
    let bytes = hashed.count;
    Ok(Unpacked { diff_id: hashed.finish(), bytes, entries, implied })
}

/// Fails beyond a bound, so that a small file cannot become an endless stream.
struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)? as u64;
        if read > self.left {
            let text = format!("layer is longer than {} bytes", self.limit);
            return Err(Error::new(ErrorKind::Refused, text).into());
        }
        self.left -= read;
        Ok(read as usize)
    }
}
