//! A blob that is read while it grows: the unpacker follows the download at its own pace, through the page cache.
//!
//! Must not know: where the bytes come from.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind};

#[derive(Default)]
pub(crate) struct Growth {
    state: Mutex<State>,
    changed: Condvar,
    given_up: Notify,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    length: u64,
    /// Nothing more comes.
    complete: bool,
    /// What was read is not what the blob will be, or nothing comes for a failure.
    broken: bool,
}

impl Growth {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, and how much of it is there.
    pub fn start(&self, file: File, length: u64) {
        self.change(|state| (state.file, state.length) = (Some(Arc::new(file)), length));
    }

    pub fn grow(&self, length: u64) {
        self.change(|state| state.length = length);
    }

    pub fn complete(&self) {
        self.change(|state| state.complete = true);
    }

    /// Readers fail.
    pub fn break_off(&self) {
        self.change(|state| state.broken = true);
    }

    /// Nobody needs it any more: the download ends too.
    pub fn give_up(&self) {
        self.break_off();
        self.given_up.notify_one();
    }

    /// Waits until it is given up.
    pub async fn given_up(&self) {
        self.given_up.notified().await;
    }

    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    pub fn reader(self: &Arc<Self>) -> Follower {
        Follower { growth: self.clone(), position: 0 }
    }

    /// Waits until there is more than `position`; the file and how far it can be read.
    fn wait(&self, position: u64) -> io::Result<Option<(Arc<File>, u64)>> {
        let mut state = self.lock();
        loop {
            if state.broken {
                return Err(Error::new(ErrorKind::Unavailable, "the download broke off").into());
            }
            if let Some(file) = state.file.as_ref().filter(|_| state.length > position) {
                return Ok(Some((file.clone(), state.length)));
            }
            if state.complete {
                return Ok(None);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Reads from the beginning, waiting for what is to come.
pub(crate) struct Follower {
    growth: Arc<Growth>,
    position: u64,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((file, length)) = self.growth.wait(self.position)? else { return Ok(0) };
        let most = usize::try_from(length - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let read = file.read_at(&mut buffer[..most], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// Breaks the growth off when dropped, whatever the reason: no reader waits for a download that is gone.
pub(crate) struct BreakOff(pub Arc<Growth>);

impl Drop for BreakOff {
    fn drop(&mut self) {
        self.0.break_off();
    }
}
