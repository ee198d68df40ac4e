//! Images as they come from registries: forms, credentials, moved tags, what is broken.
//!
//! Must not know: containers' configuration.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintle_cri::v1;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, Skip, equal, image};
use crate::images::{
    BY_TAG, COMPRESSED, ELSEWHERE, FORGED, GARBLED, INDEX, MOVED, MOVED_LATER, NAMED_USER, NUMBERED_USER,
    REMOVED_BY_ID, TOOLS,
};
use crate::registry::{PASSWORD, Readers, USER};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "image/pull-again",
        "an image that is there is pulled again with the same answer, by several at once too",
        "runtime.v1 PullImage; imagePullPolicy Always, serializeImagePulls false",
        again
    ),
    demand!(
        "image/pull-tag-and-digest",
        "of a tag and a digest, the digest counts",
        "runtime.v1 ImageSpec.image; Pod's image name:tag@digest",
        tag_and_digest
    ),
    demand!(
        "image/moved-tag",
        "a tag that stands for another image now is that image after a pull",
        "runtime.v1 PullImage; imagePullPolicy Always",
        moved_tag
    ),
    demand!(
        "image/compressed",
        "layers compressed with gzip are images like others, and run",
        "OCI image-spec, layer.md: tar+gzip",
        compressed
    ),
    demand!(
        "image/index",
        "of an index, this machine's image is taken",
        "OCI image-spec, image-index.md: platform",
        index
    ),
    demand!(
        "image/index-elsewhere",
        "an index without this machine's platform is refused",
        "kubelet's ErrImagePull",
        elsewhere
    ),
    demand!(
        "image/forged-layer",
        "a layer that is not what its digest says is refused, and the image is not there",
        "OCI distribution-spec: digests are verified",
        forged
    ),
    demand!("image/garbled-manifest", "a manifest that cannot be read is refused", "kubelet's ErrImagePull", garbled),
    demand!(
        "image/unreachable",
        "a registry that nobody serves is an error, and soon",
        "kubelet's ErrImagePull, RegistryUnavailable",
        unreachable
    ),
    demand!(
        "image/bad-name",
        "what is no image's name is refused",
        "runtime.v1 ImageSpec.image; kubelet's InvalidImageName",
        bad_name
    ),
    demand!(
        "image/account",
        "an image for one account comes with its name and password, and not without",
        "runtime.v1 AuthConfig.username, password; imagePullSecrets",
        account
    ),
    demand!(
        "image/account-encoded",
        "the same as one encoded word",
        "runtime.v1 AuthConfig.auth; imagePullSecrets",
        account_encoded
    ),
    demand!(
        "image/account-token",
        "an account's token is fetched where the registry says",
        "runtime.v1 AuthConfig; distribution's token authentication",
        account_token
    ),
    demand!(
        "image/two-names",
        "an image under two names is one image with both",
        "runtime.v1 Image.repo_tags; kubelet's image garbage collection",
        two_names
    ),
    demand!("image/list-filter", "images are found by name", "runtime.v1 ListImages.filter", list_filter),
    demand!(
        "image/pinned",
        "an image that was only pulled is not pinned, so that it can be collected",
        "runtime.v1 Image.pinned; kubelet's image garbage collection",
        pinned
    ),
    demand!(
        "image/remove-by-id",
        "an image that is removed by its ID is gone under every name",
        "runtime.v1 RemoveImage; kubelet's image garbage collection",
        remove_by_id
    ),
    demand!(
        "image/remove-unknown",
        "removing what is not there is no error",
        "runtime.v1 RemoveImage: idempotent",
        remove_unknown
    ),
    demand!(
        "image/file-system-counts",
        "the images' file system is told with its inodes and the time",
        "runtime.v1 FilesystemUsage.inodes_used, timestamp; kubelet's eviction",
        file_system_counts
    ),
];

async fn found(bench: &Bench, name: &str) -> anyhow::Result<Option<v1::Image>> {
    let request = v1::ImageStatusRequest { image: Some(image(name)), verbose: false };
    Ok(bench.image_service().image_status(request).await.context("ImageStatus")?.into_inner().image)
}

async fn try_pull(bench: &Bench, name: &str, auth: Option<v1::AuthConfig>) -> Result<String, tonic::Status> {
    // as kubelets do, with the pod that it is for
    let sandbox_config = Some(bench.pod_config());
    let request = v1::PullImageRequest { image: Some(image(name)), auth, sandbox_config };
    Ok(bench.image_service().pull_image(request).await?.into_inner().image_ref)
}

