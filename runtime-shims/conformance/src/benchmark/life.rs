//! A pod's life, call by call: a sandbox, a container in it, a command in that, and all of it taken away again.
//!
//! Must not know: how many lives there are, what becomes of the times.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::bench::{Bench, Pod};

/// The calls that are timed, in the order of a life.
pub const CALLS: [&str; 8] = [
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "ExecSync",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

/// How long each of [`CALLS`] took.
pub type Times = [Duration; CALLS.len()];

/// The seconds that a kubelet leaves a container to end in by default.
const GRACE: i64 = 30;

/// Lives one life.
///
/// The container is stopped once it has said that it heeds SIGTERM, so that ending is the runtime's work alone.
pub async fn live(bench: &Bench) -> anyhow::Result<Times> {
    let (pod, run) = timed(bench.pod()).await?;
    let (id, create) = timed(bench.create(&pod, bench.container(&pod, &["wait"]))).await?;
    let ((), start) = timed(async { bench.start(&id).await.context("StartContainer") }).await?;
    heeds_signals(bench, &pod).await?;
    let (_, exec) = timed(bench.said(&id, &["args", "said"])).await?;
    let ((), stop) = timed(bench.stop(&id, GRACE)).await?;
    let ((), remove) = timed(bench.remove(&id)).await?;
    let ((), stop_pod) = timed(bench.stop_pod(&pod)).await?;
    let ((), remove_pod) = timed(bench.remove_pod(&pod)).await?;
    Ok([run, create, start, exec, stop, remove, stop_pod, remove_pod])
}

/// The first half of a life: a pod and its container, which runs.
pub async fn begin(bench: &Bench) -> anyhow::Result<(Pod, String)> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["wait"])).await?;
    heeds_signals(bench, &pod).await?;
    Ok((pod, id))
}

/// The other half.
pub async fn end(bench: &Bench, pod: &Pod, container: &str) -> anyhow::Result<()> {
    bench.stop(container, GRACE).await?;
    bench.stop_pod(pod).await?;
    bench.remove_pod(pod).await
}

async fn heeds_signals(bench: &Bench, pod: &Pod) -> anyhow::Result<()> {
    bench.until("the container is ready", async || Ok(bench.log(pod, "main.log").contains("ready"))).await
}

async fn timed<T>(call: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Duration)> {
    let began = Instant::now();
    Ok((call.await?, began.elapsed()))
}
