//! `RemovePodSandbox`: stopped first, with its containers, then forgotten.
//!
//! Must not know: gRPC.

use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use pintle_cri::v1::ContainerEventType as Event;

use crate::container;
use crate::error::Result;
use crate::runtime::Shared;
use crate::state::{Entry, Sandbox};

/// Removes a sandbox and every container in it.
pub async fn remove(shared: &Arc<Shared>, entry: &Arc<Entry<Sandbox>>) -> Result<()> {
    super::stop(shared, entry).await?;
    for container in shared.containers_of(&entry.id) {
        container::remove(shared, &container).await?;
    }
    let _turn = entry.turn().await;
    forget(shared, entry).await?;
    crate::memory::give_back_soon();
    shared.events.of_sandbox(Event::ContainerDeletedEvent, &entry.now(), &shared.containers);
    Ok(())
}

/// Removes the folders and the record of one that is taken down.
pub async fn forget(shared: &Arc<Shared>, entry: &Entry<Sandbox>) -> Result<()> {
    let state = shared.state_of(&entry.id);
    match pintle_daemon::tree::remove(&state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", state.display())).map_err(Into::into);
        }
        _ => {}
    }
    shared.sandboxes.remove(entry)?;
    Ok(())
}
