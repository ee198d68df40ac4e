//! Images as files: archives in the forms of OCI and of Docker, in and out.
//!
//! Must not know: registries.

mod contents;
mod export;
mod folder;
mod import;

use serde::{Deserialize, Serialize};

pub use export::Compression;

const INDEX: &str = "index.json";
const DOCKER: &str = "manifest.json";
const LAYOUT: &str = "oci-layout";
/// Where containerd looks for the full name of an image in an archive.
const IMAGE_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image in Docker's `manifest.json`; the paths are of members of the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}
