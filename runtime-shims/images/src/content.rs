//! Blobs on disk by digest, and the unfinished ones that can be resumed.
//!
//! A blob is at `blobs/sha256/HEX`, complete and verified, or not at all; until then it grows at `ingest/HEX`, under a
//! lock. Must not know: registries, what the bytes mean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::index::file_names;
use crate::lock::{self, Lock};

/// How the name of a file ends that is being written.
pub(crate) const NEW: &str = ".new";

#[derive(Debug, Clone)]
pub(crate) struct Content {
    blobs: PathBuf,
    ingest: PathBuf,
}

impl Content {
    pub fn open(root: &Path) -> Result<Self> {
        let content = Self { blobs: root.join("blobs/sha256"), ingest: root.join("ingest") };
        for dir in [&content.blobs, &content.ingest] {
            fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(content)
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    pub fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.ingest.join(digest.hex())
    }

    pub fn blobs_dir(&self) -> &Path {
        &self.blobs
    }

    pub fn ingest_dir(&self) -> &Path {
        &self.ingest
    }

    /// The length of a blob that is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|it| it.len())
    }

    pub fn reader(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).context(|| format!("cannot open blob {digest}"))
    }

    /// A small blob, whole.
    pub fn read(&self, digest: &Digest, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.reader(digest)?.take(most + 1).read_to_end(&mut bytes);
        read.context(|| format!("cannot read blob {digest}"))?;
        if bytes.len() as u64 > most {
            return Err(Error::new(ErrorKind::Refused, format!("blob {digest} is longer than {most} bytes")));
        }
        Ok(bytes)
    }

    /// Adds a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(&digest).is_none() {
            let mut ingest = self.ingest(&digest)?;
            ingest.restart()?;
            ingest.write(bytes)?;
            ingest.commit()?;
        }
        Ok(digest)
    }

    /// Removes every blob for which `keep` says no, and unfinished ones that nobody touched for so long.
    pub fn retain(&self, keep: impl Fn(&Digest) -> bool, resumable: Duration) -> Result<()> {
        for name in file_names(&self.blobs) {
            if Digest::from_hex(&name).is_ok_and(|digest| !keep(&digest)) {
                let path = self.blobs.join(name);
                fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        for name in file_names(&self.ingest) {
            let path = self.ingest.join(&name);
            let Ok(Some(_lock)) = lock::try_hold(&path) else { continue };
            let age = fs::metadata(&path).and_then(|it| it.modified()).ok().and_then(|it| it.elapsed().ok());
            if age.is_some_and(|age| age > resumable) || Digest::from_hex(&name).is_err() {
                // somebody else's turn to fail next time
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// Removes the beginning of a blob once nobody writes it any more, or gives up on it after a while. Blocks.
    pub fn discard_partial(&self, digest: &Digest, within: Duration) {
        let (path, began) = (self.partial_path(digest), std::time::Instant::now());
        while path.exists() && began.elapsed() < within {
            match lock::try_hold(&path) {
                Ok(Some(_lock)) => drop(fs::remove_file(&path)),
                // no event tells of a lock that ends
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The place where a blob grows, with what is there already; waits for whoever is at it.
    pub fn ingest(&self, digest: &Digest) -> Result<Ingest> {
        let mut ingest = self.grow(self.partial_path(digest), Some(digest.clone()))?;
        ingest.rehash()?;
        Ok(ingest)
    }

    /// A place for a blob whose digest is not known yet.
    pub fn ingest_unnamed(&self) -> Result<Ingest> {
        self.grow(self.ingest.join(format!("unnamed-{:016x}", rand::random::<u64>())), None)
    }

    fn grow(&self, path: PathBuf, target: Option<Digest>) -> Result<Ingest> {
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = lock::hold(&path, open).context(|| format!("cannot open {}", path.display()))?;
        Ok(Ingest { file, hasher: Hasher::default(), length: 0, path, target, blobs: self.blobs.clone() })
    }
}

/// A blob that grows; nobody else writes it meanwhile. What is written stays when this is dropped.
pub(crate) struct Ingest {
    file: Lock,
    hasher: Hasher,
    length: u64,
    path: PathBuf,
    target: Option<Digest>,
    blobs: PathBuf,
}

impl Ingest {
    /// Bytes that are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest of what is there.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Reads what is there, while this writes.
    pub fn reader(&self) -> Result<File> {
        self.file.try_clone().context(|| format!("cannot read {}", self.path.display()))
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        (&*self.file).write_all(bytes).context(|| format!("cannot write {}", self.path.display()))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what is there.
    pub fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| (&*self.file).seek(SeekFrom::Start(0)));
        emptied.context(|| format!("cannot empty {}", self.path.display()))?;
        (self.hasher, self.length) = (Hasher::default(), 0);
        Ok(())
    }

    /// Removes what is there, for content that nobody will ask for again.
    pub fn discard(self) {
        // a leftover is collected later
        let _ = fs::remove_file(&self.path);
    }

    /// Makes it a blob, if it is what its digest says; else what is there is forgotten.
    pub fn commit(mut self) -> Result<Digest> {
        let found = std::mem::take(&mut self.hasher).finish();
        if let Some(target) = self.target.clone().filter(|it| *it != found) {
            self.restart()?;
            let text = format!("failed commit on ref: unexpected commit digest {found}, expected {target}");
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        self.file.sync_data().context(|| format!("cannot write blob {found}"))?;
        fs::rename(&self.path, self.blobs.join(found.hex())).context(|| format!("cannot keep blob {found}"))?;
        sync_dir(&self.blobs)?;
        Ok(found)
    }

    fn rehash(&mut self) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match (&*self.file).read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    self.hasher.update(&buffer[..read]);
                    self.length += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context(|| format!("cannot read {}", self.path.display())),
            }
        }
    }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|it| it.sync_all()).context(|| format!("cannot sync {}", dir.display()))
}

/// Writes a small file so that it is there whole or not at all, after a power loss too.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, File::sync_data)?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Writes a small file so that every process sees it whole or not at all; a power loss may take it, or empty it.
pub(crate) fn write_unflushed(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, |_| Ok(()))
}

/// Removes what killed processes had begun to write in a folder; nobody else may be writing there now.
pub(crate) fn remove_begun(dir: &Path) {
    for name in file_names(dir).into_iter().filter(|name| name.ends_with(NEW)) {
        // it takes a little room where it stays
        let _ = fs::remove_file(dir.join(name));
    }
}

fn replace(path: &Path, bytes: &[u8], flush: impl FnOnce(&File) -> std::io::Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:08x}{NEW}", rand::random::<u32>()));
    let new = path.with_file_name(name);
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        flush(&file)?;
        fs::rename(&new, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(dir.path()).unwrap();
        (dir, content)
    }

    #[test]
    fn a_blob_that_was_interrupted_goes_on_where_it_stopped() {
        let (_dir, content) = content();
        let digest = Digest::of(b"hello world");
        let mut ingest = content.ingest(&digest).unwrap();
        ingest.write(b"hello ").unwrap();
        drop(ingest);
        assert_eq!(content.size(&digest), None);
        let mut ingest = content.ingest(&digest).unwrap();
        assert_eq!(ingest.length(), 6);
        ingest.write(b"world").unwrap();
        ingest.commit().unwrap();
        assert_eq!(content.read(&digest, 100).unwrap(), b"hello world");
        assert!(!content.partial_path(&digest).exists());
    }

    #[test]
    fn wrong_bytes_are_never_a_blob_and_are_forgotten() {
        let (_dir, content) = content();
        let digest = Digest::of(b"right");
        let mut ingest = content.ingest(&digest).unwrap();
        ingest.write(b"wrong").unwrap();
        assert_eq!(ingest.commit().unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(content.size(&digest), None);
        assert_eq!(content.ingest(&digest).unwrap().length(), 0);
    }
}
