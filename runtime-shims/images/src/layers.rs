//! Unpacked layers on disk, one per diffID, shared by all images that have it.
//!
//! A layer is at `layers/HEX/fs`, complete, or not at all. It is not flushed before it counts: its record names the boot
//! that unpacked it, and one that another boot left unflushed does not count (its blob is flushed, so it is unpacked
//! again). Must not know: images, registries.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Limits;
use crate::content::write_atomically;
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::index::file_names;
use crate::inherit;
use crate::lock;
use crate::unpack;

const RECORD: &str = "layer.json";
const ROOT: &str = "fs";
/// The folders of a layer that it does not describe.
const IMPLIED: &str = "implied";
/// Digits of a diffID in a short path; more where two layers share them.
const SHORTEST: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct Layers {
    dir: PathBuf,
    aliases: PathBuf,
    trash: PathBuf,
    boot: String,
}

/// A record's file: its inode and when it was written.
type Seen = (u64, i64, i64);

/// What is known of an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub bytes: u64,
    pub entries: u64,
    /// The boot during which it was unpacked; nothing once it is on the disk for certain.
    boot: Option<String>,
}

impl Layers {
    pub fn open(root: &Path) -> Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context(|| "cannot read the boot's id")?;
        let [dir, aliases, trash] = ["layers", "l", "trash"].map(|it| root.join(it));
        let layers = Self { dir, aliases, trash, boot: boot.trim().to_owned() };
        for dir in [&layers.dir, &layers.aliases, &layers.trash] {
            fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(layers)
    }

