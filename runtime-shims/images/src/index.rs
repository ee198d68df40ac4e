//! Which images there are: names and records in one file that is replaced atomically, safe against other processes.
//!
//! Must not know: blobs, layers, registries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::content::write_atomically;
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lock::{self, Lock};

const VERSION: u32 = 1;

/// Everything in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    version: u32,
    /// By id (the digest of the configuration).
    pub images: BTreeMap<Digest, Record>,
    /// Normalised references, by tag and by digest, and the id each means.
    pub names: BTreeMap<String, Digest>,
    /// Archives of a folder that were imported, by path.
    #[serde(default)]
    pub archives: BTreeMap<String, Archive>,
}

/// An image that is there whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub manifest: Digest,
    /// The indexes that led to it, the innermost first: whoever imports an archive of it knows it by their digests too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Digest>,
    /// Compressed, with configuration and manifest, in bytes.
    pub size: u64,
    /// Lowest first.
    pub layers: Vec<LayerRecord>,
    #[serde(default)]
    pub pinned: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerRecord {
    pub blob: Digest,
    pub diff_id: Digest,
}

/// An archive as it was when it was imported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Archive {
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    pub images: Vec<Digest>,
}

impl Index {
    /// Removes an image with all its names.
    pub fn remove(&mut self, id: &Digest) {
        self.images.remove(id);
        self.names.retain(|_, named| named != id);
    }

    /// The id a name, an id, or the beginning of an id means.
    pub fn resolve(&self, name: &str) -> Option<Digest> {
        let by_id = |digest: Digest| self.images.contains_key(&digest).then_some(digest);
        if let Some(id) = name.parse().ok().or_else(|| Digest::from_hex(name).ok()).and_then(by_id) {
            return Some(id);
        }
        let by_name = name.parse::<crate::Reference>().ok().and_then(|it| self.names.get(&it.to_string()).cloned());
        by_name.or_else(|| self.by_beginning(name))
    }

    fn by_beginning(&self, text: &str) -> Option<Digest> {
        const SHORTEST: usize = 6;
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let mut found = self.images.keys().filter(|id| hex.len() >= SHORTEST && id.hex().starts_with(hex));
        found.next().filter(|_| found.next().is_none()).cloned()
    }

    /// Blobs and layers that images need.
    pub fn needed(&self) -> Needed {
        let mut needed = Needed::default();
        for (id, record) in &self.images {
            needed.blobs.extend([id, &record.manifest].into_iter().chain(&record.indexes).cloned());
            for layer in &record.layers {
                needed.blobs.insert(layer.blob.clone());
                needed.layers.insert(layer.diff_id.clone());
            }
        }
        needed
    }
}

/// What must stay.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    pub blobs: BTreeSet<Digest>,
    pub layers: BTreeSet<Digest>,
}

/// The file, as last read, and the lock under which it changes.
#[derive(Debug)]
pub(crate) struct IndexFile {
    path: PathBuf,
    lock: PathBuf,
    read: Mutex<Option<(Stamp, Arc<Index>)>>,
}

/// Differs whenever the file was replaced.
type Stamp = (u64, u64, i64, i64);

impl IndexFile {
    pub fn open(root: &Path) -> Result<Self> {
        let file = Self { path: root.join("images.json"), lock: root.join("lock"), read: Mutex::new(None) };
        file.set_aside_damaged()?;
        file.read()?;
        Ok(file)
    }

