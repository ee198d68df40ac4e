//! Rotating logs by size: renamed with the time, the runtime told to open a new file, older ones compressed, the oldest
//! removed. Source: upstream's container_log_manager.
//!
//! Must not know: pods.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use pintle_cri::Runtime;
use pintle_cri::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStatusRequest, ListContainersRequest,
    ReopenContainerLogRequest,
};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Looks at the running containers' logs at each interval until cancelled. Sizes have no events worth following: a log
/// grows with every line.
pub async fn run(runtime: Runtime, config: Arc<Config>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(config.container_log_monitor_interval) => {}
        }
        if let Err(error) = all(&runtime, &config).await {
            tracing::warn!("rotating logs: {error:#}");
        }
    }
}

async fn all(runtime: &Runtime, config: &Config) -> anyhow::Result<()> {
    let state = Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() });
    let filter = Some(ContainerFilter { state, ..ContainerFilter::default() });
    let listed = runtime
        .runtime
        .clone()
        .list_containers(ListContainersRequest { filter })
        .await
        .context("listing containers")?;
    for container in listed.into_inner().containers {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let Ok(answer) = runtime.runtime.clone().container_status(request).await else { continue };
        let log = PathBuf::from(answer.into_inner().status.unwrap_or_default().log_path);
        // other users of the runtime rotate their own
        let ours = log.starts_with(&config.pod_logs_dir);
        if ours
            && fs::metadata(&log).is_ok_and(|meta| meta.len() >= config.container_log_max_size)
            && let Err(error) = one(runtime, &container.id, log, config.container_log_max_files).await
        {
            tracing::warn!(container = container.id, "rotating its log: {error:#}");
        }
    }
    Ok(())
}

async fn one(runtime: &Runtime, id: &str, log: PathBuf, keep: usize) -> anyhow::Result<()> {
    let path = log.clone();
    tokio::task::spawn_blocking(move || tidy(&path, keep)).await??;
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let rotated = PathBuf::from(format!("{}.{stamp}", log.display()));
    fs::rename(&log, &rotated).with_context(|| format!("renaming {}", log.display()))?;
    let request = ReopenContainerLogRequest { container_id: id.into() };
    if let Err(status) = runtime.runtime.clone().reopen_container_log(request).await {
        // without a new file the old one goes on being written: it keeps its name
        fs::rename(&rotated, &log).with_context(|| format!("renaming {} back", rotated.display()))?;
        anyhow::bail!("the runtime did not reopen the log: {}", status.message());
    }
    Ok(())
}

/// Compresses what earlier rotations left and removes all but `keep` - 2 of them: the current file and the one about to
/// be rotated are the other two.
fn tidy(log: &Path, keep: usize) -> anyhow::Result<()> {
    let mut old = rotated(log)?;
    old.sort();
    let surplus = old.len().saturating_sub(keep.saturating_sub(2));
    for gone in old.drain(..surplus) {
        fs::remove_file(&gone).with_context(|| format!("removing {}", gone.display()))?;
    }
    for plain in old.iter().filter(|path| path.extension().is_none_or(|extension| extension != "gz")) {
        compress(plain)?;
    }
    Ok(())
}

fn rotated(log: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let dir = log.parent().context("the log has no directory")?;
    let prefix = format!("{}.", log.file_name().unwrap_or_default().to_string_lossy());
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect())
}

fn compress(plain: &Path) -> anyhow::Result<()> {
    let packed = PathBuf::from(format!("{}.gz", plain.display()));
    let mut encoder = GzEncoder::new(fs::File::create(&packed)?, Compression::default());
    std::io::copy(&mut fs::File::open(plain)?, &mut encoder)?;
    encoder.finish()?.flush()?;
    fs::remove_file(plain).with_context(|| format!("removing {}", plain.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_compressed_and_the_oldest_removed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for name in ["0.log", "0.log.20260101-000001.gz", "0.log.20260101-000002", "0.log.20260101-000003"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        tidy(&log, 4).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.20260101-000002.gz", "0.log.20260101-000003.gz"]);
    }
}
