//! The one file: made, opened, checked, reopened after a failure; transactions on it.
//!
//! Must not know: what the tables mean.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::mem::ManuallyDrop;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use redb::{Builder, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, WriteTransaction};

use super::tables::{Checked, Fault, INDEX, LOG, META, Meta};
use crate::Error;

const NAME: &str = "store.redb";
/// How every redb file begins.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// An open store file. Nobody holds a transaction for long, so reopening waits for few.
pub struct File {
    path: PathBuf,
    cache: usize,
    /// `None` once closed, or after a failure from which it could not be opened again.
    database: RwLock<Option<Database>>,
    /// redb panicked over it: what it holds in memory may be wrong, and so it is not used again.
    given_up: AtomicBool,
}

impl File {
    /// Opens `dir/store.redb`, made if absent; nobody else may look into `dir`, for Secrets are in there. `cache` is in bytes.
    pub fn open(dir: &Path, cache: usize) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let private = fs::Permissions::from_mode(0o700);
        fs::create_dir_all(dir).map_err(|error| failed(dir, "making the directory", error))?;
        fs::set_permissions(dir, private).map_err(|error| failed(dir, "keeping others out of", error))?;
        let file = Self { path, cache, database: RwLock::new(None), given_up: AtomicBool::new(false) };
        match fs::File::open(&file.path) {
            Ok(found) => check_magic(&file.path, found)?,
            Err(error) if error.kind() == ErrorKind::NotFound => make(&file.path, cache)?,
            Err(error) => return Err(failed(&file.path, "opening", error)),
        }
        file.reopen()?;
        Ok(file)
    }

    /// Closes the file and opens it again: a failed write leaves it unusable until then.
    pub fn reopen(&self) -> Result<(), Error> {
        let mut database = self.database.write();
        if self.given_up.load(Ordering::Acquire) {
            // its destructor would touch what made it panic
            std::mem::forget(database.take());
            return Err(damaged(&self.path, "using it panicked"));
        }
        shut(database.take());
        *database = Some(open(&self.path, self.cache)?);
        Ok(())
    }

    /// Waits for the transactions that are running; every later one fails.
    pub fn close(&self) {
        let database = self.database.write().take();
        match self.given_up.load(Ordering::Acquire) {
            true => std::mem::forget(database),
            false => shut(database),
        }
    }

    pub fn is_open(&self) -> bool {
        !self.given_up.load(Ordering::Acquire) && self.database.read().is_some()
    }

    /// The file's length in bytes.
    pub fn len(&self) -> u64 {
        fs::metadata(&self.path).map(|meta| meta.len()).unwrap_or(0)
    }

    /// Reads. What `hold` answers is taken before the tables are, and handed to `act` with them.
    pub fn read<H, T>(&self, hold: impl FnOnce() -> H, act: impl FnOnce(&Tables, H) -> Checked<T>) -> Result<T, Error> {
        let database = self.database.read();
        let database = database.as_ref().ok_or_else(|| self.closed())?;
        // redb panics on some damage; nothing is half-done by a read
        let read = catch_unwind(AssertUnwindSafe(|| {
            let held = hold();
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            act(&Tables::open(&transaction)?, held)
        }));
        let read = read.unwrap_or_else(|_| Err(Fault::Corrupt("reading it panicked".to_owned())));
        read.map_err(|fault| self.fault(fault))
    }

    /// Runs `act` in a transaction that is committed, durably, if it answers `Some`.
    pub fn write<T>(&self, act: impl FnOnce(&WriteTransaction) -> Checked<Option<T>>) -> Result<Option<T>, Error> {
        let database = self.database.read();
        let database = database.as_ref().ok_or_else(|| self.closed())?;
        if self.given_up.load(Ordering::Acquire) {
            return Err(self.closed());
        }
        transact(database, act, &self.given_up).map_err(|fault| self.fault(fault))
    }

    fn closed(&self) -> Error {
        self.fault(Fault::Redb(redb::Error::DatabaseClosed))
    }

    fn fault(&self, fault: Fault) -> Error {
        match fault {
            Fault::Redb(redb::Error::Corrupted(why)) | Fault::Corrupt(why) => damaged(&self.path, why),
            Fault::Redb(error) => failed(&self.path, "using", error),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.close();
    }
}

/// Closes a file. redb writes a last time then, and panics over some damage; what was committed stays as it is.
fn shut(database: Option<Database>) {
    if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
        tracing::error!("closing the store file panicked: it is damaged");
    }
}

/// The tables as one reader sees them, unchanging.
pub struct Tables {
    pub log: ReadOnlyTable<u64, &'static [u8]>,
    pub index: ReadOnlyTable<&'static [u8], u64>,
    pub meta: Meta,
}

