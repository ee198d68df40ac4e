//! After the machine was started again: what a power failure cut short is found before anybody relies on it.
//!
//! Blobs and the index are flushed before they count, so this finds what a disk lost nevertheless. It costs a look at
//! every blob's length, once per boot. Must not know: registries.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::content::Content;
use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::index::{Index, IndexFile, Record};
use crate::layers::Layers;
use crate::manifest::{self, Document};

/// Names the boot that looked last.
const BOOT: &str = "boot";

/// Forgets images of which something is missing that cannot be made again here, and removes blobs that are cut short:
/// the next pull brings both back.
///
/// # Errors
/// The store cannot be read or written.
pub(crate) fn after_boot(root: &Path, content: &Content, layers: &Layers, index: &IndexFile) -> Result<()> {
    let path = root.join(BOOT);
    if fs::read_to_string(&path).is_ok_and(|seen| seen == layers.boot()) {
        return Ok(());
    }
    let lost = index.update(|index| {
        let lost: BTreeSet<Digest> = index
            .images
            .iter()
            .filter(|(id, it)| !is_whole(id, it, content, layers))
            .map(|(id, _)| id.clone())
            .collect();
        lost.iter().for_each(|id| forget(index, id));
        Ok(lost)
    })?;
    for id in lost {
        tracing::warn!(image = %id, "forgotten: a part of it is missing or damaged");
    }
    fs::write(&path, layers.boot()).context(|| format!("cannot write {}", path.display()))
}

/// Archives that brought it are imported again.
fn forget(index: &mut Index, id: &Digest) {
    index.remove(id);
    index.archives.retain(|_, archive| !archive.images.contains(id));
}

fn is_whole(id: &Digest, record: &Record, content: &Content, layers: &Layers) -> bool {
    let (config, manifest) = (small(content, id), small(content, &record.manifest));
    let (Some(_), Some(manifest)) = (config, manifest) else { return false };
    let Ok(Document::Manifest(manifest)) = manifest::parse(&manifest) else { return false };
    for layer in &manifest.layers {
        if content.size(&layer.digest).is_some_and(|size| size != layer.size) {
            discard(content, &layer.digest);
        }
    }
    record.layers.iter().all(|it| content.size(&it.blob).is_some() || layers.record(&it.diff_id).is_some())
}

/// A small blob, if it is what its name says.
fn small(content: &Content, digest: &Digest) -> Option<Vec<u8>> {
    let bytes = content.read(digest, manifest::LONGEST).ok();
    let right = bytes.filter(|bytes| Digest::of(bytes) == *digest);
    if right.is_none() {
        discard(content, digest);
    }
    right
}

fn discard(content: &Content, digest: &Digest) {
    if content.size(digest).is_some() {
        tracing::warn!(blob = %digest, "removed: it is not what its name says");
        // whoever reads it will find out
        let _ = fs::remove_file(content.path(digest));
    }
}
