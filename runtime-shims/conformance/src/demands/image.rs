//! Images: pulled, found, removed; and what is in them.
//!
//! Must not know: containers' configuration.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, equal, image};
use crate::images::{BY_DIGEST, BY_TAG, LAYERED, NAMED_USER, NUMBERED_USER, REMOVED, TOOLS};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "image/pull-tag",
        "an image pulled by its tag is found by its tag and by the reference that the pull answered",
        "runtime.v1 PullImage.image_ref, ImageStatus.repo_tags",
        pull_tag
    ),
    demand!(
        "image/pull-digest",
        "an image pulled by its digest is found by it",
        "runtime.v1 PullImage, ImageStatus.repo_digests",
        pull_digest
    ),
    demand!(
        "image/pull-missing",
        "a pull of an image that is not there fails",
        "runtime.v1 PullImage; kubelet's ErrImagePull",
        pull_missing
    ),
    demand!(
        "image/absent",
        "the status of an image that is not there is an answer without an image, and no error",
        "runtime.v1 ImageStatus",
        absent
    ),
    demand!("image/list", "images are listed with their tags and sizes", "runtime.v1 ListImages", list),
    demand!(
        "image/remove",
        "a removed image is gone, and can be removed again",
        "runtime.v1 RemoveImage: idempotent",
        remove
    ),
    demand!(
        "image/user",
        "an image's user is told, by number or by name",
        "runtime.v1 Image.uid, username; Pod's runAsNonRoot",
        user
    ),
    demand!(
        "image/file-system",
        "the use of the file system that holds images is told",
        "runtime.v1 ImageFsInfo; kubelet's eviction",
        file_system
    ),
    demand!(
        "image/layers",
        "layers replace, remove and hide the files of those below",
        "OCI image-spec, layer.md: whiteouts",
        layers
    ),
];

async fn found(bench: &Bench, name: &str) -> anyhow::Result<Option<v1::Image>> {
    let request = v1::ImageStatusRequest { image: Some(image(name)), verbose: false };
    Ok(bench.image_service().image_status(request).await.context("ImageStatus")?.into_inner().image)
}

async fn pull(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let request = v1::PullImageRequest { image: Some(image(name)), ..Default::default() };
    let reference = bench.image_service().pull_image(request).await.context("PullImage")?.into_inner().image_ref;
    ensure!(!reference.is_empty(), "image_ref is empty");
    Ok(reference)
}

async fn pull_tag(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged(BY_TAG);
    let reference = pull(bench, &name).await?;
    let by_tag = found(bench, &name).await?.context("not found by its tag")?;
    ensure!(by_tag.repo_tags.contains(&name), "repo_tags is {:?}", by_tag.repo_tags);
    ensure!(by_tag.size > 0, "its size is 0");
    let by_reference = found(bench, &reference).await?.context("not found by its reference")?;
    equal("the image by its reference", by_reference.id, by_tag.id)
}

async fn pull_digest(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.by_digest(BY_DIGEST);
    pull(bench, &name).await?;
    let image = found(bench, &name).await?.context("not found by its digest")?;
    ensure!(image.repo_digests.contains(&name), "repo_digests is {:?}", image.repo_digests);
    Ok(())
}

async fn pull_missing(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged("no-such-image");
    ensure!(pull(bench, &name).await.is_err(), "it went well");
    ensure!(found(bench, &name).await?.is_none(), "it is there");
    Ok(())
}

async fn absent(bench: &Bench) -> anyhow::Result<()> {
    let image = found(bench, &bench.shared.registry.tagged("never-pulled")).await?;
    equal("the image", image, None)
}

async fn list(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged(TOOLS);
    let images = bench.image_service().list_images(v1::ListImagesRequest { filter: None }).await?.into_inner().images;
    let image = images.iter().find(|one| one.repo_tags.contains(&name)).context("it is not listed")?;
    ensure!(image.size > 0 && !image.id.is_empty(), "it is listed as {image:?}");
    Ok(())
}

async fn remove(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged(REMOVED);
    let reference = pull(bench, &name).await?;
    for attempt in ["first", "again"] {
        let request = v1::RemoveImageRequest { image: Some(image(&reference)) };
        bench.image_service().remove_image(request).await.context(attempt)?;
    }
    ensure!(found(bench, &name).await?.is_none(), "it is there by its tag");
    ensure!(found(bench, &reference).await?.is_none(), "it is there by its reference");
    Ok(())
}

async fn user(bench: &Bench) -> anyhow::Result<()> {
    let named = found(bench, &bench.shared.registry.tagged(NAMED_USER)).await?.context("not found")?;
    equal("username", named.username.as_str(), "tester")?;
    equal("uid beside a name", named.uid, None)?;
    let numbered = found(bench, &bench.shared.registry.tagged(NUMBERED_USER)).await?.context("not found")?;
    equal("uid", numbered.uid, Some(v1::Int64Value { value: 4321 }))
}

async fn file_system(bench: &Bench) -> anyhow::Result<()> {
    let answer = bench.image_service().image_fs_info(v1::ImageFsInfoRequest {}).await?.into_inner();
    let first = answer.image_filesystems.first().context("no file system")?;
    let path = first.fs_id.as_ref().map_or("", |id| id.mountpoint.as_str());
    ensure!(path.starts_with('/'), "its mountpoint is {path:?}");
    ensure!(first.used_bytes.is_some(), "its use is not told");
    Ok(())
}

async fn layers(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.image = Some(image(&bench.shared.registry.tagged(LAYERED)));
    let id = bench.run(&pod, config).await?;
    equal("the replaced file", bench.said(&id, &["cat", "/data/replaced"]).await?, "new")?;
    equal("the folder with a removed file", bench.said(&id, &["ls", "/data"]).await?, "replaced")?;
    equal("the emptied folder", bench.said(&id, &["ls", "/emptied"]).await?, "new")
}
