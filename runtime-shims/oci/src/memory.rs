//! Memory that the allocator keeps of what is gone: pods that start and end side by side leave a little free in each of
//! its arenas, which it gives back to nobody by itself (11 of 12 MiB after some hundred pods).
//!
//! Must not know: what was removed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Removals come in groups.
const AFTER: Duration = Duration::from_secs(5);

static ASKED: AtomicBool = AtomicBool::new(false);

/// Gives back what is free, once, a little later.
pub fn give_back_soon() {
    if ASKED.swap(true, Ordering::Relaxed) {
        return;
    }
    tokio::spawn(async {
        tokio::time::sleep(AFTER).await;
        ASKED.store(false, Ordering::Relaxed);
        // it cannot have crashed: it is one call
        let _ = tokio::task::spawn_blocking(give_back).await;
    });
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: takes a number, and locks the allocator's arenas itself.
    unsafe { nix::libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}
