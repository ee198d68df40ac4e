//! The store as everybody uses it: images by name, their layers, what holds them, and collection of the rest.
//!
//! Several processes may have one store open. Must not know: containers, CRI.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci_spec::image::ImageConfiguration;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::{Config, Limits};
use crate::content::{Content, remove_begun};
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::index::{Index, IndexFile, file_names};
use crate::keep::{Hold, Keep, Lease};
use crate::layers::Layers;
use crate::manifest;
use crate::progress::Progress;
use crate::pull;
use crate::reference::Reference;
use crate::registry::Auth;
use crate::repair;

/// How long the unfinished blobs of a pull that died are kept for its next try.
const RESUMABLE: Duration = Duration::from_secs(24 * 3600);
/// How long the writers of a pull that failed may take to notice.
const WRITERS_END: Duration = Duration::from_secs(1);

/// An image that is there whole.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// Full names with a tag: `docker.io/library/busybox:latest`.
    pub tags: Vec<String>,
    /// Full names with the digest they had at the registry (of the index, where there are several platforms).
    pub digests: Vec<String>,
    /// Compressed, with configuration and manifest, in bytes.
    pub size: u64,
    pub config: Arc<ImageConfiguration>,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Not for garbage collection by anybody.
    pub pinned: bool,
}

/// What the store takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

/// Images on disk. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    root: PathBuf,
    config: Config,
    content: Content,
    layers: Layers,
    index: IndexFile,
    keep: Keep,
    /// Layers worked on at once by all pulls, since each takes two threads.
    turns: Semaphore,
    /// One pull of a name at a time: the second finds what the first brought.
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    configs: Mutex<BTreeMap<Digest, Arc<ImageConfiguration>>>,
}

impl Store {
    /// Opens a store, or makes one. Only root can look into it: layers hold other machines' set-user-ID programs.
    ///
    /// # Errors
    /// The folder cannot be made, or the index is of a later release.
    pub fn open(root: &Path, config: Config) -> Result<Self> {
        fs::create_dir_all(root).context(|| format!("cannot make {}", root.display()))?;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(root, private).context(|| format!("cannot protect {}", root.display()))?;
        let root = root.canonicalize().context(|| format!("cannot find {}", root.display()))?;
        let (content, layers, index) = (Content::open(&root)?, Layers::open(&root)?, IndexFile::open(&root)?);
        repair::after_boot(&root, &content, &layers, &index)?;
        Ok(Self(Arc::new(Inner {
            content,
            layers,
            index,
            keep: Keep::open(&root)?,
            turns: Semaphore::new(config.limits.parallel.max(1) * 4),
            pulls: Mutex::default(),
            configs: Mutex::default(),
            config,
            root,
        })))
    }

    /// The folder that all unpacked layers are in.
    pub fn layers_dir(&self) -> &Path {
        self.0.layers.dir()
    }

