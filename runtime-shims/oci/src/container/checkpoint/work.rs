//! The folder in which a checkpoint is put together, and the archive's place until it is whole.
//!
//! Must not know: what is in either.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::{Error, Result};

/// In it: where the archive goes.
const LOCATION: &str = "location";

/// Where the folder of a container's checkpoint is.
pub fn of(container: &Path) -> PathBuf {
    container.join("checkpoint")
}

/// A checkpoint in the making. Dropped, nothing of it is left but a finished archive.
#[derive(Debug)]
pub struct Work {
    dir: PathBuf,
    location: PathBuf,
}

impl Work {
    /// # Errors
    /// `Precondition` where one is being made already.
    pub fn begin(container: &Path, location: &Path) -> Result<Self> {
        let dir = of(container);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Precondition("a checkpoint of the container is being written".into()));
            }
            made => made.with_context(|| format!("making {}", dir.display()))?,
        }
        let work = Self { dir, location: location.to_owned() };
        fs::write(work.dir.join(LOCATION), location.as_os_str().as_encoded_bytes()).context("writing a location")?;
        Ok(work)
    }

    /// What an earlier runtime left.
    pub fn left(container: &Path) -> Option<Self> {
        use std::os::unix::ffi::OsStringExt as _;
        let dir = of(container);
        let location = fs::read(dir.join(LOCATION)).unwrap_or_default();
        dir.exists().then(|| Self { dir, location: std::ffi::OsString::from_vec(location).into() })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the archive is written.
    pub fn archive(&self) -> PathBuf {
        let mut path = self.location.clone().into_os_string();
        path.push(".partial");
        path.into()
    }

    /// The archive is whole.
    pub fn finish(&self) -> anyhow::Result<()> {
        fs::rename(self.archive(), &self.location).with_context(|| format!("making {}", self.location.display()))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.location.as_os_str().is_empty() {
            // finished, or never begun
            let _ = fs::remove_file(self.archive());
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.dir.display(), "what a checkpoint left stays: {error}");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left_but_what_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let location = dir.path().join("a.tar");
        let work = Work::begin(dir.path(), &location).unwrap();
        assert!(matches!(Work::begin(dir.path(), &location), Err(Error::Precondition(_))));
        fs::write(work.archive(), "half").unwrap();
        drop(work);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let work = Work::begin(dir.path(), &location).unwrap();
        fs::write(work.archive(), "whole").unwrap();
        std::mem::forget(work);
        Work::left(dir.path()).unwrap().finish().unwrap();
        assert_eq!(fs::read(&location).unwrap(), b"whole");
        assert!(!of(dir.path()).exists());
        assert!(Work::left(dir.path()).is_none());
    }
}
