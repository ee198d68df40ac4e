//! Pulling an image into containerd: from the registry into its content store, then unpacked into snapshots.
//!
//! Must not know: who asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use containerd_client::types::Descriptor;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use oci_client::client::{BlobResponse, SizedStream};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use pintle_cri::archive;
use pintle_cri::v1::AuthConfig;
use pintle_images::Endpoint;
use tonic::{Code, Status};

use super::{Facts, Link, Node, reference};
use crate::Inner;
use crate::client::{During, Lease, internal};

const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Layers of one image that come side by side.
const AT_ONCE: usize = 3;

/// A registry, and who we are to it.
struct Source {
    client: Client,
    auth: RegistryAuth,
    reference: Reference,
}

impl Inner {
    /// Pulls an image and unpacks it; its id.
    pub async fn pull(&self, asked: &str, auth: Option<&AuthConfig>) -> Result<String, Status> {
        let lease = self.client.lease().await.during("containerd gave no lease")?;
        let (source, target, bytes) = self.look(&reference(asked)?, auth).await?;
        let facts = self.fetch(&lease, &source, &target, &bytes).await?;
        self.unpack(&facts).await?;
        let (name, digest) = names(&source.reference, &target.digest);
        for name in name.iter().chain([&digest, &facts.id]) {
            self.name_image(&lease, name, &target).await?;
        }
        Ok(facts.id.clone())
    }

    /// The first place that has the image, mirrors before the registry; why the registry has not, where none has.
    async fn look(
        &self,
        reference: &Reference,
        auth: Option<&AuthConfig>,
    ) -> Result<(Source, Descriptor, Bytes), Status> {
        let mut refused = Status::not_found(format!("{reference} has no registry"));
        for endpoint in self.config.registries.endpoints(reference.registry()) {
            let source = Source::new(&endpoint, reference, auth)?;
            match source.manifest(&source.reference).await {
                Ok((target, bytes)) => return Ok((source, target, bytes)),
                Err(status) => {
                    tracing::debug!(host = endpoint.host, message = status.message(), "no image here");
                    refused = status;
                }
            }
        }
        Err(refused)
    }

    /// Brings what a manifest or index stands for into the content store, children before parents.
    async fn fetch(
        &self,
        lease: &Lease,
        source: &Source,
        target: &Descriptor,
        bytes: &Bytes,
    ) -> Result<Arc<Facts>, Status> {
        let node = parse(&target.digest, bytes)?;
        if node.config.is_some() {
            self.fetch_manifest(lease, source, target, bytes, &node).await?;
        } else {
            let none = || Status::not_found(format!("{} has no image for this platform", source.reference));
            let (at, link) = chosen(&node).ok_or_else(none)?;
            let (inner, inner_bytes) =
                source.manifest(&source.reference.clone_with_digest(link.digest.clone())).await?;
            let manifest = parse(&inner.digest, &inner_bytes)?;
            self.fetch_manifest(lease, source, &inner, &inner_bytes, &manifest).await?;
            let labels = [(format!("containerd.io/gc.ref.content.m.{at}"), inner.digest)].into();
            self.store(lease, target, bytes, labels).await?;
        }
        self.facts(target).await
    }

    async fn fetch_manifest(
        &self,
        lease: &Lease,
        source: &Source,
        target: &Descriptor,
        bytes: &Bytes,
        manifest: &Node,
    ) -> Result<(), Status> {
        let config = manifest.config.iter().map(|link| ("config".to_owned(), link));
        let layers = manifest.layers.iter().enumerate().map(|(at, link)| (format!("l.{at}"), link));
        let mut labels = HashMap::new();
        let mut blobs: Vec<Link> = Vec::new();
        for (label, link) in config.chain(layers) {
            labels.insert(format!("containerd.io/gc.ref.content.{label}"), link.digest.clone());
            if !blobs.iter().any(|known| known.digest == link.digest) {
                blobs.push(link.clone());
            }
        }
        let fetched: Vec<_> = blobs.into_iter().map(|link| self.fetch_blob(lease, source, link).boxed()).collect();
        stream::iter(fetched).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        self.store(lease, target, bytes, labels).await
    }

