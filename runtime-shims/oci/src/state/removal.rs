//! Folders of what is forgotten: out of the way at once, removed behind everybody's back. What a container wrote may be
//! much, and file systems that discard freed blocks take milliseconds for each folder.
//!
//! Must not know: records.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use pintle_daemon::tree;

/// Folders that may wait; whoever brings more removes them himself.
const WAITING: usize = 256;
/// Such a folder has no record under its name: a start after a kill removes it as one that nobody speaks of.
const SUFFIX: &str = ".removed";

/// Removes folders, in a thread of its own. Dropped, it is done with all of them.
#[derive(Debug)]
pub struct Removal {
    waiting: Option<SyncSender<PathBuf>>,
    thread: Option<JoinHandle<()>>,
}

impl Removal {
    /// # Errors
    /// No thread can be started.
    pub fn begin() -> io::Result<Self> {
        let (waiting, folders) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("removal".into()).stack_size(256 << 10);
        let thread = thread.spawn(move || remove_all(&folders))?;
        Ok(Self { waiting: Some(waiting), thread: Some(thread) })
    }

    /// Takes a folder away. One that is not there is no error.
    ///
    /// # Errors
    /// It cannot be renamed, or not be removed where too many wait.
    pub fn take(&self, folder: &Path) -> io::Result<()> {
        let mut away = folder.as_os_str().to_owned();
        away.push(SUFFIX);
        let away = PathBuf::from(away);
        match fs::rename(folder, &away) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        match self.waiting.as_ref().map(|waiting| waiting.try_send(away)) {
            Some(Err(TrySendError::Full(away) | TrySendError::Disconnected(away))) => tree::remove(&away),
            _ => Ok(()),
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.waiting = None;
        if let Some(thread) = self.thread.take() {
            // it cannot have crashed: it only removes
            let _ = thread.join();
        }
    }
}

fn remove_all(folders: &Receiver<PathBuf>) {
    for folder in folders {
        if let Err(error) = tree::remove(&folder) {
            tracing::warn!(folder = %folder.display(), "what was removed stays until the next start: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_out_of_the_way_at_once_and_gone_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        // deep as a container can make them with one call, on this thread's small stack
        fs::create_dir_all(folder.join("d/".repeat(1_500))).unwrap();
        let removal = Removal::begin().unwrap();
        removal.take(&folder).unwrap();
        assert!(!folder.exists());
        removal.take(&folder).unwrap();
        drop(removal);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
