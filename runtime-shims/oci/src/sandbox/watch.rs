//! Following a sandbox's monitor: exits of its containers and commands, and its own end.
//!
//! Must not know: how containers are started.

use std::sync::{Arc, Weak};

use pintle_cri::v1::ContainerState;
use pintle_monitor::{Exit, Exited, Monitor};

use crate::container;
use crate::error::Result;
use crate::plan::lifecycle::End;
use crate::runtime::Shared;
use crate::state::{Container, Entry};

/// Follows in a task of its own, until the monitor ends. Exits before this call are told too.
pub async fn follow(shared: &Arc<Shared>, sandbox: String, monitor: &Monitor) -> Result<()> {
    let mut exits = monitor.exits().await?;
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        while let Some(Exited { id, exit }) = exits.next().await {
            let Some(shared) = shared.upgrade() else { return };
            match shared.containers.get(&id) {
                Ok(entry) => drop(tokio::spawn(ended(shared, entry, exit))),
                Err(_) => shared.commands.ended(&id, code(&exit)),
            }
        }
        lost(&shared, &sandbox).await;
    });
    Ok(())
}

async fn ended(shared: Arc<Shared>, entry: Arc<Entry<Container>>, exit: Exit) {
    let (end, at) = seen(&exit);
    container::exited(&shared, &entry, end, at).await;
}

/// An exit as a monitor tells it, and when it was.
pub fn seen(exit: &Exit) -> (End, i64) {
    (End::seen(code(exit), exit.oom), i64::try_from(exit.at_ns).unwrap_or(i64::MAX))
}

fn code(exit: &Exit) -> i32 {
    i32::try_from(exit.code).unwrap_or(i32::MAX)
}

/// A monitor that was not told to stop is gone: nobody sees how what it ran ends, so it ends now.
async fn lost(shared: &Weak<Shared>, sandbox: &str) {
    let Some(shared) = shared.upgrade() else { return };
    if shared.monitors.forget(sandbox).is_none() {
        return;
    }
    tracing::warn!(sandbox, "the sandbox's monitor ended; its containers are ended too");
    abandon(&shared, sandbox).await;
}

/// Ends everything of a sandbox that has no monitor, and the sandbox.
pub async fn abandon(shared: &Arc<Shared>, sandbox: &str) {
    end_all(shared, sandbox).await;
    let Ok(entry) = shared.sandboxes.get(sandbox) else { return };
    if let Err(error) = super::stop(shared, &entry).await {
        tracing::warn!(sandbox, "a sandbox without its monitor could not be stopped: {error}");
    }
}

/// Ends everything of a sandbox that has no monitor.
pub async fn end_all(shared: &Arc<Shared>, sandbox: &str) {
    shared.commands.lost(sandbox);
    for entry in shared.containers_of(sandbox) {
        if entry.now().is(ContainerState::ContainerRunning) {
            ended_unseen(shared, &entry).await;
        }
    }
}

/// A container whose monitor does not know it has ended, as its exit file says where there is one.
pub async fn ended_unseen(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>) {
    let kept = pintle_monitor::read_exit_file(&entry.dir().join("exit")).ok();
    let (end, at) = match kept {
        Some(exit) => seen(&exit),
        None => (End::unseen("nobody saw how it ended: the monitor of its sandbox was gone"), crate::clock::now()),
    };
    container::exited(shared, entry, end, at).await;
}