impl Tables {
    fn open(transaction: &ReadTransaction) -> Checked<Self> {
        let table = |error: redb::TableError| Fault::Redb(error.into());
        Ok(Self {
            log: transaction.open_table(LOG).map_err(table)?,
            index: transaction.open_table(INDEX).map_err(table)?,
            meta: Meta::load(&transaction.open_table(META).map_err(table)?)?,
        })
    }
}

/// redb panics on some damage. The thread that writes must survive that, and the destructor of the transaction must
/// not run: it touches the same pages, and a second panic would end the process.
fn transact<T>(
    database: &Database,
    act: impl FnOnce(&WriteTransaction) -> Checked<Option<T>>,
    given_up: &AtomicBool,
) -> Checked<Option<T>> {
    let begun = catch_unwind(AssertUnwindSafe(|| database.begin_write()));
    let begun = begun.map_err(|_| {
        given_up.store(true, Ordering::Release);
        Fault::Corrupt("using it panicked".to_owned())
    })?;
    let mut transaction = ManuallyDrop::new(begun.map_err(redb::Error::from)?);
    // without it, opening after a crash walks the whole file
    transaction.set_quick_repair(true);
    let acted = catch_unwind(AssertUnwindSafe(|| act(&transaction)));
    let Ok(acted) = acted else {
        given_up.store(true, Ordering::Release);
        return Err(Fault::Corrupt("using it panicked".to_owned()));
    };
    let transaction = ManuallyDrop::into_inner(transaction);
    let ended = catch_unwind(AssertUnwindSafe(|| end(transaction, acted)));
    ended.unwrap_or_else(|_| {
        given_up.store(true, Ordering::Release);
        Err(Fault::Corrupt("committing to it panicked".to_owned()))
    })
}

fn end<T>(transaction: WriteTransaction, acted: Checked<Option<T>>) -> Checked<Option<T>> {
    match acted {
        Ok(Some(done)) => {
            transaction.commit().map_err(redb::Error::from)?;
            Ok(Some(done))
        }
        other => {
            transaction.abort()?;
            other
        }
    }
}

/// Makes an empty store beside its final place and moves it there, so that no half-made file ever stands there.
fn make(path: &Path, cache: usize) -> Result<(), Error> {
    let beside = path.with_extension("new");
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(failed(&beside, "removing", error));
    }
    let database = builder(cache).create(&beside).map_err(|error| failed(&beside, "making", error))?;
    let tables = |transaction: &WriteTransaction| {
        let table = |error: redb::TableError| Fault::Redb(error.into());
        transaction.open_table(LOG).map_err(table)?;
        transaction.open_table(INDEX).map_err(table)?;
        Meta::empty().save(&mut transaction.open_table(META).map_err(table)?)?;
        Ok(Some(()))
    };
    let made = transact(&database, tables, &AtomicBool::new(false));
    made.map_err(|fault| failed(&beside, "making", fault))?;
    drop(database);
    fs::rename(&beside, path).map_err(|error| failed(path, "making", error))?;
    let synced = path.parent().map(|dir| fs::File::open(dir).and_then(|dir| dir.sync_all()));
    synced.transpose().map_err(|error| failed(path, "making", error))?;
    Ok(())
}

fn builder(cache: usize) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache);
    builder
}

/// Says so of a file that is none of ours, before anything could write to it.
fn check_magic(path: &Path, mut file: fs::File) -> Result<(), Error> {
    let mut head = [0; MAGIC.len()];
    match file.read_exact(&mut head) {
        Ok(()) if head == MAGIC => Ok(()),
        Ok(()) => Err(damaged(path, "this is not a store file")),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(damaged(path, "this is not a store file")),
        Err(error) => Err(failed(path, "reading", error)),
    }
}

fn open(path: &Path, cache: usize) -> Result<Database, Error> {
    // redb panics on some damage
    let opened = catch_unwind(|| builder(cache).open(path));
    match opened.map_err(|_| damaged(path, "opening it panicked"))? {
        Ok(database) => Ok(database),
        Err(DatabaseError::Storage(redb::StorageError::Corrupted(why))) => Err(damaged(path, why)),
        Err(error) => Err(failed(path, "opening", error)),
    }
}

fn damaged(path: &Path, why: impl Into<String>) -> Error {
    Error::Corrupt { what: format!("the store file {} is damaged or foreign", path.display()), why: why.into() }
}

fn failed(path: &Path, doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Backend { what: format!("{doing} the store file {}", path.display()), source: Arc::new(error) }
}
