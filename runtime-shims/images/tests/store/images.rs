//! Small images made by hand.
//!
//! Must not know: registries, the store.

use std::io::Write;

use pintle_images::Digest;
use serde_json::{Value, json};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A blob and what it is.
#[derive(Clone)]
pub struct Blob {
    pub media_type: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { media_type: media_type.into(), bytes: bytes.into() }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len() })
    }
}

/// A layer: its blob, and its uncompressed form.
#[derive(Clone)]
pub struct Layer {
    pub blob: Blob,
    pub diff_id: Digest,
}

impl Layer {
    pub fn plain(tar: Vec<u8>) -> Self {
        Self { diff_id: Digest::of(&tar), blob: Blob::new(LAYER, tar) }
    }

    pub fn gzip(tar: Vec<u8>) -> Self {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(&tar).unwrap();
        Self { diff_id: Digest::of(&tar), blob: Blob::new(&format!("{LAYER}+gzip"), writer.finish().unwrap()) }
    }

    pub fn zstd(tar: Vec<u8>) -> Self {
        let bytes = zstd::stream::encode_all(tar.as_slice(), 1).unwrap();
        Self { diff_id: Digest::of(&tar), blob: Blob::new(&format!("{LAYER}+zstd"), bytes) }
    }
}

#[derive(Clone)]
pub struct Image {
    pub manifest: Blob,
    pub config: Blob,
    pub layers: Vec<Layer>,
}

impl Image {
    pub fn new(layers: Vec<Layer>) -> Self {
        Self::of(layers, architecture(), "")
    }

    /// `mark` makes it differ from others of the same layers.
    pub fn of(layers: Vec<Layer>, architecture: &str, mark: &str) -> Self {
        let diff_ids: Vec<&Digest> = layers.iter().map(|it| &it.diff_id).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/run", mark] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = Blob::new(CONFIG, config.to_string());
        let blobs: Vec<Value> = layers.iter().map(|it| it.blob.descriptor()).collect();
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": blobs });
        Self { manifest: Blob::new(MANIFEST, manifest.to_string()), config, layers }
    }

    pub fn id(&self) -> Digest {
        self.config.digest()
    }
}

/// An index of images by architecture.
pub fn index(images: &[(&str, &Image)]) -> Blob {
    let entry = |(architecture, image): &(&str, &Image)| {
        let mut entry = image.manifest.descriptor();
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    index_of(images.iter().map(entry).collect())
}

pub fn index_of(entries: Vec<Value>) -> Blob {
    Blob::new(INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string())
}

pub fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// A tar archive, member by member.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn file(self, path: &str, content: &[u8]) -> Self {
        self.member(path, tar::EntryType::Regular, 0o644, "", content)
    }

    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.member(path, tar::EntryType::Directory, mode, "", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.member(path, tar::EntryType::Symlink, 0o777, target, b"")
    }

    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.member(path, tar::EntryType::Link, 0o644, target, b"")
    }

    /// Writes names as they are, however hostile.
    pub fn member(mut self, path: &str, kind: tar::EntryType, mode: u32, link: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1_000_000_000);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        self.0.append(&finished(header), content).unwrap();
        self
    }

    pub fn header(mut self, mut change: impl FnMut(&mut tar::Header), content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        change(&mut header);
        self.0.append(&finished(header), content).unwrap();
        self
    }

    /// Pax records for the next member.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..6).map(|digits| rest + digits).find(|it| it.to_string().len() + rest == *it).unwrap();
            bytes.extend(format!("{length} {key}=").bytes().chain(value.iter().copied()).chain([b'\n']));
        }
        self.member("pax", tar::EntryType::XHeader, 0o644, "", &bytes)
    }

    pub fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn finished(mut header: tar::Header) -> tar::Header {
    header.set_cksum();
    header
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}