async fn pull(bench: &Bench, name: &str) -> anyhow::Result<String> {
    try_pull(bench, name, None).await.with_context(|| format!("PullImage {name}"))
}

async fn is_refused(bench: &Bench, name: &str) -> anyhow::Result<()> {
    ensure!(try_pull(bench, name, None).await.is_err(), "the pull of {name} went well");
    ensure!(found(bench, name).await.ok().flatten().is_none(), "{name} is there");
    Ok(())
}

async fn again(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged(BY_TAG);
    let all = futures::future::try_join_all((0..4).map(|_| pull(bench, &name))).await?;
    let last = pull(bench, &name).await?;
    ensure!(all.iter().all(|one| *one == last), "the answers are {all:?} and {last}");
    Ok(())
}

async fn tag_and_digest(bench: &Bench) -> anyhow::Result<()> {
    let registry = &bench.shared.registry;
    let name = format!("{}@{}", registry.tagged(NAMED_USER), registry.digest(NAMED_USER));
    pull(bench, &name).await?;
    ensure!(found(bench, &name).await?.is_some(), "{name} is not found");
    let other = format!("{}@{}", registry.tagged(NAMED_USER), registry.digest(FORGED));
    ensure!(try_pull(bench, &other, None).await.is_err(), "the digest did not count");
    Ok(())
}

async fn moved_tag(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged(MOVED);
    pull(bench, &name).await?;
    let before = found(bench, &name).await?.context("not found before")?;
    bench.shared.registry.move_tag(MOVED, MOVED_LATER);
    pull(bench, &name).await?;
    let after = found(bench, &name).await?.context("not found after")?;
    ensure!(after.id != before.id, "it is still the image of before");
    ensure!(after.repo_tags.contains(&name), "repo_tags is {:?}", after.repo_tags);
    let old = found(bench, &before.id).await?;
    ensure!(old.is_none_or(|old| !old.repo_tags.contains(&name)), "the image of before still has the tag");
    Ok(())
}

/// A container of an image says which image's it is.
async fn runs(bench: &Bench, name: &str, demanded: &str) -> anyhow::Result<()> {
    pull(bench, name).await?;
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { image: Some(image(name)), ..bench.container(&pod, &["env"]) };
    let environment = bench.printed(&pod, config).await?;
    let line = format!("IMAGE={demanded}");
    ensure!(environment.lines().any(|one| one == line), "no {line} in {environment:?}");
    Ok(())
}

async fn compressed(bench: &Bench) -> anyhow::Result<()> {
    runs(bench, &bench.shared.registry.tagged(COMPRESSED), COMPRESSED).await
}

async fn index(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged(INDEX);
    runs(bench, &name, INDEX).await?;
    let digests = found(bench, &name).await?.context("not found")?.repo_digests;
    let demanded = bench.shared.registry.digest(INDEX);
    ensure!(digests.iter().any(|one| one.ends_with(demanded)), "repo_digests is {digests:?}, not the index's");
    Ok(())
}

async fn elsewhere(bench: &Bench) -> anyhow::Result<()> {
    is_refused(bench, &bench.shared.registry.tagged(ELSEWHERE)).await
}

async fn forged(bench: &Bench) -> anyhow::Result<()> {
    is_refused(bench, &bench.shared.registry.tagged(FORGED)).await
}

async fn garbled(bench: &Bench) -> anyhow::Result<()> {
    is_refused(bench, &bench.shared.registry.tagged(GARBLED)).await
}

async fn unreachable(bench: &Bench) -> anyhow::Result<()> {
    // the discard port, where nobody listens
    is_refused(bench, "127.0.0.1:9/nobody/here:1").await
}

async fn bad_name(bench: &Bench) -> anyhow::Result<()> {
    for name in ["", "UPPER/Case:1", "a b", "name:tag:tag@", "name@sha256:short"] {
        ensure!(try_pull(bench, name, None).await.is_err(), "the pull of {name:?} went well");
    }
    Ok(())
}

fn credentials(username: &str, password: &str) -> Option<v1::AuthConfig> {
    Some(v1::AuthConfig { username: username.into(), password: password.into(), ..Default::default() })
}

async fn account(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged_for(Readers::Basic, NUMBERED_USER);
    for wrong in [None, credentials(USER, "wrong")] {
        ensure!(try_pull(bench, &name, wrong).await.is_err(), "it came without the password");
    }
    try_pull(bench, &name, credentials(USER, PASSWORD)).await.context("with the password")?;
    found(bench, &name).await?.context("not found").map(drop)
}