    /// What a disk left of the file when it is no JSON (a later release's is): images are pulled again, which is better
    /// than no runtime.
    fn set_aside_damaged(&self) -> Result<()> {
        let _lock = self.lock()?;
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.context(|| format!("cannot read {}", self.path.display()))?,
        };
        let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&text) else { return Ok(()) };
        let aside = self.path.with_extension("damaged");
        tracing::error!(path = %self.path.display(), %error, "damaged: it is kept as {}, images are pulled again", aside.display());
        fs::rename(&self.path, &aside).context(|| format!("cannot set {} aside", self.path.display()))
    }

    /// As it is now; read again only if it changed.
    pub fn read(&self) -> Result<Arc<Index>> {
        let mut cached = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            opened => opened.context(|| format!("cannot open {}", self.path.display()))?,
        };
        let status = file.metadata().context(|| format!("cannot look at {}", self.path.display()))?;
        let stamp = (status.ino(), status.size(), status.ctime(), status.ctime_nsec());
        if let Some((_, index)) = cached.as_ref().filter(|(known, _)| *known == stamp) {
            return Ok(index.clone());
        }
        let index = Arc::new(self.decode(file)?);
        *cached = Some((stamp, index.clone()));
        Ok(index)
    }

    fn decode(&self, file: File) -> Result<Index> {
        let text = io::read_to_string(file).context(|| format!("cannot read {}", self.path.display()))?;
        let invalid = |why: String| Error::new(ErrorKind::Internal, format!("{}: {why}", self.path.display()));
        let index: Index = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        match index.version {
            VERSION => Ok(index),
            other => Err(invalid(format!("version {other} is of a later release"))),
        }
    }

    /// Keeps everybody else, other processes included, from changing the index and collecting. Blocks.
    pub fn lock(&self) -> Result<Lock> {
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&self.lock);
        lock::hold(&self.lock, open).context(|| format!("cannot lock {}", self.lock.display()))
    }

    /// Changes the index; nothing is written where nothing changed.
    pub fn update<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        self.update_by(change, |bytes| write_atomically(&self.path, bytes))
    }

    /// As [`Self::update`], where the disk has no room for a second file: over the old one, whose place suffices for
    /// something shorter. A power failure at that moment damages it.
    pub fn update_in_place<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        self.update_by(change, |bytes| {
            let mut file = OpenOptions::new().write(true).open(&self.path).context(|| "cannot open the index")?;
            let written = file.write_all(bytes).and_then(|()| file.set_len(bytes.len() as u64));
            written.and_then(|()| file.sync_data()).context(|| format!("cannot write {}", self.path.display()))
        })
    }

    fn update_by<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T>,
        write: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<T> {
        let _lock = self.lock()?;
        let old = self.read()?;
        let mut new = (*old).clone();
        let value = change(&mut new)?;
        if new != *old {
            new.version = VERSION;
            let bytes = serde_json::to_vec_pretty(&new)
                .map_err(|error| Error::new(ErrorKind::Internal, format!("cannot encode the index: {error}")))?;
            write(&bytes)?;
        }
        Ok(value)
    }
}

/// Files in a folder of the store, by name; none where the folder is not there.
pub(crate) fn file_names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seed: &[u8]) -> Record {
        let layer = LayerRecord { blob: Digest::of(b"blob"), diff_id: Digest::of(b"diff") };
        Record { manifest: Digest::of(seed), indexes: Vec::new(), size: 1, layers: vec![layer], pinned: false }
    }

    #[test]
    fn an_image_is_found_by_name_id_and_the_beginning_of_its_id() {
        let mut index = Index::default();
        let id = Digest::of(b"one");
        index.images.insert(id.clone(), record(b"1"));
        index.names.insert("docker.io/library/one:latest".into(), id.clone());
        for name in ["one", "docker.io/library/one:latest", id.as_str(), id.hex(), &id.hex()[..12]] {
            assert_eq!(index.resolve(name), Some(id.clone()), "{name}");
        }
        for name in ["two", "", "sha256:", &id.hex()[..3], "One"] {
            assert_eq!(index.resolve(name), None, "{name}");
        }
        index.remove(&id);
        assert_eq!(index.resolve("one"), None);
    }

    #[test]
    fn another_process_changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (IndexFile::open(dir.path()).unwrap(), IndexFile::open(dir.path()).unwrap());
        for number in 0..5_u8 {
            let id = Digest::of(&[number]);
            theirs.update(|index| Ok(index.images.insert(id.clone(), record(b"x")))).unwrap();
            assert!(ours.read().unwrap().images.contains_key(&id));
        }
        assert_eq!(ours.read().unwrap().needed().blobs.len(), 7);
    }
}
