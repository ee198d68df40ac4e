//! Images as containerd has them: found by name, id or digest, listed, removed.
//!
//! Must not know: containers.

mod content;
mod pull;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, Image as Named, ListImagesRequest, UpdateImageRequest,
};
use containerd_client::types::Descriptor;
use oci_spec::image::ImageConfiguration;
use pintle_cri::v1;
use pintle_cri::{archive, pause};
use serde::Deserialize;
use tonic::{Code, Status};

use crate::Inner;
use crate::client::{During, request};

/// The image of every sandbox's own process; we bring it.
pub const PAUSE_IMAGE: &str = "pintle.dev/pause:1";
/// Labels names as containerd's own CRI does, so that both see the same images.
const MANAGED: &str = "io.cri-containerd.image";
const PINNED: &str = "io.cri-containerd.pinned";
/// Facts that are remembered; beyond it they are read again.
const REMEMBERED: usize = 1024;

/// What is read from an image's manifest and configuration.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Digest of the configuration: the image's id.
    pub id: String,
    pub config: ImageConfiguration,
    pub layers: Vec<Link>,
    /// Bytes of its blobs.
    pub size: u64,
}

/// A reference to a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// A manifest or an index.
#[derive(Debug, Deserialize)]
pub struct Node {
    pub config: Option<Link>,
    #[serde(default)]
    pub layers: Vec<Link>,
    #[serde(default)]
    pub manifests: Vec<Link>,
}

/// Facts by the digest of what a name stands for.
#[derive(Default)]
pub struct Known(Mutex<HashMap<String, Arc<Facts>>>);

/// An image with all its names.
#[derive(Clone, Debug)]
pub struct Found {
    pub facts: Arc<Facts>,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    pub pinned: bool,
}

impl Node {
    /// The manifest of this machine's platform in an index; one without a platform is taken for it.
    pub fn for_this_platform(&self) -> Option<&Link> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        let fits = |link: &&Link| {
            link.platform.as_ref().is_none_or(|found| found.os == "linux" && found.architecture == architecture)
        };
        self.manifests.iter().find(fits)
    }
}

impl Facts {
    /// Name of the snapshot that holds the first `count` layers: each is hashed with those below it.
    pub fn chain_id(&self, count: usize) -> String {
        let layers = self.config.rootfs().diff_ids();
        let mut ids = layers.iter().take(count);
        let first = ids.next().cloned().unwrap_or_default();
        ids.fold(first, |chain, layer| archive::digest(format!("{chain} {layer}").as_bytes()))
    }
}

impl Found {
    pub fn to_cri(&self) -> v1::Image {
        let user = self.facts.config.config().as_ref().and_then(|config| config.user().clone()).unwrap_or_default();
        let user = user.split(':').next().unwrap_or_default();
        let uid = user.parse().ok().map(|value| v1::Int64Value { value });
        v1::Image {
            id: self.facts.id.clone(),
            repo_tags: self.tags.clone(),
            repo_digests: self.digests.clone(),
            size: self.facts.size,
            username: if uid.is_some() { String::new() } else { user.to_owned() },
            uid,
            spec: Some(v1::ImageSpec { image: self.facts.id.clone(), ..Default::default() }),
            pinned: self.pinned,
        }
    }

    fn is(&self, asked: &str) -> bool {
        let id = self.facts.id.as_str();
        let named = |name: &String| *name == asked;
        id == asked
            || id.strip_prefix("sha256:").is_some_and(|hex| asked.len() >= 12 && hex.starts_with(asked))
            || self.tags.iter().any(named)
            || self.digests.iter().any(named)
    }
}

impl Inner {
    /// Every image whose content is here, with all its names.
    pub async fn images(&self) -> Result<Vec<Found>, Status> {
        let list = self.client.images().list(request(ListImagesRequest::default())).await;
        let mut all: BTreeMap<String, Found> = BTreeMap::new();
        for image in list.during("listing images")?.into_inner().images {
            let Some(target) = &image.target else { continue };
            let Ok(facts) = self.facts(target).await else { continue };
            let id = facts.id.clone();
            let empty = Found { facts, tags: Vec::new(), digests: Vec::new(), pinned: false };
            let found = all.entry(id).or_insert(empty);
            found.pinned |= image.labels.get(PINNED).is_some_and(|value| value == "pinned");
            match image.name.as_str() {
                name if name.starts_with("sha256:") => {}
                name if name.contains('@') => found.digests.push(image.name),
                _ => found.tags.push(image.name),
            }
        }
        Ok(all.into_values().collect())
    }

    /// The image that `asked` names: a reference in any form, an id, the beginning of one.
    pub async fn image(&self, asked: &str) -> Result<Option<Found>, Status> {
        let parsed = reference(asked).ok();
        let full = parsed.as_ref().map_or_else(|| asked.to_owned(), |reference| reference.whole());
        // of a tag and a digest the digest counts
        let by_digest = parsed.and_then(|it| Some(format!("{}/{}@{}", it.registry(), it.repository(), it.digest()?)));
        let names = [Some(asked.to_owned()), Some(full), by_digest];
        let all = self.images().await?;
        Ok(all.into_iter().find(|found| names.iter().flatten().any(|name| found.is(name))))
    }

