//! What garbage collection must leave alone besides images: content that work in progress needs (leases), and layers
//! that containers use (holds).
//!
//! A lease is a locked file: it ends with its process, whatever ends that. A hold is a file until it is released; it is not
//! flushed, since nothing that uses layers outlives its machine.
//! Must not know: what is collected, containers.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::content::{NEW, remove_begun, write_unflushed};
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::index::{Needed, file_names};
use crate::lock::{self, Lock};

#[derive(Debug, Clone)]
pub(crate) struct Keep {
    leases: PathBuf,
    holds: PathBuf,
}

/// Content that stays while this lives.
pub(crate) struct Lease {
    file: Lock,
    path: PathBuf,
    digests: Vec<Digest>,
}

/// A user of an image, and the layers it needs although the image may be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub user: String,
    pub image: Digest,
    pub layers: Vec<Digest>,
}

impl Keep {
    pub fn open(root: &Path) -> Result<Self> {
        let keep = Self { leases: root.join("leases"), holds: root.join("holds") };
        for dir in [&keep.leases, &keep.holds] {
            fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(keep)
    }

    pub fn lease(&self) -> Result<Lease> {
        let path = self.leases.join(format!("{:016x}", rand::random::<u64>()));
        let open = || OpenOptions::new().append(true).create(true).open(&path);
        let file = lock::hold(&path, open).context(|| format!("cannot open {}", path.display()))?;
        Ok(Lease { file, path, digests: Vec::new() })
    }

    /// Adds what leases and holds need; removes leases of the dead, and holds that they had begun. Under the index's lock.
    pub fn add_to(&self, needed: &mut Needed) -> Result<()> {
        for name in file_names(&self.leases) {
            let path = self.leases.join(name);
            match lock::try_hold(&path) {
                // nobody holds it: its owner died
                Ok(Some(_lock)) => drop(fs::remove_file(&path)),
                _ => add_lines(&path, needed)?,
            }
        }
        remove_begun(&self.holds);
        for hold in self.holds()? {
            needed.blobs.insert(hold.image);
            needed.layers.extend(hold.layers);
        }
        Ok(())
    }

    pub fn hold(&self, hold: &Hold) -> Result<()> {
        let bytes = serde_json::to_vec(hold).unwrap_or_default();
        write_unflushed(&self.hold_path(&hold.image, &hold.user)?, &bytes)
    }

    pub fn release(&self, image: &Digest, user: &str) -> Result<()> {
        match fs::remove_file(self.hold_path(image, user)?) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(|| format!("cannot release {image}"))
            }
            _ => Ok(()),
        }
    }

    /// A file that a power failure cut short still says by its name who holds which image.
    pub fn holds(&self) -> Result<Vec<Hold>> {
        let mut holds = Vec::new();
        for name in file_names(&self.holds).into_iter().filter(|name| !name.ends_with(NEW)) {
            let Ok(bytes) = fs::read(self.holds.join(&name)) else { continue };
            holds.extend(serde_json::from_slice(&bytes).ok().or_else(|| named(&name)));
        }
        Ok(holds)
    }

    fn hold_path(&self, image: &Digest, user: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if user.is_empty() || user.len() > 150 || !user.chars().all(plain) {
            return Err(Error::new(ErrorKind::Internal, format!("{user:?} cannot be the user of an image")));
        }
        Ok(self.holds.join(format!("{}.{user}", image.hex())))
    }
}

/// What a hold's file name says.
fn named(name: &str) -> Option<Hold> {
    let (image, user) = name.split_once('.')?;
    Some(Hold { user: user.to_owned(), image: Digest::from_hex(image).ok()?, layers: Vec::new() })
}

fn add_lines(path: &Path, needed: &mut Needed) -> Result<()> {
    let text = match fs::read_to_string(path) {
        // it ended meanwhile
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read.context(|| format!("cannot read {}", path.display()))?,
    };
    for digest in text.lines().filter_map(|line| line.parse::<Digest>().ok()) {
        needed.blobs.insert(digest.clone());
        needed.layers.insert(digest);
    }
    Ok(())
}

impl Lease {
    /// From now on these blobs and layers stay. Under the index's lock, so that a collection sees all or nothing.
    pub fn add<'a>(&mut self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<()> {
        let before = self.digests.len();
        self.digests.extend(digests.into_iter().cloned());
        let lines: String = self.digests.iter().skip(before).map(|digest| format!("{digest}\n")).collect();
        let file: &File = &self.file;
        { file }.write_all(lines.as_bytes()).context(|| "cannot write a lease")
    }
}

impl Lease {
    /// What stays because of it.
    pub fn digests(&self) -> Vec<Digest> {
        self.digests.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // a leftover is removed by the next collection
        let _ = fs::remove_file(&self.path);
    }
}