    /// Pulls an image, by tag or digest. What is there already is not fetched, but the registry is asked with these
    /// credentials in any case.
    ///
    /// # Errors
    /// In containerd's words; see [`ErrorKind`]. Nothing is visible then, and the next try goes on where this stopped.
    pub async fn pull(&self, name: &str, auth: Option<&Auth>, progress: Progress) -> Result<Image> {
        let reference: Reference = name.parse()?;
        let full = reference.to_string();
        let one = self.0.pulls.lock().unwrap_or_else(PoisonError::into_inner).entry(full.clone()).or_default().clone();
        let pulled = {
            let _one = one.lock().await;
            self.pull_now(&reference, auth, progress).await
        };
        drop(one);
        let mut pulls = self.0.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, one| Arc::strong_count(one) > 1);
        match pulled.as_ref().map_err(Error::kind) {
            // the next try goes on from what is there
            Ok(_) | Err(ErrorKind::Unavailable) => {}
            // of what others left behind, too
            Err(ErrorKind::NoSpace) => self.collect_but(Duration::ZERO)?,
            Err(_) => self.collect()?,
        }
        pulled.map_err(|error| error.context(format!("failed to pull and unpack image \"{full}\"")))
    }

    async fn pull_now(&self, reference: &Reference, auth: Option<&Auth>, progress: Progress) -> Result<Image> {
        let mut lease = self.new_lease()?;
        let pulled = match pull::pull(self, reference, auth, progress, &mut lease).await {
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.discard_partials(lease.digests()).await;
                return Err(error);
            }
            pulled => pulled?,
        };
        let by_digest = reference.with_digest(&pulled.target).to_string();
        self.enter(pulled.id.clone(), pulled.record, [reference.to_string(), by_digest])?;
        drop(lease);
        self.flush_soon();
        self.image(pulled.id.as_str())?.ok_or_else(|| Error::new(ErrorKind::NotFound, "removed right after the pull"))
    }

    /// Others need the room more than the next try of a pull needs its beginning. Its writers may still be ending.
    async fn discard_partials(&self, digests: Vec<Digest>) {
        let content = self.0.content.clone();
        let discard = move || digests.iter().for_each(|digest| content.discard_partial(digest, WRITERS_END));
        // a panic in it is told where it happens
        let _ = tokio::task::spawn_blocking(discard).await;
    }

    /// Makes an image visible under names; they are taken from the images that had them.
    pub(crate) fn enter(
        &self,
        id: Digest,
        mut record: crate::index::Record,
        names: impl IntoIterator<Item = String>,
    ) -> Result<()> {
        self.0.index.update(|index| {
            record.pinned |= index.images.get(&id).is_some_and(|old| old.pinned);
            index.names.extend(names.into_iter().map(|name| (name, id.clone())));
            index.images.insert(id, record);
            Ok(())
        })
    }

    /// Layers count before they are flushed; a power failure only costs unpacking them again.
    pub(crate) fn flush_soon(&self) {
        let layers = self.0.layers.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = layers.flush() {
                tracing::warn!(%error, "layers are not flushed");
            }
        });
    }

    /// The image of a name, an id, or the beginning of an id.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn image(&self, name: &str) -> Result<Option<Image>> {
        let index = self.0.index.read()?;
        index.resolve(name).map(|id| self.describe(&index, &id)).transpose()
    }

    /// All images, by id. One that cannot be read keeps nobody from the others.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>> {
        let index = self.0.index.read()?;
        self.configs().retain(|id, _| index.images.contains_key(id));
        let described = index.images.keys().filter_map(|id| match self.describe(&index, id) {
            Err(error) => {
                tracing::warn!(image = %id, "not listed: {error}");
                None
            }
            described => Some(described),
        });
        described.collect()
    }

    fn describe(&self, index: &Index, id: &Digest) -> Result<Image> {
        let gone = || Error::new(ErrorKind::NotFound, format!("image {id} not found"));
        let record = index.images.get(id).ok_or_else(gone)?;
        let names = index.names.iter().filter(|(_, named)| *named == id).map(|(name, _)| name.clone());
        let (digests, tags) = names.partition(|name| name.contains('@'));
        let (manifest, size, pinned) = (record.manifest.clone(), record.size, record.pinned);
        Ok(Image { id: id.clone(), tags, digests, size, config: self.config_of(id)?, manifest, pinned })
    }

    fn config_of(&self, id: &Digest) -> Result<Arc<ImageConfiguration>> {
        if let Some(config) = self.configs().get(id) {
            return Ok(config.clone());
        }
        let config = Arc::new(manifest::parse_config(&self.0.content.read(id, manifest::LONGEST)?)?);
        self.configs().insert(id.clone(), config.clone());
        Ok(config)
    }

    fn configs(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Arc<ImageConfiguration>>> {
        self.0.configs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes an image with all its names, whichever of them, or its id, is given; then what nobody needs any more.
    /// Layers that are held stay until they are released. An image that is not there is no error: `false`.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let removed = self.take_away(|index| {
            let id = index.resolve(name);
            id.iter().for_each(|id| index.remove(id));
            Ok(id.is_some())
        })?;
        self.collect()?;
        Ok(removed)
    }

    /// Removes one name; the image goes with its last.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn untag(&self, name: &str) -> Result<bool> {
        let full = name.parse::<Reference>()?.to_string();
        let removed = self.take_away(|index| {
            let Some(id) = index.names.remove(&full) else { return Ok(false) };
            let repository = full.rsplit_once(['@', ':']).map(|(repository, _)| repository.to_owned());
            let same = |name: &str| repository.as_deref().is_some_and(|it| name.starts_with(&format!("{it}@")));
            let tagged = index.names.iter().any(|(name, named)| *named == id && !name.contains('@'));
            if !tagged {
                index.names.retain(|name, named| *named != id || !same(name));
            }
            if !index.names.values().any(|named| *named == id) {
                index.remove(&id);
            }
            Ok(true)
        })?;
        self.collect()?;
        Ok(removed)
    }

    /// Makes the index shorter, on a full disk too: that is what makes room.
    fn take_away<T>(&self, change: impl Fn(&mut Index) -> Result<T>) -> Result<T> {
        match self.0.index.update(&change) {
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.collect_but(Duration::ZERO)?;
                self.0.index.update_in_place(&change)
            }
            done => done,
        }
    }

    /// Pins an image, or lets it go.
    ///
    /// # Errors
    /// It is not there, or the store cannot be written.
    pub fn pin(&self, name: &str, pinned: bool) -> Result<()> {
        self.0.index.update(|index| {
            let id = index.resolve(name).ok_or_else(|| not_found(name))?;
            index.images.entry(id).and_modify(|record| record.pinned = pinned);
            Ok(())
        })
    }

    /// The folders of an image's layers, topmost first, as overlayfs' `lowerdir` has them. An image without layers has
    /// none. A layer that a power failure cost is unpacked again first. Hold the image before.
    ///
    /// # Errors
    /// It is not there, or a layer cannot be unpacked.
    pub async fn layers(&self, name: &str) -> Result<Vec<PathBuf>> {
        let index = self.0.index.read()?;
        let found = index.resolve(name).and_then(|id| index.images.get(&id)).ok_or_else(|| not_found(name))?;
        for layer in found.layers.iter().filter(|it| self.0.layers.record(&it.diff_id).is_none()) {
            let blob = manifest::Descriptor::new("", layer.blob.clone(), 0);
            let layer = manifest::Layer { blob, diff_id: layer.diff_id.clone() };
            pull::unpack_blob(&self.0.content, &self.0.layers, &layer, self.limits()).await?;
        }
        let diff_ids: Vec<Digest> = found.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        self.0.layers.stack(&diff_ids)
    }

    /// Keeps an image's layers until it is released, whatever happens to the image, over restarts too. `user`: letters,
    /// digits, `-`, `_`, `.`; a container's id.
    ///
    /// # Errors
    /// The image is not there, or the store cannot be written.
    pub fn hold(&self, name: &str, user: &str) -> Result<()> {
        let _lock = self.0.index.lock()?;
        let index = self.0.index.read()?;
        let image = index.resolve(name).ok_or_else(|| not_found(name))?;
        let layers = index.images[&image].layers.iter().map(|layer| layer.diff_id.clone()).collect();
        self.0.keep.hold(&Hold { user: user.to_owned(), image, layers })
    }

    /// Ends a hold; nothing where there is none. What it kept alone goes with the next collection.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn release(&self, image: &Digest, user: &str) -> Result<()> {
        self.0.keep.release(image, user)
    }

    /// All holds, so that whoever made them can release those of containers that are gone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn holds(&self) -> Result<Vec<Hold>> {
        self.0.keep.holds()
    }

    /// Removes images that nothing holds and nobody pinned: those without a tag, or `all`; then what nobody needs.
    /// Their ids.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn prune(&self, all: bool) -> Result<Vec<Digest>> {
        let pruned = self.take_away(|index| {
            let held: BTreeSet<Digest> = self.0.keep.holds()?.into_iter().map(|hold| hold.image).collect();
            let tagged = |id: &Digest| index.names.iter().any(|(name, named)| named == id && !name.contains('@'));
            let unused = index.images.iter().filter(|(id, record)| !record.pinned && !held.contains(id));
            let pruned: Vec<Digest> = unused.map(|(id, _)| id.clone()).filter(|id| all || !tagged(id)).collect();
            pruned.iter().for_each(|id| index.remove(id));
            Ok(pruned)
        })?;
        self.collect()?;
        Ok(pruned)
    }

    /// What blobs and layers take together. Counted from records: no walk through the layers.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for dir in [self.0.content.blobs_dir(), self.0.content.ingest_dir()] {
            for status in file_names(dir).iter().filter_map(|name| fs::metadata(dir.join(name)).ok()) {
                usage.bytes += status.blocks() * 512;
                usage.inodes += 1;
            }
        }
        for (_, record) in self.0.layers.list()? {
            usage.bytes += record.bytes;
            usage.inodes += record.entries + 3;
        }
        Ok(usage)
    }

    /// Removes blobs and layers that no image, hold or work in progress needs, and what died long ago.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn collect(&self) -> Result<()> {
        self.collect_but(RESUMABLE)
    }

    /// Unfinished blobs stay that were written within this time, or are being written.
    fn collect_but(&self, resumable: Duration) -> Result<()> {
        {
            let _lock = self.0.index.lock()?;
            let mut needed = self.0.index.read()?.needed();
            self.0.keep.add_to(&mut needed)?;
            // where the index is; it is written under its lock
            remove_begun(&self.0.root);
            self.0.content.retain(|blob| needed.blobs.contains(blob), resumable)?;
            self.0.layers.retain(|layer| needed.layers.contains(layer))?;
        }
        self.0.layers.empty_trash();
        Ok(())
    }

    /// Where it is on disk.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.config.limits
    }

    pub(crate) fn content(&self) -> &Content {
        &self.0.content
    }

    pub(crate) fn unpacked(&self) -> &Layers {
        &self.0.layers
    }

    pub(crate) fn index(&self) -> &IndexFile {
        &self.0.index
    }

    pub(crate) fn new_lease(&self) -> Result<Lease> {
        self.0.keep.lease()
    }

    /// The length of a blob that is there, and from now on stays as long as the lease.
    pub(crate) fn leased_size(&self, lease: &mut Lease, digest: &Digest) -> Result<Option<u64>> {
        self.lease(lease, [digest])?;
        Ok(self.0.content.size(digest))
    }

    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.0.turns.acquire().await.ok()
    }

    /// Adds to a lease so that a collection sees it before it looks, or not until it is done.
    pub(crate) fn lease<'a>(&self, lease: &mut Lease, digests: impl IntoIterator<Item = &'a Digest>) -> Result<()> {
        let _lock = self.0.index.lock()?;
        lease.add(digests)
    }
}

fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("image {name:?} not found"))
}