    async fn store(
        &self,
        lease: &Lease,
        target: &Descriptor,
        bytes: &Bytes,
        labels: HashMap<String, String>,
    ) -> Result<(), Status> {
        let (digest, size) = (target.digest.clone(), target.size);
        let link = Link { media_type: target.media_type.clone(), digest, size, platform: None };
        self.write_blob(lease, &link, labels, stream::iter([bytes.clone()]).boxed()).await
    }

    async fn fetch_blob(&self, lease: &Lease, source: &Source, link: Link) -> Result<(), Status> {
        if self.has_blob(&link.digest).await? {
            return Ok(());
        }
        let what = format!("failed to pull {} of {}", link.digest, source.reference);
        // containerd verifies the digest as it commits.
        let blob = source.blob(link.digest.clone()).await.during(&what)?;
        // The gRPC stream knows no errors: what broke is kept aside, and the short blob is never committed under its name.
        let broke: Arc<Mutex<Option<String>>> = Arc::default();
        let aside = broke.clone();
        let pieces = blob.stream.take_while(move |piece| {
            if let (Err(error), Ok(mut aside)) = (piece, aside.lock()) {
                *aside = Some(error.to_string());
            }
            futures::future::ready(piece.is_ok())
        });
        let pieces = pieces.filter_map(|piece| futures::future::ready(piece.ok())).boxed();
        let written = self.write_blob(lease, &link, HashMap::new(), pieces).await;
        let reason = broke.lock().ok().and_then(|mut reason| reason.take());
        match reason {
            Some(reason) => Err(Status::unavailable(format!("{what}: {reason}"))),
            None => written.during(what),
        }
    }
}

impl Source {
    /// Does not connect yet. A mirror gets no caller's credentials.
    fn new(endpoint: &Endpoint, reference: &Reference, auth: Option<&AuthConfig>) -> Result<Self, Status> {
        let mut reference = reference.clone();
        if endpoint.mirror {
            reference.set_mirror_registry(endpoint.host.clone());
        }
        let configured = || endpoint.auth.clone().map(|it| RegistryAuth::Basic(it.username, it.password));
        let callers = credentials(auth.filter(|_| !endpoint.mirror))?;
        let auth = callers.or_else(configured).unwrap_or(RegistryAuth::Anonymous);
        Ok(Self { client: endpoint.client().map_err(internal)?, auth, reference })
    }

    /// The bytes of a blob. (Boxed: the compiler cannot see that the registry client's future may cross threads.)
    fn blob(&self, digest: String) -> BoxFuture<'static, Result<SizedStream, Status>> {
        let (client, reference) = (self.client.clone(), self.reference.clone());
        Box::pin(async move {
            let answer = client.pull_blob_stream_partial(&reference, digest.as_str(), 0, None).await;
            let (BlobResponse::Full(blob) | BlobResponse::Partial(blob)) = answer.map_err(internal)?;
            Ok(blob)
        })
    }

    /// The manifest or index a reference names, and its descriptor; its digest is what was asked for, or what it is.
    async fn manifest(&self, reference: &Reference) -> Result<(Descriptor, Bytes), Status> {
        let pulled = self.client.pull_manifest_raw(reference, &self.auth, &MANIFESTS).await;
        let (bytes, _) = pulled.map_err(|error| refused(reference, error))?;
        let digest = archive::digest(&bytes);
        if reference.digest().is_some_and(|asked| asked.starts_with("sha256:") && asked != digest) {
            return Err(Status::data_loss(format!("the registry's {reference} has the digest {digest}")));
        }
        let document: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| Status::data_loss(format!("the manifest of {reference} is broken: {error}")))?;
        let stated = document.get("mediaType").and_then(serde_json::Value::as_str);
        let guessed = if document.get("manifests").is_some() { MANIFESTS[0] } else { MANIFESTS[1] };
        let size = bytes.len().try_into().unwrap_or(i64::MAX);
        let media_type = stated.unwrap_or(guessed).to_owned();
        Ok((Descriptor { media_type, digest, size, ..Descriptor::default() }, bytes))
    }
}

