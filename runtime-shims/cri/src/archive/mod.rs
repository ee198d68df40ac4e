//! Container images as bytes: an OCI layout in a tar archive, built and read.
//!
//! Must not know: registries, runtimes, files on disk.

pub mod tar;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

pub use tar::{Entry, layer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Where containerd finds the full name of an image in an archive.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How a container of the image runs, under OCI's names.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// A signal's name, `SIGUSR1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

/// A descriptor of OCI's: what a blob is, and its digest (`sha256:` and 64 hexadecimal digits) and length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub struct Blob {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        let descriptor = Descriptor {
            media_type: media_type.into(),
            digest: digest(&bytes),
            size: bytes.len() as i64,
            annotations: Default::default(),
        };
        Self { descriptor, bytes }
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.descriptor.digest.replace(':', "/"))
    }
}

/// `sha256:` and the hexadecimal digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{hex}")
}

/// An image of this machine's architecture.
#[derive(Debug, Clone)]
pub struct Image {
    pub manifest: Blob,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

impl Image {
    /// Puts an image together from uncompressed layers (see [`layer`]). The same input gives the same digests.
    pub fn build(config: &ImageConfig, layers: Vec<Vec<u8>>) -> Self {
        let layers: Vec<Blob> = layers.into_iter().map(|bytes| Blob::new(LAYER, bytes)).collect();
        let descriptors: Vec<&Descriptor> = layers.iter().map(|layer| &layer.descriptor).collect();
        let diff_ids: Vec<&str> = descriptors.iter().map(|found| found.digest.as_str()).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = Blob::new(CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor,
            "layers": descriptors,
        });
        let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
        Self { manifest, config, layers }
    }

    /// An archive that containerd, docker and podman import, naming the image `reference`
    /// (`registry/name:tag`, in full).
    pub fn archive(&self, reference: &str) -> Vec<u8> {
        let mut named = self.manifest.descriptor.clone();
        let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        named.annotations.insert(IMAGE_NAME.into(), reference.into());
        named.annotations.insert(REF_NAME.into(), tag.into());
        let index = json!({ "schemaVersion": 2, "manifests": [named] }).to_string();
        let docker = json!([{
            "Config": self.config.path(),
            "RepoTags": [reference],
            "Layers": self.layers.iter().map(Blob::path).collect::<Vec<_>>(),
        }]);
        let docker = docker.to_string();
        let mut files = vec![
            ("oci-layout".to_owned(), &br#"{"imageLayoutVersion":"1.0.0"}"#[..]),
            ("index.json".to_owned(), index.as_bytes()),
            ("manifest.json".to_owned(), docker.as_bytes()),
        ];
        let blobs = self.layers.iter().chain([&self.config, &self.manifest]);
        files.extend(blobs.map(|blob| (blob.path(), blob.bytes.as_slice())));
        let entries: Vec<Entry<'_>> = files.iter().map(|(name, bytes)| Entry::file(name, 0o644, bytes)).collect();
        layer(&entries)
    }
}

/// This machine's architecture under OCI's (Go's) name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
