//! Pulling: resolve a name, fetch what is missing, unpack while it arrives, and only then make the image visible.
//!
//! Must not know: HTTP, the form of files on disk.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use futures::future::{BoxFuture, Either, select};
use futures::{FutureExt, StreamExt, TryStreamExt};
use oci_spec::image::ImageConfiguration;

use crate::config::Limits;
use crate::content::Content;
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fetch::{Fetcher, joined};
use crate::growth::{BreakOff, Growth};
use crate::index::{LayerRecord, Record};
use crate::keep::Lease;
use crate::layers::Layers;
use crate::manifest::{self, Descriptor, Document, Found, Layer, Manifest};
use crate::progress::{Event, Progress};
use crate::reference::{Object, Reference};
use crate::registry::{Auth, Remote};
use crate::store::Store;

/// Indexes in indexes that are followed.
const DEEPEST: u32 = 3;

/// An image that is there whole, to be entered in the index.
pub(crate) struct Pulled {
    pub id: Digest,
    /// What the name means at the registry: an index or a manifest.
    pub target: Digest,
    pub record: Record,
}

/// Pulls an image; nothing of it is visible before all of it is there.
pub(crate) async fn pull(
    store: &Store,
    reference: &Reference,
    auth: Option<&Auth>,
    progress: Progress,
    lease: &mut Lease,
) -> Result<Pulled> {
    let remotes = remotes(store, reference, auth)?;
    let fetcher = |remotes| Fetcher {
        content: store.content().clone(),
        limits: store.limits().clone(),
        remotes: Arc::new(remotes),
        progress: progress.clone(),
    };
    let (found, bytes, remotes) = resolve(fetcher(Vec::new()), remotes, reference).await?;
    let fetcher = fetcher(remotes);
    let chosen = choose(&fetcher, bytes, DEEPEST).await.and_then(|chosen| chosen.ok_or_else(no_match));
    let chosen = chosen.context(|| format!("failed to resolve reference \"{reference}\""))?;
    tracing::debug!(%reference, from = found, manifest = %Digest::of(&chosen.bytes), "resolved");
    fetch(store, &fetcher, &chosen, lease).await
}

fn remotes(store: &Store, reference: &Reference, auth: Option<&Auth>) -> Result<Vec<Remote>> {
    store.config().endpoints(reference.domain()).iter().map(|endpoint| Remote::new(endpoint, reference, auth)).collect()
}

/// Asks one place after the other; the one that knew comes first from then on. Also says who it was.
async fn resolve(
    fetcher: Fetcher,
    mut remotes: Vec<Remote>,
    reference: &Reference,
) -> Result<(String, Vec<u8>, Vec<Remote>)> {
    let mut last = None;
    for at in 0..remotes.len() {
        let remote = &remotes[at];
        let asked = fetcher.retry(&remote.host, || verified(remote, reference.object())).await;
        match asked {
            Ok(bytes) => {
                let host = remote.host.clone();
                remotes.rotate_left(at);
                return Ok((host, bytes, remotes));
            }
            Err(error) => {
                tracing::debug!(%reference, host = remote.host, %error, "not resolved here");
                last = Some(error);
            }
        }
    }
    let error = last.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "no registry to ask"));
    Err(worded(reference, error))
}

/// In the words that containerd's users know.
fn worded(reference: &Reference, error: Error) -> Error {
    let error = match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "not found").context(reference.to_string()),
        ErrorKind::Unauthorized => {
            error.context("pull access denied, repository does not exist or may require authorization")
        }
        _ => error.context("failed to do request"),
    };
    error.context(format!("failed to resolve reference \"{reference}\""))
}

async fn verified(remote: &Remote, object: &Object) -> Result<Vec<u8>> {
    let bytes = remote.manifest(object).await?;
    match object {
        Object::Digest(wanted) if Digest::of(&bytes) != *wanted => {
            let text = format!("manifest has digest {}, expected {wanted}", Digest::of(&bytes));
            Err(Error::new(ErrorKind::Corrupt, text))
        }
        _ => Ok(bytes),
    }
}

