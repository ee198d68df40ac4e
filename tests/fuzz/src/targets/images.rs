//! Documents and names of images: read as what they are, or refused.
//!
//! Must not know: archives and registries.

use pintle_images::{Digest, Reference, parsers};

/// Of what is read as a manifest or an index, every blob has a digest that names a file and nothing else.
pub(super) fn manifests_are_read_or_refused(bytes: &[u8]) {
    if let Ok(blobs) = parsers::manifest(bytes) {
        for blob in blobs {
            assert_eq!(Digest::from_hex(blob.hex()).unwrap(), blob);
        }
    }
    let _ = parsers::configuration(bytes);
}

/// What is read says itself in full, by which it is read as the same again.
pub(super) fn references_are_read_or_refused(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
    let parts: Vec<&str> = reference.path().split('/').collect();
    assert!(!parts.contains(&"..") && !parts.contains(&""), "{reference}");
}
