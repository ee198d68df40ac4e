//! The parsers of what registries and archives hold, for whoever holds them against hostile bytes.
//!
//! Must not know: the store.

use crate::digest::Digest;
use crate::error::Result;
use crate::manifest::{self, Document};

/// The blobs that a manifest or an index names, those of this platform first.
///
/// # Errors
/// It is neither.
pub fn manifest(bytes: &[u8]) -> Result<Vec<Digest>> {
    let digests = match manifest::parse(bytes)? {
        Document::Manifest(manifest) => {
            let layers = manifest.layers.into_iter().map(|it| it.digest);
            [manifest.config.digest].into_iter().chain(layers).collect()
        }
        Document::Index(entries) => {
            manifest::choose(&entries, &manifest::this_platform()).into_iter().map(|it| it.digest.clone()).collect()
        }
    };
    Ok(digests)
}

/// Whether it is an image's configuration.
///
/// # Errors
/// It is none.
pub fn configuration(bytes: &[u8]) -> Result<()> {
    manifest::parse_config(bytes).map(drop)
}