    /// The folder they are in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The machine's start that this is.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The folders that show these layers, given lowest first: topmost first, as overlayfs' `lowerdir` has them.
    pub fn stack(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>> {
        let mut stack = Vec::new();
        for (at, diff_id) in diff_ids.iter().enumerate() {
            stack.push(self.short(diff_id, Path::new("../layers").join(diff_id.hex()).join(ROOT))?);
            stack.extend(self.inherited(diff_id, &diff_ids[..at])?);
        }
        stack.reverse();
        Ok(stack)
    }

    /// A short path to something: mount options have room for one page of them.
    fn short(&self, name: &Digest, target: PathBuf) -> Result<PathBuf> {
        for length in SHORTEST..=name.hex().len() {
            let alias = self.aliases.join(&name.hex()[..length]);
            let made = std::os::unix::fs::symlink(&target, &alias);
            if made.is_ok() || fs::read_link(&alias).is_ok_and(|it| it == target) {
                return Ok(alias);
            }
            made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
                .context(|| format!("cannot make {}", alias.display()))?;
        }
        Err(Error::new(ErrorKind::Internal, format!("{} has no short path", target.display())))
    }

    /// What lies above a layer that does not describe all of its folders, on these layers. Made once, and gone with it.
    fn inherited(&self, diff_id: &Digest, below: &[Digest]) -> Result<Option<PathBuf>> {
        let layer = self.known(diff_id)?;
        if layer.implied.is_empty() || below.is_empty() {
            return Ok(None);
        }
        let row: String = below.iter().chain([diff_id]).map(Digest::as_str).collect();
        let name = Digest::of(row.as_bytes());
        let dir = self.dir.join(diff_id.hex()).join(name.hex());
        if !dir.is_dir() {
            let below = below.iter().rev().map(|it| self.known(it)).collect::<Result<Vec<_>>>()?;
            let new = dir.with_extension(format!("{:08x}", rand::random::<u32>()));
            fs::create_dir(&new).context(|| format!("cannot make {}", new.display()))?;
            let filled = inherit::fill(&new, &layer, &below);
            if filled.is_err() || fs::rename(&new, &dir).is_err() {
                // somebody else was faster, or it failed
                let _ = fs::remove_dir_all(&new);
            }
            filled?;
        }
        let mut entries = fs::read_dir(&dir).context(|| format!("cannot list {}", dir.display()))?;
        let target = || Path::new("../layers").join(diff_id.hex()).join(name.hex());
        entries.next().map(|_| self.short(&name, target())).transpose()
    }

    fn known(&self, diff_id: &Digest) -> Result<inherit::Known> {
        let dir = self.dir.join(diff_id.hex());
        let implied = match fs::read(dir.join(IMPLIED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.context(|| format!("cannot read what layer {diff_id} implies"))?,
        };
        Ok(inherit::Known { root: dir.join(ROOT), implied: inherit::decode(&implied) })
    }

    /// What is known of a layer that is there.
    pub fn record(&self, diff_id: &Digest) -> Option<Record> {
        let bytes = fs::read(self.dir.join(diff_id.hex()).join(RECORD)).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        record.boot.as_ref().is_none_or(|boot| *boot == self.boot).then_some(record)
    }

    /// Unpacks a layer unless it is there; waits for whoever is at it. Blocks.
    pub fn unpack(
        &self,
        diff_id: &Digest,
        stream: impl FnOnce() -> Result<Box<dyn Read + Send>>,
        limits: &Limits,
    ) -> Result<()> {
        let new = self.dir.join(format!("{}.new", diff_id.hex()));
        let _lock = lock::hold(&new, || make_and_open(&new)).context(|| format!("cannot open {}", new.display()))?;
        let done = match self.record(diff_id) {
            Some(_) => Ok(()),
            None => self.fill(&new, diff_id, stream, limits),
        };
        if new.exists() {
            self.discard(&new);
        }
        if done.is_err() {
            self.empty_trash();
        }
        done
    }

    fn fill(
        &self,
        new: &Path,
        diff_id: &Digest,
        stream: impl FnOnce() -> Result<Box<dyn Read + Send>>,
        limits: &Limits,
    ) -> Result<()> {
        let root = new.join(ROOT);
        // what somebody left who died
        match pintle_daemon::tree::remove(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir(&root),
        }
        .context(|| format!("cannot make {}", root.display()))?;
        let done = unpack::unpack(stream()?, &root, limits)?;
        if done.diff_id != *diff_id {
            let text = format!("wrong diff id calculated on extraction {}, expected {diff_id}", done.diff_id);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        if !done.implied.is_empty() {
            let file = new.join(IMPLIED);
            fs::write(&file, inherit::encode(&done.implied)).context(|| format!("cannot write {}", file.display()))?;
        }
        let record = Record { bytes: done.bytes, entries: done.entries, boot: Some(self.boot.clone()) };
        write_atomically(&new.join(RECORD), &encode(&record))?;
        let place = self.dir.join(diff_id.hex());
        if place.exists() {
            self.discard(&place);
        }
        fs::rename(new, &place).context(|| format!("cannot keep layer {diff_id}"))
    }

    /// Flushes everything, and notes it in the records. Blocks; meant for after a pull.
    pub fn flush(&self) -> Result<()> {
        let fresh = self.list()?.into_iter().filter(|(_, it)| it.boot.is_some());
        let fresh: Vec<_> = fresh.filter_map(|(id, it)| self.seen(&id).map(|seen| (id, it, seen))).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        File::open(&self.dir)
            .and_then(|dir| nix::unistd::syncfs(&dir).map_err(Into::into))
            .context(|| "cannot flush layers")?;
        fresh.into_iter().try_for_each(|(diff_id, record, seen)| self.note_flushed(&diff_id, record, seen))
    }

    /// Not where the layer was removed meanwhile, and perhaps unpacked again: that is another one, which is not flushed.
    fn note_flushed(&self, diff_id: &Digest, record: Record, seen: Seen) -> Result<()> {
        let new = self.dir.join(format!("{}.new", diff_id.hex()));
        let _lock = lock::hold(&new, || make_and_open(&new)).context(|| format!("cannot open {}", new.display()))?;
        let noted = match self.seen(diff_id) == Some(seen) {
            true => {
                write_atomically(&self.dir.join(diff_id.hex()).join(RECORD), &encode(&Record { boot: None, ..record }))
            }
            false => Ok(()),
        };
        // made for the lock alone; what somebody left there who died stays for the next who unpacks
        let _ = fs::remove_dir(&new);
        noted
    }

    /// Which of the files that a layer's record has been this is.
    fn seen(&self, diff_id: &Digest) -> Option<Seen> {
        let found = fs::metadata(self.dir.join(diff_id.hex()).join(RECORD)).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec()))
    }

    /// All layers that are there.
    pub fn list(&self) -> Result<Vec<(Digest, Record)>> {
        let entries = fs::read_dir(&self.dir).context(|| format!("cannot list {}", self.dir.display()))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let ids = names.filter_map(|name| Digest::from_hex(&name).ok());
        Ok(ids.filter_map(|id| self.record(&id).map(|record| (id, record))).collect())
    }

    /// Removes every layer and leftover for which `keep` says no; those being unpacked stay.
    pub fn retain(&self, keep: impl Fn(&Digest) -> bool) -> Result<()> {
        let entries = fs::read_dir(&self.dir).context(|| format!("cannot list {}", self.dir.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (hex, unfinished) = name.strip_suffix(".new").map_or((name.as_str(), false), |hex| (hex, true));
            let Ok(id) = Digest::from_hex(hex) else { continue };
            let busy = unfinished && matches!(lock::try_hold(&entry.path()), Ok(None) | Err(_));
            if !busy && (unfinished || !keep(&id)) {
                self.discard(&entry.path());
            }
        }
        for alias in file_names(&self.aliases).into_iter().map(|name| self.aliases.join(name)) {
            if !alias.exists() {
                // it leads nowhere, and harms nobody where it stays
                let _ = fs::remove_file(alias);
            }
        }
        Ok(())
    }

    /// Takes something out of sight at once; [`Self::empty_trash`] removes it.
    fn discard(&self, path: &Path) {
        let away = self.trash.join(format!("{:016x}", rand::random::<u64>()));
        if let Err(error) = fs::rename(path, &away) {
            tracing::warn!(path = %path.display(), %error, "cannot discard a layer");
        }
    }

    /// Removes what was discarded. May take long.
    pub fn empty_trash(&self) {
        let Ok(entries) = fs::read_dir(&self.trash) else { return };
        for entry in entries.flatten() {
            match pintle_daemon::tree::remove(&entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %entry.path().display(), %error, "cannot remove a discarded layer");
                }
                _ => {}
            }
        }
    }
}

fn make_and_open(dir: &Path) -> io::Result<File> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(dir)
}

fn encode(record: &Record) -> Vec<u8> {
    // numbers and text always encode
    serde_json::to_vec(record).unwrap_or_default()
}
