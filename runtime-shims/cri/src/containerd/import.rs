//! An image archive into containerd's content store and image list, over its native API.
//!
//! A lease protects the blobs until the image refers to them: containerd collects what nothing refers to.
//! Must not know: the CRI.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    CreateImageRequest, CreateRequest, DeleteRequest, Image, UpdateImageRequest, WriteAction, WriteContentRequest,
};
use containerd_client::types;
use serde::Deserialize;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::NAMESPACE;
use crate::archive::{Descriptor, IMAGE_NAME, digest, tar};

/// containerd's own limit on a message is 16 MiB.
const PIECE: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(120);
/// Manifests and indexes may nest this deep: an index of indexes of manifests.
const DEEPEST: usize = 3;

type Files<'a> = HashMap<String, &'a [u8]>;

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// A manifest or an index: only what refers on.
#[derive(Deserialize)]
struct Node {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// A blob to write, with the labels that keep what it refers to.
#[derive(Debug)]
struct Write<'a> {
    digest: String,
    bytes: &'a [u8],
    labels: HashMap<String, String>,
}

/// Imports the images of an archive into the content store and image list of the containerd behind `channel`, in the
/// namespace of its CRI; their names. Nothing is unpacked.
///
/// # Errors
/// The archive is broken, or containerd refuses.
pub async fn import(channel: Channel, archive: &[u8]) -> anyhow::Result<Vec<String>> {
    let files: Files<'_> = tar::files(archive)?.into_iter().collect();
    let index = files.get("index.json").context("the archive has no index.json: it is no OCI layout")?;
    let index: Index = serde_json::from_slice(index).context("the archive's index.json is broken")?;
    let lease = lease(&channel).await.context("containerd gave no lease")?;
    let mut names = Vec::new();
    for target in index.manifests {
        let Some(name) = target.annotations.get(IMAGE_NAME).cloned() else { continue };
        let mut writes = Vec::new();
        plan(&files, &target, DEEPEST, &mut writes)?;
        for write in writes {
            let digest = write.digest.clone();
            write_blob(&channel, &lease, write).await.with_context(|| format!("cannot write {digest}"))?;
        }
        set_image(&channel, &lease, &name, &target).await.with_context(|| format!("cannot name {name}"))?;
        names.push(name);
    }
    release(&channel, lease).await;
    if names.is_empty() {
        bail!("the archive names no image ({IMAGE_NAME})");
    }
    Ok(names)
}

/// Lists the blobs below a descriptor, children before parents.
fn plan<'a>(files: &Files<'a>, target: &Descriptor, depth: usize, writes: &mut Vec<Write<'a>>) -> anyhow::Result<()> {
    let path = format!("blobs/{}", target.digest.replacen(':', "/", 1));
    let bytes = *files.get(&path).with_context(|| format!("the archive lacks {}", target.digest))?;
    if digest(bytes) != target.digest {
        bail!("the archive's {} has another content", target.digest);
    }
    let mut labels = HashMap::new();
    if target.media_type.contains("manifest") || target.media_type.contains("index") {
        if depth == 0 {
            bail!("the archive's indexes nest too deep");
        }
        let node: Node = serde_json::from_slice(bytes).with_context(|| format!("{} is broken", target.digest))?;
        for (label, child) in node.children() {
            plan(files, child, depth - 1, writes)?;
            labels.insert(label, child.digest.clone());
        }
    }
    writes.push(Write { digest: target.digest.clone(), bytes, labels });
    Ok(())
}

impl Node {
    /// What it refers to, with the labels that containerd's collector follows.
    fn children(&self) -> impl Iterator<Item = (String, &Descriptor)> {
        let numbered =
            |kind: &'static str| move |(at, child)| (format!("containerd.io/gc.ref.content.{kind}.{at}"), child);
        let config = self.config.iter().map(|child| ("containerd.io/gc.ref.content.config".to_owned(), child));
        let layers = self.layers.iter().enumerate().map(numbered("l"));
        config.chain(layers).chain(self.manifests.iter().enumerate().map(numbered("m")))
    }
}

fn within<T>(message: T, lease: Option<&str>) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    if let Some(lease) = lease {
        request.metadata_mut().insert("containerd-lease", AsciiMetadataValue::try_from(lease)?);
    }
    Ok(request)
}

