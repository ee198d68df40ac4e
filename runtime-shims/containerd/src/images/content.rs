//! Blobs in containerd's content store.
//!
//! Must not know: what is in them.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{
    Info, InfoRequest, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest,
};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use prost_types::FieldMask;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::Link;
use crate::Inner;
use crate::client::{During, Lease, request};

/// Manifests and configurations beyond this are hostile.
const LARGEST_DOCUMENT: usize = 8 << 20;

impl Inner {
    /// A document of the content store.
    pub(super) async fn read_blob(&self, digest: &str) -> Result<Vec<u8>, Status> {
        let read = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut pieces =
            self.client.content().read(request(read)).await.during(format!("reading {digest}"))?.into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.message().await.during(format!("reading {digest}"))? {
            bytes.extend_from_slice(&piece.data);
            if bytes.len() > LARGEST_DOCUMENT {
                return Err(Status::failed_precondition(format!("{digest} is larger than {LARGEST_DOCUMENT} bytes")));
            }
        }
        Ok(bytes)
    }

    pub(super) async fn has_blob(&self, digest: &str) -> Result<bool, Status> {
        let info = InfoRequest { digest: digest.to_owned() };
        Ok(self.client.content().info(request(info)).await.or_gone()?.is_some())
    }

    /// Writes a blob as it comes; containerd checks its digest and size before it appears under its name. A write that
    /// breaks leaves nothing visible.
    pub(super) async fn write_blob(
        &self,
        lease: &Lease,
        link: &Link,
        labels: HashMap<String, String>,
        pieces: BoxStream<'static, Bytes>,
    ) -> Result<(), Status> {
        let first = message(link, WriteAction::Write, 0, Bytes::new(), &HashMap::new());
        let end = message(link, WriteAction::Commit, link.size, Bytes::new(), &labels);
        let (data, mut offset) = (link.clone(), 0i64);
        let middle = pieces.map(move |piece| {
            let at = offset;
            offset = offset.saturating_add(piece.len().try_into().unwrap_or(i64::MAX));
            message(&data, WriteAction::Write, at, piece, &HashMap::new())
        });
        let messages = Messages(stream::iter([first]).chain(middle).chain(stream::iter([end])).boxed());
        let mut write = crate::client::lasting(messages);
        for entry in lease.request(()).metadata().iter() {
            if let tonic::metadata::KeyAndValueRef::Ascii(key, value) = entry
                && key.as_str() == "containerd-lease"
            {
                write.metadata_mut().insert(key.clone(), value.clone());
            }
        }
        match send(self.client.content(), write).await {
            Err(status) if status_is_there(&status) => Ok(()),
            outcome => outcome.during(format!("writing {}", link.digest)),
        }
    }

    /// Keeps a snapshot as long as this blob: containerd's collector follows the label.
    pub(crate) async fn keep_snapshot(&self, lease: &Lease, digest: &str, chain: &str) -> Result<(), Status> {
        let name = format!("containerd.io/gc.ref.snapshot.{}", self.config.snapshotter);
        let labels = [(name.clone(), chain.to_owned())].into();
        let info = Some(Info { digest: digest.to_owned(), labels, ..Info::default() });
        let update_mask = Some(FieldMask { paths: vec![format!("labels.{name}")] });
        let update = UpdateRequest { info, update_mask };
        self.client.content().update(lease.request(update)).await.during(format!("keeping the layers of {digest}"))?;
        Ok(())
    }
}

/// Writes and waits for the last answer.
async fn send(mut content: ContentClient<Channel>, write: Request<Messages>) -> Result<(), Status> {
    let mut answers = content.write(write).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

/// A stream with a name: of a bare boxed one the compiler cannot see, inside `write`, that it may cross threads.
struct Messages(BoxStream<'static, WriteContentRequest>);

impl Stream for Messages {
    type Item = WriteContentRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WriteContentRequest>> {
        self.0.as_mut().poll_next(context)
    }
}

fn status_is_there(status: &Status) -> bool {
    status.code() == Code::AlreadyExists
}

fn message(
    link: &Link,
    action: WriteAction,
    offset: i64,
    data: Bytes,
    labels: &HashMap<String, String>,
) -> WriteContentRequest {
    WriteContentRequest {
        action: action.into(),
        r#ref: format!("pintle-{}", link.digest),
        total: link.size,
        expected: link.digest.clone(),
        offset,
        data: data.into(),
        labels: labels.clone(),
    }
}
