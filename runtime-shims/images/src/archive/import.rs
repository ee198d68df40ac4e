//! Finds the images of an archive, and makes them visible once they are unpacked.
//!
//! Must not know: the form of the archive's file.

use std::collections::BTreeSet;
use std::io::Read;

use super::contents::Contents;
use super::{DOCKER, DockerImage, IMAGE_NAME, INDEX, REF_NAME};
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fetch::joined;
use crate::index::Record;
use crate::keep::Lease;
use crate::manifest::{
    self, DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor, Document, Found, Manifest, Platform,
};
use crate::progress::{Event, Progress};
use crate::pull;
use crate::reference::Reference;
use crate::store::{Image, Store};

/// Indexes in indexes that are followed.
const DEEPEST: u32 = 3;

/// An image in an archive.
struct Named {
    image: Found,
    names: BTreeSet<String>,
}

impl Store {
    /// Imports every image of this platform in an archive of `docker save`, `podman save`, `ctr export`, `buildx` or
    /// [`Store::export`], plain or compressed with gzip or zstd. `name` is for an image that the archive does not name.
    ///
    /// # Errors
    /// The archive is not valid, has no image for this platform, or a layer cannot be unpacked; nothing is visible then.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        name: Option<&str>,
        progress: Progress,
    ) -> Result<Vec<Image>> {
        let name = name.map(str::parse::<Reference>).transpose()?;
        let imported = self.import_now(archive, name, &progress).await;
        if imported.is_err() {
            self.collect()?;
        }
        self.flush_soon();
        imported
    }

    async fn import_now(
        &self,
        archive: impl Read + Send + 'static,
        name: Option<Reference>,
        progress: &Progress,
    ) -> Result<Vec<Image>> {
        let (store, lease) = (self.clone(), self.new_lease()?);
        let read = tokio::task::spawn_blocking(move || scan(&store, archive, lease));
        let (mut found, mut lease) = joined(read.await)?;
        if let (Some(name), [only]) = (name, found.as_mut_slice()) {
            only.names.insert(name.to_string());
        }
        let mut records = Vec::new();
        for one in &found {
            records.push(self.unpack_found(&one.image, progress, &mut lease).await?);
        }
        found.into_iter().zip(records).map(|(one, record)| self.enter_found(one, record)).collect()
    }

    async fn unpack_found(&self, image: &Found, progress: &Progress, lease: &mut Lease) -> Result<Record> {
        let layers = self.layers_of(image)?;
        self.lease(lease, layers.iter().map(|it| &it.diff_id))?;
        let record = pull::keep(self, image, &layers, lease)?;
        let shown = layers.iter().map(|it| (it.blob.digest.clone(), it.blob.size)).collect();
        progress.tell(|| Event::Resolved { manifest: record.manifest.clone(), layers: shown });
        pull::unpack_all(self, &layers, progress).await?;
        Ok(record)
    }

    fn layers_of(&self, image: &Found) -> Result<Vec<manifest::Layer>> {
        let config = self.content().read(&image.manifest.config.digest, manifest::LONGEST)?;
        manifest::layers(&image.manifest, &manifest::parse_config(&config)?, self.limits().layers)
    }

    fn enter_found(&self, found: Named, record: Record) -> Result<Image> {
        let id = found.image.manifest.config.digest;
        self.enter(id.clone(), record, found.names)?;
        self.image(id.as_str())?.ok_or_else(|| corrupt("the image was removed right after its import"))
    }
}

/// Reads the archive, and says which images are in it. Blocks.
fn scan(store: &Store, archive: impl Read + Send + 'static, mut lease: Lease) -> Result<(Vec<Named>, Lease)> {
    let contents = Contents::read(store, archive, &mut lease)?;
    let mut found = match contents.tables.get(INDEX) {
        Some(index) => in_index(store, index)?,
        None => Vec::new(),
    };
    if let Some(table) = contents.tables.get(DOCKER) {
        in_docker_table(&contents, table, &mut found)?;
    }
    for one in &found {
        store.lease(&mut lease, &one.image.documents().map(Digest::of).collect::<Vec<_>>())?;
    }
    match found.is_empty() {
        false => Ok((found, lease)),
        true if contents.tables.is_empty() => {
            Err(corrupt("no archive of images: neither index.json nor manifest.json"))
        }
        true => Err(Error::new(ErrorKind::NotFound, "no image for this platform in the archive: not found")),
    }
}