/// A lease that ends by itself in an hour, should nobody end it.
async fn lease(channel: &Channel) -> anyhow::Result<String> {
    let id = format!("pintle-import-{:016x}", rand::random::<u64>());
    let expires = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), expires)]);
    let request = within(CreateRequest { id: id.clone(), labels }, None)?;
    LeasesClient::new(channel.clone()).create(request).await?;
    Ok(id)
}

async fn release(channel: &Channel, lease: String) {
    let Ok(request) = within(DeleteRequest { id: lease, sync: false }, None) else { return };
    if let Err(status) = LeasesClient::new(channel.clone()).delete(request).await {
        tracing::debug!(message = status.message(), "a lease of containerd's will end by itself");
    }
}

async fn write_blob(channel: &Channel, lease: &str, write: Write<'_>) -> anyhow::Result<()> {
    let total = write.bytes.len() as i64;
    let message = |action, offset: usize, data: &[u8]| WriteContentRequest {
        action: action as i32,
        r#ref: format!("pintle-{}", write.digest),
        total,
        expected: write.digest.clone(),
        offset: offset as i64,
        data: data.to_vec(),
        labels: write.labels.clone(),
    };
    let pieces = write.bytes.chunks(PIECE).enumerate();
    let mut messages: Vec<_> = pieces.map(|(at, piece)| message(WriteAction::Write, at * PIECE, piece)).collect();
    messages.push(message(WriteAction::Commit, write.bytes.len(), &[]));
    let request = within(futures::stream::iter(messages), Some(lease))?;
    let written = async {
        let mut answers = ContentClient::new(channel.clone()).write(request).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok::<(), tonic::Status>(())
    };
    match written.await {
        Err(status) if status.code() != Code::AlreadyExists => Err(anyhow!(status)),
        _ => Ok(()),
    }
}

async fn set_image(channel: &Channel, lease: &str, name: &str, target: &Descriptor) -> anyhow::Result<()> {
    let target = types::Descriptor {
        media_type: target.media_type.clone(),
        digest: target.digest.clone(),
        size: target.size,
        annotations: HashMap::new(),
    };
    // As the CRI plugin labels what it pulls; sandbox images are kept by the kubelet's image collection.
    let labels = HashMap::from([("io.cri-containerd.image".to_owned(), "managed".to_owned())]);
    let image = Some(Image { name: name.to_owned(), labels, target: Some(target), ..Image::default() });
    let mut client = ImagesClient::new(channel.clone());
    let create = CreateImageRequest { image: image.clone(), ..Default::default() };
    match client.create(within(create, Some(lease))?).await {
        Err(status) if status.code() == Code::AlreadyExists => {
            let update = UpdateImageRequest { image, ..Default::default() };
            client.update(within(update, Some(lease))?).await?;
            Ok(())
        }
        Err(status) => Err(status.into()),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_written_before_what_refers_to_them() {
        let archive = crate::pause::archive("registry.example/pause:1");
        let files: Files<'_> = tar::files(&archive).unwrap().into_iter().collect();
        let index: Index = serde_json::from_slice(files["index.json"]).unwrap();
        let mut writes = Vec::new();
        plan(&files, &index.manifests[0], DEEPEST, &mut writes).unwrap();
        assert_eq!(writes.len(), 3);
        let manifest = writes.last().unwrap();
        assert_eq!(manifest.digest, index.manifests[0].digest);
        assert_eq!(manifest.labels["containerd.io/gc.ref.content.config"], writes[0].digest);
        assert_eq!(manifest.labels["containerd.io/gc.ref.content.l.0"], writes[1].digest);
    }

    #[test]
    fn an_archive_with_another_content_than_its_digest_is_refused() {
        let archive = crate::pause::archive("registry.example/pause:1");
        let mut files: Files<'_> = tar::files(&archive).unwrap().into_iter().collect();
        let index: Index = serde_json::from_slice(files["index.json"]).unwrap();
        let path = format!("blobs/{}", index.manifests[0].digest.replace(':', "/"));
        files.insert(path, b"{}");
        let error = plan(&files, &index.manifests[0], DEEPEST, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("another content"), "{error}");
    }
}
