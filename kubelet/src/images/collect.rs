//! Image garbage collection: above the high threshold, unused images go, longest unused first, down to the low one.
//!
//! Must not know: pods.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ObjectReference;
use pintle_client::events::Recorder;
use pintle_cri::Runtime;
use pintle_cri::v1::{
    Container, ContainerStatusRequest, Image, ImageFsInfoRequest, ImageSpec, ListContainersRequest, ListImagesRequest,
    RemoveImageRequest,
};
use tokio_util::sync::CancellationToken;

/// Upstream's period.
const PERIOD: Duration = Duration::from_secs(300);

/// Percentages of the image disk, and the age an image must have.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    pub high: u8,
    pub low: u8,
    pub minimum_age: Duration,
}

/// When each image was first seen and last used.
#[derive(Debug, Default)]
struct History(HashMap<String, (Instant, Instant)>);

/// Collects until cancelled.
pub async fn run(
    runtime: Runtime,
    thresholds: Thresholds,
    recorder: Recorder,
    node: ObjectReference,
    cancel: CancellationToken,
) {
    let mut history = History::default();
    loop {
        if let Err(error) = collect(&runtime, thresholds, &mut history).await {
            tracing::warn!("image garbage collection failed: {error:#}");
            recorder.warning(&node, "ImageGCFailed", format!("{error:#}"));
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn collect(runtime: &Runtime, thresholds: Thresholds, history: &mut History) -> anyhow::Result<()> {
    let images = runtime.images.clone().list_images(ListImagesRequest::default()).await.context("listing images")?;
    let images = images.into_inner().images;
    let listed = runtime.runtime.clone().list_containers(ListContainersRequest::default()).await;
    let containers = listed.context("listing containers")?.into_inner().containers;
    let shown = shown(runtime, &containers).await?;
    let used =
        containers.into_iter().flat_map(|one| [one.image_ref, one.image_id, one.image.unwrap_or_default().image]);
    // no container shows it, and older runtimes do not pin it: without it no sandbox can be made
    let sandbox = runtime.sandbox_image().await.context("asking for the sandbox image")?;
    let used: HashSet<String> = used.chain(sandbox).chain(shown).collect();
    history.note(&images, &used);
    let (total, available) = disk(runtime).await?;
    let percent = 100 - available * 100 / total.max(1);
    if percent < u64::from(thresholds.high) {
        return Ok(());
    }
    let goal = (total * (100 - u64::from(thresholds.low)) / 100).saturating_sub(available);
    let mut freed = 0;
    for image in history.victims(&images, &used, thresholds.minimum_age) {
        if freed >= goal {
            break;
        }
        let spec = ImageSpec { image: image.id.clone(), ..ImageSpec::default() };
        match runtime.images.clone().remove_image(RemoveImageRequest { image: Some(spec) }).await {
            Ok(_) => freed += image.size,
            Err(status) => tracing::warn!(image = image.id, "removing an image: {}", status.message()),
        }
    }
    anyhow::ensure!(
        freed >= goal,
        "Failed to garbage collect required amount of images. Attempted to free {goal} bytes, but only found {freed} bytes eligible to free."
    );
    Ok(())
}

/// The images that containers have mounted as volumes; only a container's status tells.
async fn shown(runtime: &Runtime, containers: &[Container]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for container in containers {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = match runtime.runtime.clone().container_status(request).await {
            Ok(answer) => answer.into_inner().status,
            // removed since the list was made
            Err(status) if status.code() == tonic::Code::NotFound => continue,
            Err(status) => return Err(status).context("asking for a container's mounts"),
        };
        let images = status.into_iter().flat_map(|status| status.mounts).filter_map(|mount| mount.image);
        found.extend(images.flat_map(|image| [image.image, image.image_ref]).filter(|name| !name.is_empty()));
    }
    Ok(found)
}

/// Size and free space in bytes of the file system that holds images.
async fn disk(runtime: &Runtime) -> anyhow::Result<(u64, u64)> {
    let info = runtime
        .images
        .clone()
        .image_fs_info(ImageFsInfoRequest {})
        .await
        .context("asking for the image file system")?;
    let place = info.into_inner().image_filesystems.into_iter().find_map(|usage| usage.fs_id).map(|id| id.mountpoint);
    let place = place.context("the runtime names no image file system")?;
    let stat =
        nix::sys::statvfs::statvfs(Path::new(&place)).with_context(|| format!("asking for the size of {place}"))?;
    let unit = stat.fragment_size();
    Ok((stat.blocks() * unit, stat.blocks_available() * unit))
}

fn in_use(image: &Image, used: &HashSet<String>) -> bool {
    image.pinned
        || used.contains(&image.id)
        || image.repo_digests.iter().chain(&image.repo_tags).any(|name| used.contains(name))
}

impl History {
    fn note(&mut self, images: &[Image], used: &HashSet<String>) {
        let now = Instant::now();
        self.0.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let entry = self.0.entry(image.id.clone()).or_insert((now, now));
            if in_use(image, used) {
                entry.1 = now;
            }
        }
    }

    /// Unused images that are old enough, longest unused first.
    fn victims<'a>(&self, images: &'a [Image], used: &HashSet<String>, age: Duration) -> Vec<&'a Image> {
        let known = |image: &Image| self.0.get(&image.id).copied();
        let old = |image: &&Image| known(image).is_some_and(|(seen, _)| seen.elapsed() >= age);
        let mut unused: Vec<&Image> = images.iter().filter(|image| !in_use(image, used)).filter(old).collect();
        unused.sort_by_key(|image| known(image).map(|(seen, last)| (last, seen)));
        unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str) -> Image {
        Image { id: id.into(), ..Image::default() }
    }

    #[test]
    fn used_pinned_and_young_images_stay() {
        let mut pinned = image("pinned");
        pinned.pinned = true;
        let images = [image("used"), pinned, image("free")];
        let used = HashSet::from(["used".to_string()]);
        let mut history = History::default();
        history.note(&images, &used);
        let ids = |age| history.victims(&images, &used, age).iter().map(|image| image.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(Duration::ZERO), ["free"]);
        assert!(ids(Duration::from_secs(60)).is_empty());
    }
}