fn in_index(store: &Store, index: &[u8]) -> Result<Vec<Named>> {
    let Document::Index(entries) = manifest::parse(index).context(|| INDEX)? else {
        return Err(corrupt("index.json is no index"));
    };
    let own = manifest::this_platform();
    let mut found: Vec<Named> = Vec::new();
    for entry in entries {
        let Some(image) = follow(store, &entry, &own, DEEPEST)? else { continue };
        let names = names(&entry);
        match found.iter_mut().find(|it| it.image.bytes == image.bytes) {
            Some(same) => same.names.extend(names),
            None => found.push(Named { image, names }),
        }
    }
    Ok(found)
}

/// The manifest an entry leads to; nothing where it is for another platform. What an index further in lists may be
/// missing: archives mostly hold one platform.
fn follow(store: &Store, entry: &Descriptor, own: &Platform, depth: u32) -> Result<Option<Found>> {
    if manifest::choose(std::slice::from_ref(entry), own).is_empty() {
        return Ok(None);
    }
    if store.content().size(&entry.digest).is_none() {
        let missing = || corrupt(&format!("archive has no manifest {}", entry.digest));
        return if depth == DEEPEST { Err(missing()) } else { Ok(None) };
    }
    let bytes = store.content().read(&entry.digest, manifest::LONGEST)?;
    let entries = match manifest::parse(&bytes)? {
        // such as an attestation: no image
        Document::Manifest(manifest) if !manifest.is_image() => return Ok(None),
        Document::Manifest(manifest) => return Ok(Some(Found::new(bytes, manifest))),
        Document::Index(entries) => entries,
    };
    let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
    for entry in manifest::choose(&entries, own) {
        if let Some(mut found) = follow(store, entry, own, depth)? {
            found.indexes.push(bytes);
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The names an entry has, by tag and by digest. The digest is its own, whatever an archive says.
fn names(entry: &Descriptor) -> BTreeSet<String> {
    let full = entry.annotation(REF_NAME).filter(|it| it.contains(['/', ':']));
    let name = entry.annotation(IMAGE_NAME).or(full).and_then(|it| it.parse::<Reference>().ok());
    let tagged = name.iter().filter(|it| it.tag().is_some()).map(Reference::to_string);
    tagged.chain(name.iter().map(|it| it.with_digest(&entry.digest).to_string())).collect()
}

/// Adds what Docker's table has, or only its names where the index had the image.
fn in_docker_table(contents: &Contents, table: &[u8], found: &mut Vec<Named>) -> Result<()> {
    let images: Vec<DockerImage> =
        serde_json::from_slice(table).map_err(|error| corrupt(&format!("manifest.json is not valid: {error}")))?;
    for image in images {
        let (config, size) = contents.blob(&image.config)?.clone();
        let tags = image.repo_tags.iter().flatten().filter_map(|tag| tag.parse::<Reference>().ok());
        let names: Vec<String> = tags.filter(|tag| tag.tag().is_some()).map(|tag| tag.to_string()).collect();
        if let Some(same) = found.iter_mut().find(|it| it.image.manifest.config.digest == config) {
            same.names.extend(names);
            continue;
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: DOCKER_MANIFEST.into(),
            config: Descriptor::new(DOCKER_CONFIG, config, size),
            layers: image.layers.iter().map(|path| docker_layer(contents, path)).collect::<Result<_>>()?,
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|error| corrupt(&error.to_string()))?;
        found.push(Named { image: Found::new(bytes, manifest), names: names.into_iter().collect() });
    }
    Ok(())
}

fn docker_layer(contents: &Contents, path: &str) -> Result<Descriptor> {
    let (digest, size) = contents.blob(path)?.clone();
    Ok(Descriptor::new(DOCKER_LAYER, digest, size))
}

fn corrupt(text: &str) -> Error {
    Error::new(ErrorKind::Corrupt, text.to_owned())
}