    /// Forgets every name of an image; containerd collects what nothing uses.
    pub async fn remove_image(&self, asked: &str) -> Result<(), Status> {
        let Some(found) = self.image(asked).await? else { return Ok(()) };
        let names = found.tags.iter().chain(&found.digests).chain([&found.facts.id]);
        for name in names {
            // The last one waits for the collector, so that what a caller measures next is true.
            let delete = DeleteImageRequest { name: name.clone(), sync: *name == found.facts.id, target: None };
            self.client.images().delete(request(delete)).await.or_gone().during(format!("removing {name}"))?;
        }
        Ok(())
    }

    /// Facts of what a name stands for, read once.
    pub async fn facts(&self, target: &Descriptor) -> Result<Arc<Facts>, Status> {
        if let Some(facts) = self.images.get(&target.digest) {
            return Ok(facts);
        }
        let facts = Arc::new(self.read_facts(&target.digest).await?);
        self.images.put(&target.digest, facts.clone());
        Ok(facts)
    }

    async fn read_facts(&self, digest: &str) -> Result<Facts, Status> {
        let mut manifest = self.read_node(digest).await?;
        if manifest.config.is_none() {
            let link = manifest.for_this_platform().cloned();
            let link = link.ok_or_else(|| Status::not_found(format!("{digest} has no image for this platform")))?;
            manifest = self.read_node(&link.digest).await?;
        }
        let config = manifest.config.ok_or_else(|| Status::internal(format!("{digest} is no manifest")))?;
        let bytes = self.read_blob(&config.digest).await?;
        let parsed = serde_json::from_slice(&bytes)
            .map_err(|error| Status::internal(format!("the configuration {} is broken: {error}", config.digest)))?;
        let size = manifest.layers.iter().chain([&config]).map(|link| u64::try_from(link.size).unwrap_or(0)).sum();
        Ok(Facts { id: config.digest, config: parsed, layers: manifest.layers, size })
    }

    async fn read_node(&self, digest: &str) -> Result<Node, Status> {
        let bytes = self.read_blob(digest).await?;
        serde_json::from_slice(&bytes).map_err(|error| Status::internal(format!("{digest} is broken: {error}")))
    }

    /// Gives a name to what is in the content store.
    async fn name_image(&self, lease: &crate::client::Lease, name: &str, target: &Descriptor) -> Result<(), Status> {
        let mut labels = HashMap::from([(MANAGED.to_owned(), "managed".to_owned())]);
        if name == PAUSE_IMAGE {
            labels.insert(PINNED.to_owned(), "pinned".to_owned());
        }
        let image = Some(Named { name: name.to_owned(), labels, target: Some(target.clone()), ..Named::default() });
        let create = CreateImageRequest { image: image.clone(), ..Default::default() };
        match self.client.images().create(lease.request(create)).await {
            Err(status) if status.code() == Code::AlreadyExists => {
                let update = UpdateImageRequest { image, ..Default::default() };
                self.client.images().update(lease.request(update)).await.map(drop)
            }
            made => made.map(drop),
        }
        .during(format!("naming {name}"))
    }

    /// Brings the sandbox image, unless it is there.
    pub async fn ensure_sandbox_image(&self) -> anyhow::Result<()> {
        if self.image(PAUSE_IMAGE).await?.is_none() {
            pintle_cri::import_into_containerd(self.client.channel(), &pause::archive(PAUSE_IMAGE)).await?;
        }
        let found = self.image(PAUSE_IMAGE).await?;
        let facts = found.map(|found| found.facts).ok_or_else(|| anyhow::anyhow!("containerd lost {PAUSE_IMAGE}"))?;
        self.unpack(&facts).await?;
        Ok(())
    }
}

impl Known {
    fn get(&self, digest: &str) -> Option<Arc<Facts>> {
        self.0.lock().ok()?.get(digest).cloned()
    }

    fn put(&self, digest: &str, facts: Arc<Facts>) {
        let Ok(mut known) = self.0.lock() else { return };
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest.to_owned(), facts);
    }
}

/// A reference in any form that Docker knows: `busybox` is `docker.io/library/busybox:latest`.
pub fn reference(text: &str) -> Result<oci_client::Reference, Status> {
    let parsed: Result<oci_client::Reference, oci_client::ParseError> = text.parse();
    parsed.map_err(|error| Status::invalid_argument(format!("failed to parse image reference {text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(layers: &[&str]) -> Facts {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": layers},
        });
        let config = serde_json::from_value(config).unwrap();
        Facts { id: "sha256:0123456789abcdef".into(), config, layers: Vec::new(), size: 0 }
    }

    #[test]
    fn a_chain_id_hashes_each_layer_with_those_below() {
        let two = facts(&["sha256:a", "sha256:b"]);
        assert_eq!(two.chain_id(1), "sha256:a");
        assert_eq!(two.chain_id(2), archive::digest(b"sha256:a sha256:b"));
        assert_eq!(facts(&[]).chain_id(0), "");
    }

    #[test]
    fn an_image_is_found_by_id_name_and_the_beginning_of_its_id() {
        let found = Found {
            facts: Arc::new(facts(&[])),
            tags: vec!["docker.io/library/web:1".into()],
            digests: vec![],
            pinned: false,
        };
        for asked in ["sha256:0123456789abcdef", "0123456789abcdef", "0123456789ab", "docker.io/library/web:1"] {
            assert!(found.is(asked), "{asked}");
        }
        assert!(!found.is("0123") && !found.is("web"));
        assert_eq!(reference("web:1").unwrap().whole(), "docker.io/library/web:1");
        assert!(reference("web:1:2@").unwrap_err().message().starts_with("failed to parse image reference"));
    }
}
