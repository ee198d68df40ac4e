//! `RemoveContainer`: ended by force if it still runs, then forgotten with all it wrote.
//!
//! Must not know: gRPC.

use std::sync::Arc;
use std::time::Duration;

use pintle_cri::v1::ContainerEventType as Event;

use crate::error::Result;
use crate::runtime::Shared;
use crate::state::{Container, Entry};

/// Removes a container.
pub async fn remove(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>) -> Result<()> {
    super::stop(shared, entry, Duration::ZERO).await?;
    let _turn = entry.turn().await;
    forget(shared, entry).await?;
    let sandbox = shared.sandboxes.get(&entry.now().sandbox_id).ok().map(|sandbox| sandbox.now());
    shared.events.of_container(Event::ContainerDeletedEvent, &entry.id, sandbox.as_deref(), &shared.containers);
    Ok(())
}

/// Takes back what a failed creation made; the caller has the turn. What is left, the next start removes.
pub async fn discard(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>) {
    if let Err(error) = forget(shared, entry).await {
        tracing::warn!(container = entry.id, "what a failed creation left cannot be removed yet: {error}");
    }
}

async fn forget(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>) -> Result<()> {
    super::exit::give_back(shared, entry).await?;
    let record = entry.now();
    if let Ok(monitor) = shared.monitors.get(&record.sandbox_id) {
        // one that never ran is not known there
        let _ = monitor.forget(&entry.id).await;
    }
    for image in record.volume_images.iter().chain([&record.image_id]) {
        shared.images.release(&image.parse()?, &entry.id)?;
    }
    Ok(shared.containers.remove(entry)?)
}
