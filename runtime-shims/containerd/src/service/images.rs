//! CRI's image service.
//!
//! Must not know: containers.

use pintle_cri::v1::image_service_server::ImageService;
use pintle_cri::v1::*;
use tonic::{Request, Response, Status, async_trait};

use super::{Answers, given, pages};
use crate::Inner;
use crate::record::now;

impl Inner {
    async fn filtered(&self, filter: Option<ImageFilter>) -> Result<Vec<Image>, Status> {
        let asked = filter.and_then(|filter| filter.image).map(|spec| spec.image).unwrap_or_default();
        let found = match asked.as_str() {
            "" => self.images().await?,
            asked => self.image(asked).await?.into_iter().collect(),
        };
        Ok(found.iter().map(crate::images::Found::to_cri).collect())
    }
}

#[async_trait]
impl ImageService for Inner {
    type StreamImagesStream = Answers<StreamImagesResponse>;

    async fn list_images(&self, request: Request<ListImagesRequest>) -> Result<Response<ListImagesResponse>, Status> {
        let images = self.filtered(request.into_inner().filter).await?;
        Ok(Response::new(ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        pages(self.filtered(request.into_inner().filter).await?, |images| StreamImagesResponse { images })
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let spec = given(request.into_inner().image, "image")?;
        let image = self.image(&spec.image).await?.map(|found| found.to_cri());
        Ok(Response::new(ImageStatusResponse { image, ..Default::default() }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Result<Response<PullImageResponse>, Status> {
        let PullImageRequest { image, auth, .. } = request.into_inner();
        let image_ref = self.pull(&given(image, "image")?.image, auth.as_ref()).await?;
        Ok(Response::new(PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        self.remove_image(&given(request.into_inner().image, "image")?.image).await?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Result<Response<ImageFsInfoResponse>, Status> {
        let (bytes, inodes) = self.layers_usage().await?;
        let usage = FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: self.layers_folder() }),
            used_bytes: Some(UInt64Value { value: bytes }),
            inodes_used: Some(UInt64Value { value: inodes }),
        };
        let image_filesystems = vec![usage.clone()];
        Ok(Response::new(ImageFsInfoResponse { image_filesystems, container_filesystems: vec![usage] }))
    }
}
