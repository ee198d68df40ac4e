//! All records of one kind: found by ID or the beginning of one, changed one after the other.
//!
//! Must not know: what is in a record.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedMutexGuard, watch};

use super::Record;
use super::disk;
use super::removal::Removal;

/// Why there is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("{0:?} is not found")]
    Missing(String),
    #[error("{0:?} is the beginning of more than one ID")]
    Ambiguous(String),
}

/// One sandbox or container, as long as it exists.
#[derive(Debug)]
pub struct Entry<R> {
    pub id: String,
    dir: PathBuf,
    turn: Arc<tokio::sync::Mutex<()>>,
    now: watch::Sender<Arc<R>>,
    /// Held over a change, from reading what there is on.
    file: Mutex<disk::File>,
}

impl<R: Record> Entry<R> {
    fn new(dir: PathBuf, file: disk::File, record: R) -> Self {
        let id = record.id().to_owned();
        Self { id, dir, turn: Arc::default(), now: watch::channel(Arc::new(record)).0, file: Mutex::new(file) }
    }

    fn file(&self) -> MutexGuard<'_, disk::File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else works on it. Reading needs no turn.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    pub fn now(&self) -> Arc<R> {
        self.now.borrow().clone()
    }

    /// Its own folder, for what belongs to it besides the record.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Changes the record, on disk first.
    pub fn change(&self, change: impl FnOnce(&mut R)) -> io::Result<()> {
        let mut file = self.file();
        let mut record = R::clone(&self.now());
        change(&mut record);
        file.write(&record)?;
        self.now.send_replace(Arc::new(record));
        Ok(())
    }

    /// Changes the record, on disk where that can be written: for what has happened and cannot be refused. A start after
    /// a full disk learns it again, from the monitor or from what is not there any more.
    pub fn note(&self, change: impl FnOnce(&mut R)) {
        let mut file = self.file();
        let mut record = R::clone(&self.now());
        change(&mut record);
        if let Err(error) = file.write(&record) {
            tracing::error!(id = self.id, "a change cannot be written down, and is kept in memory: {error}");
        }
        self.now.send_replace(Arc::new(record));
    }

    /// Waits until the record is as wanted.
    pub async fn until(&self, mut wanted: impl FnMut(&R) -> bool) {
        // the sender is in `self`, so it is not dropped meanwhile
        let _ = self.now.subscribe().wait_for(|record| wanted(record)).await;
    }
}

#[derive(Debug)]
struct Inner<R> {
    entries: HashMap<String, Arc<Entry<R>>>,
    /// Name → ID.
    names: HashMap<String, String>,
}

/// All of a kind.
#[derive(Debug)]
pub struct Table<R> {
    dir: PathBuf,
    removal: Removal,
    inner: Mutex<Inner<R>>,
}

