//! `pintle down`: the cluster and its pods stop; everything on disk stays.
//!
//! Must not know: what is on disk.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use nix::fcntl::{Flock, FlockArg};
use pintle_cri::Runtime;
use pintle_cri::v1::{ListPodSandboxRequest, PodSandbox};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::progress::Progress;
use crate::{cri, parts, units};

/// How long the process may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// What a pod may take to end, where the runtime lets it: a pod's default grace period.
const GRACE: Duration = Duration::from_secs(30);
/// Sandboxes stopped at once.
const AT_ONCE: usize = 16;

pub async fn run(config: &Config) -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "not root: run it with sudo");
    let progress = Progress::start();
    progress.step("pintle stopped", process(config)).await?;
    progress.step("pods stopped", pods(config)).await?;
    progress.step("container runtime stopped", parts::containerd(config).stop()).await?;
    units::stop_slices().map(drop)
}

/// Ends the `pintle up` that runs, if one does.
pub async fn process(config: &Config) -> anyhow::Result<()> {
    let path = config.run_dir.join("pintle.pid");
    let started = Instant::now();
    let mut told = false;
    loop {
        let Ok(file) = fs::File::open(&path) else { return Ok(()) };
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
            return Ok(());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let pid = text.trim().parse().with_context(|| format!("{} holds no pid: {text:?}", path.display()))?;
        if !told {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
                .with_context(|| format!("ending pintle (pid {pid})"))?;
            told = true;
        }
        anyhow::ensure!(started.elapsed() < STOP_LIMIT, "pintle (pid {pid}) does not end");
        // the lock has no event; this is a person waiting for a command
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops and removes every sandbox; nothing to do where no runtime ever had one.
pub async fn pods(config: &Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let _stopped = stop.clone().drop_guard();
    let (all, own) = cri::with_pods(config, &stop).await?;
    for runtime in all {
        pods_of(runtime).await?;
    }
    if let Some(own) = own {
        own.settled().await;
    }
    cri::forget_noted(&config.data_dir)
}

async fn pods_of(mut runtime: Runtime) -> anyhow::Result<()> {
    let listed = runtime.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await;
    let sandboxes = listed.context("listing the pods' sandboxes")?.into_inner().items;
    let stopping = sandboxes.into_iter().map(|sandbox| remove(runtime.clone(), sandbox));
    let results: Vec<anyhow::Result<()>> = stream::iter(stopping).buffer_unordered(AT_ONCE).collect().await;
    results.into_iter().collect()
}

async fn remove(runtime: Runtime, sandbox: PodSandbox) -> anyhow::Result<()> {
    let name = sandbox.metadata.map(|it| format!("{}/{}", it.namespace, it.name)).unwrap_or_default();
    runtime.stop_sandbox(&sandbox.id, GRACE).await.with_context(|| format!("stopping pod {name}"))?;
    runtime.remove_sandbox(&sandbox.id, GRACE).await.with_context(|| format!("removing pod {name}"))
}
