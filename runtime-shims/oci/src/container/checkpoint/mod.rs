//! `CheckpointContainer`: the OCI runtime has CRIU write down a container's processes, and that goes into one archive with
//! what the container wrote, while the container goes on (KEP-2008).
//!
//! The container is held from before its processes are written until its files are, so that both belong together. The
//! folder `checkpoint` is there as long as that lasts: a start that finds one lets the container go on.
//! Must not know: gRPC.

mod archive;
mod work;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pintle_cri::v1::CheckpointContainerRequest;
use tokio::process::Command;
use tokio::sync::oneshot;

use self::work::Work;
use crate::drivers::launcher::Launcher;
use crate::drivers::layer;
use crate::drivers::mounts::Snapshot;
use crate::drivers::processes;
use crate::error::{Error, Result};
use crate::plan::lifecycle;
use crate::runtime::Shared;
use crate::state::{Container, Entry};

/// Upstream's, where the request names none.
const USUAL: Duration = Duration::from_secs(120);
/// However large a container is. What takes longer than its caller waits is not cut short: CRIU, killed in the midst, would
/// leave processes that cannot go on.
const LONGEST: Duration = Duration::from_secs(3600);
const CHECK: Duration = Duration::from_secs(30);

/// Writes an archive of a running container to the request's location, in its place at once when it is whole.
pub async fn checkpoint(shared: &Arc<Shared>, request: CheckpointContainerRequest) -> Result<()> {
    let entry = shared.containers.get(&request.container_id)?;
    lifecycle::must_run(&entry.now())?;
    let limit = limit(request.timeout)?;
    let location = PathBuf::from(&request.location);
    if !location.is_absolute() {
        return Err(Error::Invalid(format!("location {:?} is no absolute path", request.location)));
    }
    let handler = shared.sandboxes.get(&entry.now().sandbox_id)?.now().handler.clone();
    let launcher = shared.launcher(&handler)?;
    can_checkpoint(&launcher).await?;
    let work = Work::begin(entry.dir(), &location)?;
    let (told, outcome) = oneshot::channel();
    tokio::spawn(async move {
        let wanted = || !told.is_closed();
        let written = write(&entry, &launcher, &work, wanted).await;
        // images may be large, and their removal slow
        let _ = tokio::task::spawn_blocking(move || drop(work)).await;
        let _ = told.send(written);
    });
    match tokio::time::timeout(limit, outcome).await {
        Ok(Ok(written)) => written,
        Ok(Err(_)) => Err(anyhow::anyhow!("writing the checkpoint crashed").into()),
        Err(_) => Err(Error::Deadline(format!("the checkpoint was not written within {limit:?}"))),
    }
}

fn limit(seconds: i64) -> Result<Duration> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(USUAL),
        Ok(seconds) => Ok(Duration::from_secs(seconds).min(LONGEST)),
        Err(_) => Err(Error::Invalid(format!("timeout {seconds} is negative"))),
    }
}

async fn can_checkpoint(launcher: &Launcher) -> Result<()> {
    if launcher.is_own() {
        let text = "Pintle's own OCI runtime writes no checkpoints; pods of a handler whose OCI runtime does (runc with \
                    CRIU) can be checkpointed";
        return Err(Error::Unimplemented(text.into()));
    }
    let known = launcher.knows("checkpoint").await;
    known.map_err(|error| Error::Unimplemented(format!("{} writes no checkpoints: {error:#}", launcher.name())))
}

async fn write(entry: &Entry<Container>, launcher: &Launcher, work: &Work, wanted: impl Fn() -> bool) -> Result<()> {
    launcher.pause(&entry.id).await.context("holding the container")?;
    let taken = take(entry, launcher, work).await;
    let resumed = launcher.resume(&entry.id).await.context("letting the container go on");
    taken?;
    resumed?;
    if !wanted() {
        return Ok(());
    }
    let (archive, record) = (work.archive(), entry.now());
    let (bundle, dir, runtime) = (entry.dir().join("config.json"), work.dir().to_owned(), launcher.name());
    let written = move || {
        archive::write(&archive::Parts { record: &record, bundle: &bundle, work: &dir, runtime: &runtime }, &archive)
    };
    tokio::task::spawn_blocking(written).await.context("writing the archive")??;
    Ok(work.finish()?)
}

