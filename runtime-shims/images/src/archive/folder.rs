//! A folder of archives, imported at start: how images come to machines without a registry.
//!
//! Must not know: when it is asked.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::index::Archive;
use crate::progress::Progress;
use crate::store::Store;

/// Ends of names that are archives, compressed or not.
const ARCHIVES: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd"];

impl Store {
    /// Imports the archives of a folder whose images are not there yet, and pins their images: there may be no registry
    /// to get them from again. A folder that is not there has none. An archive that cannot be imported is reported, and
    /// stops no other: the paths, with what became of each.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn import_folder(&self, dir: &Path) -> Result<Vec<(PathBuf, Result<Vec<Digest>>)>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("cannot list {}", dir.display()))?,
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|it| is_archive(it)).collect();
        paths.sort();
        let mut done = Vec::new();
        for path in paths {
            if let Some(outcome) = self.import_file(&path).await.transpose() {
                done.push((path, outcome));
            }
        }
        Ok(done)
    }

    /// Nothing where the archive is as it was when it was imported, and its images are there.
    async fn import_file(&self, path: &Path) -> Result<Option<Vec<Digest>>> {
        let file = File::open(path).context(|| "cannot open it")?;
        let status = file.metadata().context(|| "cannot look at it")?;
        let key = path.display().to_string();
        let (size, modified) = (status.size(), (status.mtime(), status.mtime_nsec()));
        let index = self.index().read()?;
        let same = |it: &&Archive| it.size == size && it.modified == modified;
        let known = index.archives.get(&key).filter(same);
        if known.is_some_and(|it| it.images.iter().all(|id| index.images.contains_key(id))) {
            return Ok(None);
        }
        let images = self.import(file, None, Progress::none()).await?;
        let ids: Vec<Digest> = images.into_iter().map(|image| image.id).collect();
        self.index().update(|index| {
            for id in &ids {
                index.images.entry(id.clone()).and_modify(|record| record.pinned = true);
            }
            index.archives.insert(key, Archive { size, modified, images: ids.clone() });
            Ok(())
        })?;
        Ok(Some(ids))
    }
}

fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.is_file() && ARCHIVES.iter().any(|end| name.ends_with(end))
}
