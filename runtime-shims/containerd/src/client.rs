//! The connection to containerd: its version, its services, requests in our namespace and with a deadline.
//!
//! Must not know: what is asked.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{CreateRequest, DeleteRequest};
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Where CRI clients of containerd look; images that its own CRI pulled are found there too.
pub const NAMESPACE: &str = "k8s.io";
/// The first containerd whose runc shim groups a pod's containers and whose API is what we use.
const OLDEST: (u32, u32) = (1, 5);
const DEADLINE: Duration = Duration::from_secs(120);

/// containerd's services over one connection, made again by itself when it is lost.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    pub version: String,
}

impl Client {
    pub async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let channel = containerd_client::connect(socket)
            .await
            .with_context(|| format!("no containerd answers at {}", socket.display()))?;
        let mut client = containerd_client::services::v1::version_client::VersionClient::new(channel.clone());
        let version = client.version(request(())).await.context("containerd does not tell its version")?;
        let version = version.into_inner().version;
        if numbers(&version).is_some_and(|found| found < OLDEST) {
            bail!("containerd {version} is too old: {}.{} is needed", OLDEST.0, OLDEST.1);
        }
        Ok(Self { channel, version })
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel())
    }

    pub fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel())
    }

    pub fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel())
    }

    pub fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel())
    }

    pub fn diff(&self) -> DiffClient<Channel> {
        DiffClient::new(self.channel())
    }

    pub fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel())
    }

    pub fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel())
    }

    /// A lease that keeps what is made under it from containerd's collector; it ends by itself in an hour.
    pub async fn lease(&self) -> Result<Lease, Status> {
        let id = format!("pintle-{:016x}", rand::random::<u64>());
        let expires = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
        let labels = [("containerd.io/gc.expire".to_owned(), expires)].into();
        LeasesClient::new(self.channel()).create(request(CreateRequest { id: id.clone(), labels })).await?;
        Ok(Lease { id, client: self.clone() })
    }
}

/// Ends when it is dropped.
pub struct Lease {
    id: String,
    client: Client,
}

impl Lease {
    /// A request whose results the lease keeps.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = request(message);
        if let Ok(id) = AsciiMetadataValue::try_from(self.id.as_str()) {
            request.metadata_mut().insert("containerd-lease", id);
        }
        request
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let delete = DeleteRequest { id: self.id.clone(), sync: false };
        let mut leases = LeasesClient::new(self.client.channel());
        tokio::spawn(async move {
            if let Err(status) = leases.delete(request(delete)).await {
                tracing::debug!(message = status.message(), "a lease of containerd's will end by itself");
            }
        });
    }
}

/// A request in our namespace; it fails after two minutes.
pub fn request<T>(message: T) -> Request<T> {
    let mut request = lasting(message);
    request.set_timeout(DEADLINE);
    request
}

/// A request in our namespace whose caller bounds it.
pub fn lasting<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    request
}

/// What was being done when containerd refused, in front of its reason.
pub trait During<T> {
    fn during(self, what: impl std::fmt::Display) -> Result<T, Status>;
    /// Not being there is as good as having gone.
    fn or_gone(self) -> Result<Option<T>, Status>;
}

impl<T> During<T> for Result<T, Status> {
    fn during(self, what: impl std::fmt::Display) -> Result<T, Status> {
        self.map_err(|status| Status::new(status.code(), format!("{what}: {}", status.message())))
    }

    fn or_gone(self) -> Result<Option<T>, Status> {
        match self {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if is_gone(&status) => Ok(None),
            Err(status) => Err(status),
        }
    }
}

/// A shim ends with its last task: what containerd asks it at that moment has no better answer than a connection that was
/// closed, which it passes on.
pub fn is_gone(status: &Status) -> bool {
    status.code() == Code::NotFound || status.code() == Code::Unknown && status.message().contains("ttrpc: closed")
}

/// Any other failure as a status, with its chain.
pub fn internal(error: impl Into<anyhow::Error>) -> Status {
    Status::internal(format!("{:#}", error.into()))
}

/// `1.6.20~ds1`, `v1.7.0` → major and minor.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(['.', '~', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shim_had_is_gone_with_it() {
        let gone = |status| Err::<(), Status>(status).or_gone().is_ok_and(|found| found.is_none());
        assert!(gone(Status::not_found("container \"a\": not found")));
        assert!(gone(Status::unknown("ttrpc: closed: unknown")));
        assert!(!gone(Status::unknown("no such device: unknown")));
    }

    #[test]
    fn versions_are_read_in_every_distributions_form() {
        for (text, expected) in [("1.6.20~ds1", Some((1, 6))), ("v2.0.0-rc.1", Some((2, 0))), ("unknown", None)] {
            assert_eq!(numbers(text), expected, "{text}");
        }
        assert!(numbers("1.4.13").unwrap() < OLDEST);
    }
}
