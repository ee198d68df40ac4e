//! Lists that come in pieces: the same as those that come whole.
//!
//! Must not know: what is in them.

use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use pintle_cri::v1;

use super::demand;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, equal, optional};
use crate::images::TOOLS;

pub const DEMANDS: &[Demand] = &[
    demand!(
        "list/sandboxes",
        "the streamed list of sandboxes is the whole one, its filter included",
        "runtime.v1 StreamPodSandboxes; CRIListStreaming",
        sandboxes
    ),
    demand!(
        "list/containers",
        "the streamed list of containers is the whole one, its filter included",
        "runtime.v1 StreamContainers; CRIListStreaming",
        containers
    ),
    demand!(
        "list/images",
        "the streamed list of images is the whole one, its filter included",
        "runtime.v1 StreamImages; CRIListStreaming",
        images
    ),
    demand!(
        "list/container-stats",
        "the streamed list of containers' statistics has those of the whole one",
        "runtime.v1 StreamContainerStats; CRIListStreaming",
        container_stats
    ),
    demand!(
        "list/sandbox-stats",
        "the streamed list of sandboxes' statistics has those of the whole one",
        "runtime.v1 StreamPodSandboxStats; CRIListStreaming",
        sandbox_stats
    ),
    demand!(
        "list/sandbox-metrics",
        "the streamed list of sandboxes' metrics has this pod's",
        "runtime.v1 StreamPodSandboxMetrics; CRIListStreaming",
        sandbox_metrics
    ),
];

/// All that a stream holds; a runtime may say only in it that it does not serve the call.
async fn gathered<T, S>(call: &str, answer: Result<tonic::Response<S>, tonic::Status>) -> anyhow::Result<Vec<T>>
where
    S: Stream<Item = Result<T, tonic::Status>> + Send + 'static,
{
    let mut stream = optional(call, answer)?.boxed();
    let mut found = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => found.push(piece),
            Err(status) => return optional(call, Err(status)),
        }
    }
    Ok(found)
}

/// Two pods, each with a container; the filter is of the first.
async fn two(bench: &Bench) -> anyhow::Result<(Pod, String)> {
    let (pod, other) = (bench.pod().await?, bench.pod().await?);
    let id = bench.waiting(&pod).await?;
    bench.waiting(&other).await?;
    Ok((pod, id))
}

async fn sandboxes(bench: &Bench) -> anyhow::Result<()> {
    let (pod, _) = two(bench).await?;
    let of_test = v1::PodSandboxFilter { label_selector: pod.config.labels.clone(), ..Default::default() };
    let by_id = v1::PodSandboxFilter { id: pod.id.clone(), ..Default::default() };
    for (filter, count) in [(of_test, 2), (by_id, 1)] {
        let request = v1::StreamPodSandboxesRequest { filter: Some(filter.clone()) };
        let pieces = gathered("StreamPodSandboxes", bench.cri().stream_pod_sandboxes(request).await).await?;
        let streamed: Vec<_> = pieces.into_iter().flat_map(|piece| piece.pod_sandboxes).collect();
        let whole = bench.cri().list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await?;
        equal("how many there are", streamed.len(), count)?;
        let mut whole = whole.into_inner().items;
        whole.sort_by_key(|one| streamed.iter().position(|other| other.id == one.id));
        equal("the list", streamed, whole)?;
    }
    Ok(())
}

async fn containers(bench: &Bench) -> anyhow::Result<()> {
    let (pod, id) = two(bench).await?;
    let of_test = v1::ContainerFilter { label_selector: pod.config.labels.clone(), ..Default::default() };
    let by_id = v1::ContainerFilter { id, ..Default::default() };
    for (filter, count) in [(of_test, 2), (by_id, 1)] {
        let request = v1::StreamContainersRequest { filter: Some(filter.clone()) };
        let pieces = gathered("StreamContainers", bench.cri().stream_containers(request).await).await?;
        let streamed: Vec<_> = pieces.into_iter().flat_map(|piece| piece.containers).collect();
        let whole = bench.cri().list_containers(v1::ListContainersRequest { filter: Some(filter) }).await?;
        equal("how many there are", streamed.len(), count)?;
        let mut whole = whole.into_inner().containers;
        whole.sort_by_key(|one| streamed.iter().position(|other| other.id == one.id));
        equal("the list", streamed, whole)?;
    }
    Ok(())
}

async fn images(bench: &Bench) -> anyhow::Result<()> {
    let streamed = async |filter| {
        let request = v1::StreamImagesRequest { filter };
        let pieces = gathered("StreamImages", bench.image_service().stream_images(request).await).await?;
        Ok::<_, anyhow::Error>(pieces.into_iter().flat_map(|piece| piece.images).collect::<Vec<_>>())
    };
    let name = bench.shared.registry.tagged(TOOLS);
    let all = streamed(None).await?;
    let found = all.iter().find(|one| one.repo_tags.contains(&name)).context("the image is not in it")?;
    let request = v1::ListImagesRequest { filter: None };
    let whole = bench.image_service().list_images(request).await?.into_inner().images;
    equal("the image", Some(found), whole.iter().find(|one| one.id == found.id))?;
    let filter = v1::ImageFilter { image: Some(crate::demand::image(&name)) };
    equal("how many there are of that name", streamed(Some(filter)).await?.len(), 1)
}

async fn container_stats(bench: &Bench) -> anyhow::Result<()> {
    let (pod, id) = two(bench).await?;
    let filter = v1::ContainerStatsFilter { label_selector: pod.config.labels.clone(), ..Default::default() };
    for (filter, count) in [(filter, 2), (v1::ContainerStatsFilter { id, ..Default::default() }, 1)] {
        let request = v1::StreamContainerStatsRequest { filter: Some(filter) };
        let pieces = gathered("StreamContainerStats", bench.cri().stream_container_stats(request).await).await?;
        let found: Vec<_> = pieces.into_iter().flat_map(|piece| piece.container_stats).collect();
        equal("how many there are", found.len(), count)?;
    }
    Ok(())
}

async fn sandbox_stats(bench: &Bench) -> anyhow::Result<()> {
    let (pod, _) = two(bench).await?;
    let filter = v1::PodSandboxStatsFilter { label_selector: pod.config.labels.clone(), ..Default::default() };
    let by_id = v1::PodSandboxStatsFilter { id: pod.id, ..Default::default() };
    for (filter, count) in [(filter, 2), (by_id, 1)] {
        let request = v1::StreamPodSandboxStatsRequest { filter: Some(filter) };
        let pieces = gathered("StreamPodSandboxStats", bench.cri().stream_pod_sandbox_stats(request).await).await?;
        let found: Vec<_> = pieces.into_iter().flat_map(|piece| piece.pod_sandbox_stats).collect();
        equal("how many there are", found.len(), count)?;
    }
    Ok(())
}

async fn sandbox_metrics(bench: &Bench) -> anyhow::Result<()> {
    let (pod, _) = two(bench).await?;
    let request = v1::StreamPodSandboxMetricsRequest {};
    let pieces = gathered("StreamPodSandboxMetrics", bench.cri().stream_pod_sandbox_metrics(request).await).await?;
    let mut found = pieces.into_iter().flat_map(|piece| piece.pod_sandbox_metrics);
    found.find(|one| one.pod_sandbox_id == pod.id).context("the pod is not in it").map(drop)
}