impl<R: Record> Table<R> {
    /// Reads what is in `dir`. A folder whose record cannot be read is given back by its path, to be cleaned up.
    pub fn open(dir: PathBuf) -> io::Result<(Self, Vec<PathBuf>)> {
        fs::create_dir_all(&dir)?;
        // users of a user namespace must get through to their root, and nobody needs to look around
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711))?;
        let removal = Removal::begin()?;
        let table = Self { dir, removal, inner: Mutex::new(Inner { entries: HashMap::new(), names: HashMap::new() }) };
        let mut broken = Vec::new();
        for folder in fs::read_dir(&table.dir)? {
            let folder = folder?.path();
            match disk::File::open::<R>(&folder) {
                Some((file, record)) => table.lock().insert(Entry::new(folder, file, record)),
                None => broken.push(folder),
            }
        }
        Ok((table, broken))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record, on disk first.
    ///
    /// # Errors
    /// `AlreadyExists` where another has its name; the text names it.
    pub fn add(&self, record: R) -> io::Result<Arc<Entry<R>>> {
        let mut inner = self.lock();
        if let Some(id) = inner.names.get(&record.name()) {
            let text = format!("name {:?} is reserved for {id:?}", record.name());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let dir = self.dir.join(record.id());
        let file = disk::File::create(&dir, &record).inspect_err(|_| {
            // a full disk may have had room for its folder
            let _ = fs::remove_dir_all(&dir);
        })?;
        let id = record.id().to_owned();
        inner.insert(Entry::new(dir, file, record));
        inner.entries.get(&id).cloned().ok_or_else(|| io::Error::other("not kept"))
    }

    /// By ID, or by the beginning of exactly one.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn get(&self, id: &str) -> Result<Arc<Entry<R>>, Unknown> {
        let inner = self.lock();
        if let Some(entry) = inner.entries.get(id) {
            return Ok(entry.clone());
        }
        if id.is_empty() {
            return Err(Unknown::Missing(id.to_owned()));
        }
        let mut begun = inner.entries.values().filter(|entry| entry.id.starts_with(id));
        match (begun.next(), begun.next()) {
            (None, _) => Err(Unknown::Missing(id.to_owned())),
            (Some(entry), None) => Ok(entry.clone()),
            (Some(_), Some(_)) => Err(Unknown::Ambiguous(id.to_owned())),
        }
    }

    /// Whether there is one of exactly this ID.
    pub fn has(&self, id: &str) -> bool {
        self.lock().entries.contains_key(id)
    }

    /// All of them, the newest not in any order.
    pub fn all(&self) -> Vec<Arc<Entry<R>>> {
        self.lock().entries.values().cloned().collect()
    }

    /// Forgets one and removes its folder, whose content may be there a little longer under another name.
    pub fn remove(&self, entry: &Entry<R>) -> io::Result<()> {
        self.removal.take(&entry.dir)?;
        let mut inner = self.lock();
        inner.entries.remove(&entry.id);
        inner.names.retain(|_, id| *id != entry.id);
        Ok(())
    }
}

impl<R: Record> Inner<R> {
    fn insert(&mut self, entry: Entry<R>) {
        self.names.insert(entry.now().name(), entry.id.clone());
        self.entries.insert(entry.id.clone(), Arc::new(entry));
    }
}

#[cfg(test)]
mod tests {
    use pintle_cri::v1;

    use super::super::Sandbox;
    use super::*;

    fn sandbox(id: &str, attempt: u32) -> Sandbox {
        let metadata = Some(v1::PodSandboxMetadata { name: "web".into(), attempt, ..Default::default() });
        let config = v1::PodSandboxConfig { metadata, ..Default::default() };
        Sandbox { id: id.into(), config, ..Sandbox::default() }
    }

    #[test]
    fn what_was_added_is_there_after_a_restart_and_what_was_removed_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (table, _) = Table::open(root.path().into()).unwrap();
        let first = table.add(sandbox("aa", 0)).unwrap();
        table.add(sandbox("ab", 1)).unwrap().change(|record| record.made = true).unwrap();
        table.remove(&first).unwrap();
        drop(table);
        fs::create_dir(root.path().join("junk")).unwrap();
        let (again, broken) = Table::<Sandbox>::open(root.path().into()).unwrap();
        assert_eq!(again.all().iter().map(|entry| entry.id.clone()).collect::<Vec<_>>(), ["ab"]);
        assert!(again.get("ab").unwrap().now().made);
        assert_eq!(broken, [root.path().join("junk")]);
    }

    #[test]
    fn the_beginning_of_an_id_is_enough_when_it_is_the_only_one() {
        let root = tempfile::tempdir().unwrap();
        let (table, _) = Table::open(root.path().into()).unwrap();
        table.add(sandbox("aa", 0)).unwrap();
        table.add(sandbox("ab", 1)).unwrap();
        assert_eq!(table.get("aa").unwrap().id, "aa");
        assert_eq!(table.get("a").unwrap_err(), Unknown::Ambiguous("a".into()));
        assert_eq!(table.get("c").unwrap_err(), Unknown::Missing("c".into()));
        assert_eq!(table.get("").unwrap_err(), Unknown::Missing(String::new()));
    }

    #[test]
    fn a_name_is_there_once_until_its_holder_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let (table, _) = Table::open(root.path().into()).unwrap();
        let first = table.add(sandbox("a", 0)).unwrap();
        assert_eq!(table.add(sandbox("b", 0)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        table.remove(&first).unwrap();
        table.add(sandbox("b", 0)).unwrap();
    }
}
