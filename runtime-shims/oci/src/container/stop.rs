//! `StopContainer`: asked to end, then made to.
//!
//! Must not know: gRPC.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::libc;
use pintle_cri::v1::ContainerState;

use crate::error::{Error, Result};
use crate::runtime::Shared;
use crate::state::{Container, Entry};

/// What was killed must be gone within this.
const KILLED_WITHIN: Duration = Duration::from_secs(30);

/// Stops a container; one that does not run is stopped already. Zero grace kills at once.
pub async fn stop(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>, grace: Duration) -> Result<()> {
    // a start that is under way ends first
    drop(entry.turn().await);
    let record = entry.now();
    if !record.is(ContainerState::ContainerRunning) {
        return Ok(());
    }
    if !grace.is_zero() {
        signal(shared, &record, record.stop_signal).await;
        if within(grace, entry).await {
            return Ok(());
        }
    }
    signal(shared, &record, libc::SIGKILL).await;
    if within(Duration::from_millis(200), entry).await {
        return Ok(());
    }
    let (hierarchies, cgroup) = (shared.hierarchies.clone(), record.cgroup.clone());
    tokio::task::spawn_blocking(move || hierarchies.kill(&cgroup)).await.context("ending processes")??;
    if within(KILLED_WITHIN, entry).await {
        return Ok(());
    }
    Err(Error::Deadline(format!("container {:?} was killed and does not end", entry.id)))
}

async fn within(limit: Duration, entry: &Entry<Container>) -> bool {
    let ended = entry.until(|record| !record.is(ContainerState::ContainerRunning));
    tokio::time::timeout(limit, ended).await.is_ok()
}

/// The monitor is the process's parent: it never meets another of the same number.
async fn signal(shared: &Shared, record: &Container, number: i32) {
    let sent = async {
        shared
            .monitors
            .get(&record.sandbox_id)?
            .signal(&record.id, number.unsigned_abs())
            .await
            .map_err(anyhow::Error::from)
    };
    if let Err(error) = sent.await {
        // it may have ended just now
        tracing::debug!(container = record.id, number, "a signal was not sent: {error:#}");
    }
}
