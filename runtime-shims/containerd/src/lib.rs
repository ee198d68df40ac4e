//! CRI over containerd's own API, for hosts whose containerd has its CRI off, as Docker ships it.
//!
//! containerd keeps the records: a sandbox or container is a container of containerd's with our labels and extensions,
//! so a restart finds everything. Logs are written by the pods' monitors, which outlive us.
//! Must not know: the embedded runtime, the kubelet.

mod client;
mod container;
mod events;
mod exec;
mod files;
mod host;
mod images;
mod labels;
mod metrics;
mod netns;
mod record;
mod sandbox;
mod service;
mod snapshots;
mod stats;
mod status;
mod streaming;
mod streams;
mod tasks;
mod told;
mod users;
mod volumes;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use anyhow::Context;
use pintle_bundle::{CgroupDriver, Host};
use pintle_cni::Network;
use pintle_cri::Channel;
use pintle_cri::streaming::server::Server;
use pintle_cri::v1::image_service_server::ImageServiceServer;
use pintle_cri::v1::runtime_service_server::RuntimeServiceServer;

use client::Client;

/// Where things are and how the runtime behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// containerd's socket: `/run/containerd/containerd.sock`.
    pub socket: PathBuf,
    /// What ends with the machine: namespaces, pipes.
    pub state: PathBuf,
    /// What survives a restart of the machine: files of sandboxes, volumes.
    pub root: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub cni_bin_dirs: Vec<PathBuf>,
    pub snapshotter: String,
    pub cgroup_driver: CgroupDriver,
    /// Pintle's own OCI runtime, which makes the namespaces of pods with users of their own; empty where there is none.
    pub namespaces: Vec<OsString>,
    /// Mirrors, plain HTTP, certificates and credentials of registries.
    pub registries: pintle_images::Config,
}

/// The runtime: cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: Config,
    client: Client,
    network: Network,
    host: Host,
    /// Pods may have users of their own.
    user_namespaces: bool,
    images: images::Known,
    streaming: Server,
    told: told::Told,
    /// Held while what happened to a container is recorded.
    recording: tokio::sync::Mutex<()>,
    /// The pods (UID, attempt) whose sandboxes are being made.
    making: std::sync::Mutex<std::collections::HashSet<(String, u32)>>,
    /// Itself, for work that goes on after a call.
    this: Weak<Inner>,
}

impl Runtime {
    /// Connects to containerd, brings the sandbox image, takes up what an earlier run left, and begins to record exits.
    ///
    /// # Errors
    /// No containerd at the socket, one too old, or folders that cannot be made.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        for dir in [&config.state, &config.root] {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let client = Client::connect(&config.socket).await?;
        let network = Network::load(&config.cni_conf_dir, &config.cni_bin_dirs, &config.root.join("cni"))
            .context("loading the pod network")?;
        let host = host::look(config.cgroup_driver);
        let user_namespaces = !config.namespaces.is_empty() && config.snapshotter == "overlayfs" && host::maps_layers();
        let images = images::Known::default();
        let recording = tokio::sync::Mutex::default();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let streaming = Server::start(loopback, std::future::pending()).await?;
        let inner = Arc::new_cyclic(|this| {
            let this = this.clone();
            Inner {
                config,
                client,
                network,
                host,
                user_namespaces,
                images,
                streaming,
                told: told::Told::default(),
                recording,
                making: Default::default(),
                this,
            }
        });
        inner.ensure_sandbox_image().await.context("importing the sandbox image")?;
        inner.clear_mapped();
        inner.take_up().await.context("taking up the containers of an earlier run")?;
        tokio::spawn(events::record_all(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// CRI in this process.
    pub fn channel(&self) -> Channel {
        Channel::in_process(self.routes().prepare())
    }

    /// Serves CRI on a socket until told to stop.
    ///
    /// # Errors
    /// Another runtime listens there, or the socket cannot be made.
    pub async fn serve(&self, socket: &Path, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        pintle_cri::serve(self.routes(), socket, stop).await
    }

    /// Both services.
    pub fn routes(&self) -> tonic::service::Routes {
        let runtime = RuntimeServiceServer::from_arc(self.inner.clone());
        let images = ImageServiceServer::from_arc(self.inner.clone());
        let limit = pintle_cri::connect::MAX_MESSAGE;
        tonic::service::Routes::new(runtime.max_decoding_message_size(limit).max_encoding_message_size(limit))
            .add_service(images.max_decoding_message_size(limit).max_encoding_message_size(limit))
    }
}