async fn account_encoded(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged_for(Readers::Basic, COMPRESSED);
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let auth = v1::AuthConfig { auth, ..Default::default() };
    try_pull(bench, &name, Some(auth)).await.context("with the encoded word")?;
    found(bench, &name).await?.context("not found").map(drop)
}

async fn account_token(bench: &Bench) -> anyhow::Result<()> {
    let name = bench.shared.registry.tagged_for(Readers::Token, NUMBERED_USER);
    ensure!(try_pull(bench, &name, credentials(USER, "wrong")).await.is_err(), "it came without the password");
    try_pull(bench, &name, credentials(USER, PASSWORD)).await.context("with the password")?;
    found(bench, &name).await?.context("not found").map(drop)
}

async fn two_names(bench: &Bench) -> anyhow::Result<()> {
    let registry = &bench.shared.registry;
    let names = [registry.tagged(NAMED_USER), registry.tagged_for(Readers::Basic, NAMED_USER)];
    pull(bench, &names[0]).await?;
    try_pull(bench, &names[1], credentials(USER, PASSWORD)).await?;
    let images = bench.image_service().list_images(v1::ListImagesRequest { filter: None }).await?.into_inner().images;
    let with: Vec<_> = images.iter().filter(|one| names.iter().any(|name| one.repo_tags.contains(name))).collect();
    equal("how many images have these names", with.len(), 1)?;
    let tags = &with.first().context("none")?.repo_tags;
    ensure!(names.iter().all(|name| tags.contains(name)), "repo_tags is {tags:?}");
    Ok(())
}

async fn list_filter(bench: &Bench) -> anyhow::Result<()> {
    let listed = async |name: &str| {
        let filter = Some(v1::ImageFilter { image: Some(image(name)) });
        let answer = bench.image_service().list_images(v1::ListImagesRequest { filter }).await.context("ListImages")?;
        Ok::<_, anyhow::Error>(answer.into_inner().images)
    };
    let name = bench.shared.registry.tagged(TOOLS);
    let images = listed(&name).await?;
    if images.len() > 1 && !listed("no-such-image.example/it:1").await?.is_empty() {
        return Err(Skip("the runtime lists all images, and kubelets filter themselves".into()).into());
    }
    equal("how many images there are of that name", images.len(), 1)?;
    ensure!(images.iter().all(|one| one.repo_tags.contains(&name)), "{images:?}");
    equal("how many there are of another", listed("no-such-image.example/it:1").await?.len(), 0)
}

async fn pinned(bench: &Bench) -> anyhow::Result<()> {
    let image = found(bench, &bench.shared.registry.tagged(TOOLS)).await?.context("not found")?;
    equal("pinned", image.pinned, false)
}

async fn remove_by_id(bench: &Bench) -> anyhow::Result<()> {
    let registry = &bench.shared.registry;
    let names = [registry.tagged(REMOVED_BY_ID), registry.by_digest(REMOVED_BY_ID)];
    for name in &names {
        pull(bench, name).await?;
    }
    let id = found(bench, &names[0]).await?.context("not found")?.id;
    let request = v1::RemoveImageRequest { image: Some(image(&id)) };
    bench.image_service().remove_image(request).await.context("RemoveImage")?;
    for name in names.iter().chain([&id]) {
        ensure!(found(bench, name).await?.is_none(), "{name} is there");
    }
    Ok(())
}

async fn remove_unknown(bench: &Bench) -> anyhow::Result<()> {
    let request = v1::RemoveImageRequest { image: Some(image("no-such-image.example/it:1")) };
    bench.image_service().remove_image(request).await.map(drop).context("RemoveImage")
}

async fn file_system_counts(bench: &Bench) -> anyhow::Result<()> {
    let counted = async || {
        let answer = bench.image_service().image_fs_info(v1::ImageFsInfoRequest {}).await?.into_inner();
        let first = answer.image_filesystems.first().context("no file system")?;
        ensure!(first.timestamp > 0, "timestamp is {}", first.timestamp);
        let (inodes, bytes) =
            (first.inodes_used.context("no inodes_used")?, first.used_bytes.context("no used_bytes")?);
        Ok(inodes.value > 0 && bytes.value > 0)
    };
    bench.until("inodes and bytes are counted", counted).await
}