/// The container's processes and its files, while it is held.
async fn take(entry: &Entry<Container>, launcher: &Launcher, work: &Work) -> Result<()> {
    let images = work.dir().join(archive::IMAGES);
    if let Err(error) = launcher.checkpoint(&entry.id, &images, work.dir(), LONGEST).await {
        can_criu().await?;
        let why = criu_error(&std::fs::read_to_string(work.dir().join(archive::DUMP_LOG)).unwrap_or_default());
        return Err(error.context(format!("failed to checkpoint container {:?}{why}", entry.id)).into());
    }
    let (upper, to) = (Snapshot::of(entry.dir()).upper, work.dir().join(archive::FILES));
    let files = move || {
        let file = std::fs::File::create(&to).with_context(|| format!("making {}", to.display()))?;
        layer::write(&upper, std::io::BufWriter::new(file))
    };
    Ok(tokio::task::spawn_blocking(files).await.context("archiving files")??)
}

/// Whether CRIU is there and can work on this machine: asked after a failure, to tell the machine's fault from others.
async fn can_criu() -> Result<()> {
    let mut check = Command::new("criu");
    check.arg("check").stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(CHECK, check.output()).await {
        Ok(Err(error)) => Err(Error::Precondition(format!("CRIU binary not found: {error}"))),
        Ok(Ok(done)) if !done.status.success() => {
            let why = criu_error(&String::from_utf8_lossy(&done.stderr));
            Err(Error::Precondition(format!("CRIU cannot work on this machine{why}")))
        }
        _ => Ok(()),
    }
}

/// The first of CRIU's errors, with a colon before it: those after it follow from it.
fn criu_error(log: &str) -> String {
    let first = log.lines().find_map(|line| line.split_once("Error ").map(|(_, text)| text));
    first.map_or_else(String::new, |text| format!(": {}", text.trim()))
}

/// Lets a container go on that an earlier runtime held when it ended; what it wrote until then is removed. The commands of
/// that runtime end by themselves first, since CRIU leaves a container as it found it: held.
pub async fn abandoned(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>) {
    let Some(work) = Work::left(entry.dir()) else { return };
    let ends = processes::below(work.dir()).into_iter().map(processes::ended);
    let _ = tokio::time::timeout(LONGEST, futures::future::join_all(ends)).await;
    let resumed = async {
        let handler = shared.sandboxes.get(&entry.now().sandbox_id)?.now().handler.clone();
        Ok::<_, Error>(shared.launcher(&handler)?.resume(&entry.id).await?)
    };
    match resumed.await {
        Ok(()) => tracing::info!(container = entry.id, "it goes on: its checkpoint was not finished"),
        // it was not held yet, or not any more
        Err(error) => tracing::debug!(container = entry.id, "it was not let go on: {error}"),
    }
    let _ = tokio::task::spawn_blocking(move || drop(work)).await;
}

/// Whether an earlier runtime was writing one of this container.
pub fn was_begun(dir: &Path) -> bool {
    work::of(dir).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_seconds_and_none_is_upstreams() {
        assert_eq!(limit(0).unwrap(), USUAL);
        assert_eq!(limit(7).unwrap(), Duration::from_secs(7));
        assert_eq!(limit(i64::MAX).unwrap(), LONGEST);
        assert!(matches!(limit(-1), Err(Error::Invalid(_))));
    }

    #[test]
    fn of_what_criu_wrote_the_first_error_is_told() {
        let log = "(00.01) Warn  (criu/a.c:1): x\n(00.02) Error (criu/vdso.c:381): bounds\n(00.03) Error (b): more\n";
        assert_eq!(criu_error(log), ": (criu/vdso.c:381): bounds");
        assert_eq!(criu_error(""), "");
    }
}