/// The manifest for this platform, through as many indexes as there are. Nothing where none is for it.
async fn choose(fetcher: &Fetcher, bytes: Vec<u8>, depth: u32) -> Result<Option<Found>> {
    let entries = match manifest::parse(&bytes)? {
        Document::Manifest(manifest) => return Ok(Some(Found::new(bytes, manifest))),
        Document::Index(entries) => entries,
    };
    let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
    for chosen in manifest::choose(&entries, &manifest::this_platform()) {
        let found = Box::pin(choose(fetcher, entry(fetcher, chosen).await?, depth)).await?;
        let Some(mut found) = found else { continue };
        if chosen.platform.is_some() || runs_here(fetcher, &found.manifest).await? {
            found.indexes.push(bytes);
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What an image says of itself, where the index did not say it.
async fn runs_here(fetcher: &Fetcher, manifest: &Manifest) -> Result<bool> {
    if !manifest.is_image() {
        return Ok(false);
    }
    let config = configuration(fetcher, manifest).await?;
    Ok(manifest::runs_on(&config, &manifest::this_platform()))
}

async fn configuration(fetcher: &Fetcher, manifest: &Manifest) -> Result<ImageConfiguration> {
    if manifest.config.size > manifest::LONGEST {
        return Err(Error::new(ErrorKind::Refused, "image configuration is too long"));
    }
    fetcher.fetch(&manifest.config, None).await?;
    manifest::parse_config(&fetcher.content.read(&manifest.config.digest, manifest::LONGEST)?)
}

fn no_match() -> Error {
    let own = manifest::this_platform();
    let text = format!("no match for platform {}/{} in manifest: not found", own.os, own.architecture);
    Error::new(ErrorKind::NotFound, text)
}

async fn entry(fetcher: &Fetcher, entry: &Descriptor) -> Result<Vec<u8>> {
    let mut last = Error::new(ErrorKind::NotFound, format!("manifest {} not found", entry.digest));
    for remote in fetcher.remotes.iter() {
        let object = Object::Digest(entry.digest.clone());
        match fetcher.retry(&remote.host, || verified(remote, &object)).await {
            Err(error) => last = error,
            bytes => return bytes,
        }
    }
    Err(last)
}

async fn fetch(store: &Store, fetcher: &Fetcher, found: &Found, lease: &mut Lease) -> Result<Pulled> {
    let manifest = &found.manifest;
    let blobs = manifest.layers.iter().chain([&manifest.config]).map(|it| &it.digest);
    store.lease(lease, blobs)?;
    let config = configuration(fetcher, manifest).await?;
    let layers = manifest::layers(manifest, &config, fetcher.limits.layers)?;
    store.lease(lease, layers.iter().map(|it| &it.diff_id))?;
    let record = keep(store, found, &layers, lease)?;
    let shown = layers.iter().map(|it| (it.blob.digest.clone(), it.blob.size)).collect();
    fetcher.progress.tell(|| Event::Resolved { manifest: record.manifest.clone(), layers: shown });
    obtain_all(store, fetcher, &layers).await?;
    Ok(Pulled { id: manifest.config.digest.clone(), target: found.target(), record })
}

/// Keeps what was written about an image; what the index says of it.
pub(crate) fn keep(store: &Store, found: &Found, layers: &[Layer], lease: &mut Lease) -> Result<Record> {
    let digests: Vec<Digest> = found.documents().map(Digest::of).collect();
    store.lease(lease, &digests)?;
    found.documents().try_for_each(|document| store.content().put(document).map(drop))?;
    let blobs: u64 = found.manifest.layers.iter().map(|it| it.size).sum();
    let layers = layers.iter().map(|it| LayerRecord { blob: it.blob.digest.clone(), diff_id: it.diff_id.clone() });
    let mut digests = digests.into_iter();
    Ok(Record {
        manifest: digests.next().unwrap_or_else(|| Digest::of(&found.bytes)),
        indexes: digests.collect(),
        size: blobs + found.manifest.config.size + found.bytes.len() as u64,
        layers: layers.collect(),
        pinned: false,
    })
}

async fn obtain_all(store: &Store, fetcher: &Fetcher, layers: &[Layer]) -> Result<()> {
    let work = distinct(layers).into_iter().map(|layer| {
        let (store, fetcher) = (store.clone(), fetcher.clone());
        async move {
            let _turn = store.turn().await;
            obtain(&fetcher, store.unpacked(), &layer).await?;
            fetcher.progress.tell(|| Event::Ready { blob: layer.blob.digest });
            Ok(())
        }
        .boxed()
    });
    run(work.collect(), store.limits()).await
}

/// Unpacks layers whose blobs are there.
pub(crate) async fn unpack_all(store: &Store, layers: &[Layer], progress: &Progress) -> Result<()> {
    let work = distinct(layers).into_iter().map(|layer| {
        let (store, progress) = (store.clone(), progress.clone());
        async move {
            let _turn = store.turn().await;
            if store.unpacked().record(&layer.diff_id).is_none() {
                unpack_blob(store.content(), store.unpacked(), &layer, store.limits()).await?;
            }
            progress.tell(|| Event::Ready { blob: layer.blob.digest });
            Ok(())
        }
        .boxed()
    });
    run(work.collect(), store.limits()).await
}

fn distinct(layers: &[Layer]) -> Vec<Layer> {
    let mut seen = BTreeSet::new();
    layers.iter().filter(|it| seen.insert((&it.blob.digest, &it.diff_id))).cloned().collect()
}

/// A few at once.
async fn run(work: Vec<BoxFuture<'static, Result<()>>>, limits: &Limits) -> Result<()> {
    futures::stream::iter(work).buffer_unordered(limits.parallel.max(1)).try_collect().await
}

/// Has a layer's blob and its unpacked form, whatever of both is missing.
async fn obtain(fetcher: &Fetcher, layers: &Layers, layer: &Layer) -> Result<()> {
    let missing = fetcher.content.size(&layer.blob.digest).is_none();
    let packed = layers.record(&layer.diff_id).is_none();
    match (missing, packed) {
        (false, false) => Ok(()),
        (true, false) => fetcher.fetch(&layer.blob, None).await,
        (false, true) => unpack_blob(&fetcher.content, layers, layer, &fetcher.limits).await,
        (true, true) => fetch_and_unpack(fetcher, layers, layer).await,
    }
}

async fn fetch_and_unpack(fetcher: &Fetcher, layers: &Layers, layer: &Layer) -> Result<()> {
    let growth = Arc::new(Growth::default());
    let _end = BreakOff(growth.clone());
    let follower = growth.reader();
    let unpacking = std::pin::pin!(unpack(layers, layer, &fetcher.limits, move || Ok(Box::new(follower) as _)));
    let fetching = std::pin::pin!(fetcher.fetch(&layer.blob, Some(growth.clone())));
    let unpacked = match select(fetching, unpacking).await {
        Either::Left((fetched, unpacking)) => {
            // it ends soon too, and cleans up; the download's failure says more than what followed from it
            let unpacked = unpacking.await;
            fetched?;
            unpacked
        }
        // rubbish may be the download's fault: whether it is what its digest says is known at its end
        Either::Right((unpacked, fetching)) if waits(&unpacked, &growth) => {
            fetching.await?;
            unpacked
        }
        Either::Right((unpacked, fetching)) => {
            growth.give_up();
            // what it says follows from the failure there is
            let _ = fetching.await;
            return unpacked;
        }
    };
    match unpacked {
        // what it followed was wrong and was fetched anew
        Err(_) if growth.is_broken() => unpack_blob(&fetcher.content, layers, layer, &fetcher.limits).await,
        unpacked => unpacked,
    }
}

fn waits(unpacked: &Result<()>, growth: &Growth) -> bool {
    unpacked.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Corrupt || growth.is_broken())
}

/// Unpacks a layer whose blob is there.
pub(crate) async fn unpack_blob(content: &Content, layers: &Layers, layer: &Layer, limits: &Limits) -> Result<()> {
    let (content, blob) = (content.clone(), layer.blob.digest.clone());
    unpack(layers, layer, limits, move || Ok(Box::new(content.reader(&blob)?) as _)).await
}

async fn unpack(
    layers: &Layers,
    layer: &Layer,
    limits: &Limits,
    stream: impl FnOnce() -> Result<Box<dyn Read + Send>> + Send + 'static,
) -> Result<()> {
    let (layers, limits, diff_id) = (layers.clone(), limits.clone(), layer.diff_id.clone());
    let unpacked = tokio::task::spawn_blocking(move || layers.unpack(&diff_id, stream, &limits));
    joined(unpacked.await).context(|| format!("failed to extract layer {}", layer.diff_id))
}
