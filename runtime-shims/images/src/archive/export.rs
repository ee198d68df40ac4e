//! Images as one archive that Pintle, containerd, docker and podman import.
//!
//! Must not know: where the archive goes.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use serde_json::json;

use super::{DOCKER, DockerImage, IMAGE_NAME, INDEX, LAYOUT, REF_NAME};
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fetch::joined;
use crate::manifest::{self, Descriptor, Document, Manifest, OCI_INDEX};
use crate::reference::Reference;
use crate::store::{Image, Store};

/// How an archive is compressed. Its layers mostly are already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Store {
    /// Writes images, given by name or id, as one archive: an OCI layout with Docker's table of contents. An image is
    /// exported for this platform, under the name it was asked by, or all its tags if that was an id.
    ///
    /// # Errors
    /// An image is not there, or `out` cannot be written.
    pub async fn export(
        &self,
        names: Vec<String>,
        out: impl Write + Send + 'static,
        compression: Compression,
    ) -> Result<()> {
        let store = self.clone();
        joined(tokio::task::spawn_blocking(move || store.export_now(&names, out, compression)).await)
    }

    fn export_now(&self, names: &[String], mut out: impl Write, compression: Compression) -> Result<()> {
        let mut lease = self.new_lease()?;
        let mut images = Vec::new();
        for name in names {
            let missing = || Error::new(ErrorKind::NotFound, format!("image {name:?} not found"));
            let image = self.image(name)?.ok_or_else(missing)?;
            let indexes = self.indexes_of(&image.id)?;
            let bytes = self.content().read(&image.manifest, manifest::LONGEST)?;
            let Document::Manifest(manifest) = manifest::parse(&bytes)? else { continue };
            let blobs = manifest.layers.iter().chain([&manifest.config]).map(|it| &it.digest);
            self.lease(&mut lease, blobs.chain([&image.manifest]).chain(&indexes))?;
            let entry = self.entry(indexes.last().unwrap_or(&image.manifest))?;
            images.push(Exported { names: shown_names(name, &image), image, manifest, indexes, entry });
        }
        match compression {
            Compression::None => self.write(&images, &mut out),
            Compression::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                self.write(&images, &mut writer)?;
                writer.finish().and_then(|mut out| out.flush()).context(|| "cannot write archive")
            }
            Compression::Zstd => {
                let mut writer = zstd::stream::write::Encoder::new(out, 0).context(|| "cannot compress")?;
                self.write(&images, &mut writer)?;
                writer.finish().and_then(|mut out| out.flush()).context(|| "cannot write archive")
            }
        }
    }

    /// The indexes that led to an image, where all of them are there.
    fn indexes_of(&self, id: &Digest) -> Result<Vec<Digest>> {
        let indexes = self.index().read()?.images.get(id).map(|it| it.indexes.clone()).unwrap_or_default();
        let whole = indexes.iter().all(|it| self.content().size(it).is_some());
        Ok(if whole { indexes } else { Vec::new() })
    }

    fn entry(&self, target: &Digest) -> Result<Descriptor> {
        let bytes = self.content().read(target, manifest::LONGEST)?;
        Ok(Descriptor::new(manifest::media_type(&bytes)?, target.clone(), bytes.len() as u64))
    }

    fn write(&self, images: &[Exported], out: &mut impl Write) -> Result<()> {
        let mut archive = tar::Builder::new(out);
        append(&mut archive, LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, INDEX, index(images).to_string().as_bytes())?;
        append(&mut archive, DOCKER, docker_table(images).to_string().as_bytes())?;
        let mut written = BTreeSet::new();
        for image in images {
            let blobs = image.manifest.layers.iter().chain([&image.manifest.config]).map(|it| &it.digest);
            let documents = [&image.image.manifest].into_iter().chain(&image.indexes);
            for digest in blobs.chain(documents).filter(|it| written.insert((*it).clone())) {
                let file = self.content().reader(digest)?;
                let size = file.metadata().context(|| format!("cannot look at blob {digest}"))?.len();
                append_stream(&mut archive, &path(digest), size, file)?;
            }
        }
        archive.into_inner().and_then(|out| out.flush()).context(|| "cannot write archive")
    }
}

struct Exported {
    names: Vec<Reference>,
    image: Image,
    manifest: Manifest,
    indexes: Vec<Digest>,
    /// The outermost of its indexes, else its manifest.
    entry: Descriptor,
}

fn shown_names(asked: &str, image: &Image) -> Vec<Reference> {
    let named = |it: &Reference| image.tags.iter().chain(&image.digests).any(|name| *name == it.to_string());
    let all = || match image.tags.is_empty() {
        true => image.digests.iter().filter_map(|name| name.parse().ok()).collect(),
        false => image.tags.iter().filter_map(|tag| tag.parse().ok()).collect(),
    };
    asked.parse::<Reference>().ok().filter(named).map_or_else(all, |name| vec![name])
}

fn index(images: &[Exported]) -> serde_json::Value {
    let entry = |image: &Exported, name: Option<&Reference>| {
        let mut entry = image.entry.clone();
        let annotate = |name: &Reference| {
            let tag = name.tag().map(|tag| (REF_NAME.to_owned(), tag.to_owned()));
            [(IMAGE_NAME.to_owned(), name.to_string())].into_iter().chain(tag).collect()
        };
        entry.annotations = name.map(annotate);
        entry
    };
    let entries = images.iter().flat_map(|image| match image.names.as_slice() {
        [] => vec![entry(image, None)],
        names => names.iter().map(|name| entry(image, Some(name))).collect(),
    });
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries.collect::<Vec<_>>() })
}

fn docker_table(images: &[Exported]) -> serde_json::Value {
    let entries = images.iter().map(|image| DockerImage {
        config: path(&image.image.id),
        repo_tags: Some(image.names.iter().filter(|it| it.tag().is_some()).map(Reference::to_string).collect()),
        layers: image.manifest.layers.iter().map(|layer| path(&layer.digest)).collect(),
    });
    json!(entries.collect::<Vec<_>>())
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> Result<()> {
    append_stream(archive, path, bytes.len() as u64, bytes)
}

fn append_stream(archive: &mut tar::Builder<impl Write>, path: &str, size: u64, content: impl Read) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o444);
    header.set_size(size);
    header.set_mtime(0);
    let appended: io::Result<()> = archive.append_data(&mut header, path, content);
    appended.context(|| "cannot write archive")
}
