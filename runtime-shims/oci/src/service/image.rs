//! The image service, over `pintle-images`.
//!
//! Must not know: registries, layers.

use std::collections::HashMap;
use std::sync::Arc;

use pintle_cri::v1;
use pintle_cri::v1::image_service_server::ImageService;
use pintle_images::Progress;
use tonic::{Request, Response};

use super::{Answer, Stream, in_parts, lasting};
use crate::error::{Error, Result};
use crate::plan::credentials;
use crate::runtime::Shared;
use crate::{clock, stats};

/// The calls, over what they share with the runtime service.
#[derive(Debug, Clone)]
pub struct Images {
    shared: Arc<Shared>,
}

impl Images {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn list(&self, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>> {
        let wanted = filter.and_then(|filter| filter.image).unwrap_or_default().image;
        if wanted.is_empty() {
            return Ok(self.shared.images.list()?.iter().map(show).collect());
        }
        Ok(self.shared.images.image(&wanted)?.iter().map(show).collect())
    }
}

fn show(image: &pintle_images::Image) -> v1::Image {
    let config = image.config.config().as_ref();
    let user = config.and_then(|config| config.user().clone()).unwrap_or_default();
    // the group after the colon is no part of it
    let user = user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok().map(|value| v1::Int64Value { value });
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size,
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        uid,
        spec: Some(v1::ImageSpec { annotations: HashMap::new(), ..v1::ImageSpec::default() }),
        pinned: image.pinned,
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        Ok(Response::new(v1::ListImagesResponse { images: self.list(request.into_inner().filter)? }))
    }

    type StreamImagesStream = Stream<v1::StreamImagesResponse>;

    async fn stream_images(&self, request: Request<v1::StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        Ok(in_parts(self.list(request.into_inner().filter)?, |images| v1::StreamImagesResponse { images }))
    }

    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Answer<v1::ImageStatusResponse> {
        let request = request.into_inner();
        let found = self.shared.images.image(&request.image.unwrap_or_default().image).map_err(Error::from)?;
        let mut info = HashMap::new();
        if let Some(image) = found.as_ref().filter(|_| request.verbose) {
            let config = serde_json::json!({ "imageSpec": &*image.config });
            info.insert("info".to_owned(), config.to_string());
        }
        Ok(Response::new(v1::ImageStatusResponse { image: found.as_ref().map(show), info }))
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let (shared, request) = (self.shared.clone(), request.into_inner());
        lasting(async move {
            let name = request.image.unwrap_or_default().image;
            let auth = credentials::of(request.auth)?;
            let now = tokio::runtime::Handle::current();
            // a thread of its own: the future of a pull stays where it began
            let pulled = tokio::task::spawn_blocking(move || {
                now.block_on(shared.images.pull(&name, auth.as_ref(), Progress::none()))
            });
            let image = pulled.await.map_err(anyhow::Error::from)??;
            Ok(v1::PullImageResponse { image_ref: image.id.to_string() })
        })
        .await
    }

    async fn remove_image(&self, request: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        let (shared, name) = (self.shared.clone(), request.into_inner().image.unwrap_or_default().image);
        lasting(async move {
            let removed = tokio::task::spawn_blocking(move || shared.images.remove(&name)).await;
            removed.map_err(anyhow::Error::from)??;
            Ok(v1::RemoveImageResponse {})
        })
        .await
    }

    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        let shared = self.shared.clone();
        lasting(async move {
            let measured = tokio::task::spawn_blocking(move || measure(&shared)).await;
            measured.map_err(anyhow::Error::from)?
        })
        .await
    }
}

fn measure(shared: &Shared) -> Result<v1::ImageFsInfoResponse> {
    let usage = shared.images.usage()?;
    let images = v1::FilesystemUsage {
        timestamp: clock::now(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: shared.images.root().display().to_string() }),
        used_bytes: Some(v1::UInt64Value { value: usage.bytes }),
        inodes_used: Some(v1::UInt64Value { value: usage.inodes }),
    };
    let containers = shared.config.root.join("containers");
    let containers = stats::disk::writable_layers(&shared.containers.all(), &containers);
    Ok(v1::ImageFsInfoResponse { image_filesystems: vec![images], container_filesystems: vec![containers] })
}
