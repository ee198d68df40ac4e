//! The Container Runtime Interface: its types, a connection to a runtime (socket or in process), container events,
//! the log format, the streaming protocols behind exec, attach and port-forward, and a sandbox image of our own.
//!
//! Must not know: pods as the API server has them, the kubelet, any one runtime's inside (containerd's own event and
//! image services excepted, which fill in for what its CRI lacks).

pub mod archive;
pub mod cgroup;
pub mod channel;
pub mod connect;
mod containerd;
mod deadlines;
pub mod events;
pub mod known;
pub mod log;
pub mod metrics;
pub mod pause;
mod sandboxes;
mod serve;
pub mod streaming;

pub use cgroup::CgroupDriver;
pub use channel::Channel;
pub use connect::{ConnectError, Runtime, connect};
pub use containerd::import as import_into_containerd;
pub use events::{ContainerEvent, Event, EventKind};
pub use serve::serve;

/// CRI v1 as of Kubernetes 1.36: messages, clients and servers, generated from `proto/`.
pub mod v1 {
    #![allow(deprecated, clippy::all)]

    tonic::include_proto!("runtime.v1");

    /// Names the account and the server; never a secret.
    impl std::fmt::Debug for AuthConfig {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("AuthConfig")
                .field("username", &self.username)
                .field("server_address", &self.server_address)
                .finish_non_exhaustive()
        }
    }
}

/// A client of the runtime service over whichever channel there is.
pub type RuntimeClient = v1::runtime_service_client::RuntimeServiceClient<Channel>;
/// A client of the image service over whichever channel there is.
pub type ImageClient = v1::image_service_client::ImageServiceClient<Channel>;