/// A registry that says no, as the kubelet tells it apart: not found, not allowed, not reached.
fn refused(reference: &Reference, error: oci_client::errors::OciDistributionError) -> Status {
    use oci_client::errors::OciDistributionError as E;
    let code = match &error {
        E::ImageManifestNotFoundError(_) => Code::NotFound,
        E::AuthenticationFailure(_) | E::UnauthorizedError { .. } => Code::PermissionDenied,
        _ => Code::Unknown,
    };
    Status::new(code, format!("failed to pull and unpack image {reference}: {}", internal(error).message()))
}

fn parse(digest: &str, bytes: &[u8]) -> Result<Node, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::data_loss(format!("the manifest {digest} is broken: {error}")))
}

fn chosen(index: &Node) -> Option<(usize, Link)> {
    let link = index.for_this_platform()?;
    let at = index.manifests.iter().position(|known| known.digest == link.digest)?;
    Some((at, link.clone()))
}

/// The tag, where it has one, and the name by digest.
fn names(reference: &Reference, digest: &str) -> (Option<String>, String) {
    let repository = format!("{}/{}", reference.registry(), reference.repository());
    (reference.tag().map(|tag| format!("{repository}:{tag}")), format!("{repository}@{digest}"))
}

fn credentials(auth: Option<&AuthConfig>) -> Result<Option<RegistryAuth>, Status> {
    let Some(auth) = auth else { return Ok(None) };
    if !auth.registry_token.is_empty() {
        return Ok(Some(RegistryAuth::Bearer(auth.registry_token.clone())));
    }
    if !auth.username.is_empty() {
        return Ok(Some(RegistryAuth::Basic(auth.username.clone(), auth.password.clone())));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let decoded = STANDARD.decode(&auth.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
    let (user, password) =
        pair.ok_or_else(|| Status::invalid_argument("invalid auth: it is no base64 of user:password"))?;
    Ok(Some(RegistryAuth::Basic(user.to_owned(), password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_in_three_forms() {
        let basic = RegistryAuth::Basic("ann".into(), "s:ecret".into());
        let plain = AuthConfig { username: "ann".into(), password: "s:ecret".into(), ..Default::default() };
        let encoded = AuthConfig { auth: STANDARD.encode("ann:s:ecret"), ..Default::default() };
        assert_eq!(credentials(Some(&plain)).unwrap(), Some(basic.clone()));
        assert_eq!(credentials(Some(&encoded)).unwrap(), Some(basic));
        assert_eq!(credentials(None).unwrap(), None);
        assert!(credentials(Some(&AuthConfig { auth: "?".into(), ..Default::default() })).is_err());
    }

    #[test]
    fn a_mirror_is_asked_without_the_callers_credentials() {
        let mirrors = vec!["http://127.0.0.1:5000".to_owned()];
        let settings = pintle_images::Registry { mirrors, ..Default::default() };
        let registries =
            pintle_images::Config { registries: [("docker.io".to_owned(), settings)].into(), ..Default::default() };
        let asked = AuthConfig { username: "ann".into(), password: "secret".into(), ..Default::default() };
        let reference = reference("web:1").unwrap();
        let endpoints = registries.endpoints(reference.registry());
        let sources: Vec<Source> =
            endpoints.iter().map(|endpoint| Source::new(endpoint, &reference, Some(&asked)).unwrap()).collect();
        let hosts: Vec<&str> = sources.iter().map(|source| source.reference.resolve_registry()).collect();
        assert_eq!(hosts[0], "127.0.0.1:5000");
        assert_eq!(sources[0].auth, RegistryAuth::Anonymous);
        assert_eq!(sources[1].auth, RegistryAuth::Basic("ann".into(), "secret".into()));
        assert_eq!(names(&sources[0].reference, "sha256:a").0.as_deref(), Some("docker.io/library/web:1"));
    }

    #[test]
    fn an_image_is_named_by_tag_and_by_digest() {
        let reference = reference("web:1").unwrap();
        let (tag, digest) = names(&reference, "sha256:a");
        assert_eq!(tag.as_deref(), Some("docker.io/library/web:1"));
        assert_eq!(digest, "docker.io/library/web@sha256:a");
    }
}
