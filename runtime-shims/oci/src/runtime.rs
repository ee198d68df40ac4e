//! The running runtime: what its calls share, started and served.
//!
//! Must not know: what any call does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use pintle_cni::Network;
use pintle_cri::connect::MAX_MESSAGE;
use pintle_cri::streaming::server::Server;
use pintle_cri::v1::image_service_server::ImageServiceServer;
use pintle_cri::v1::runtime_service_server::RuntimeServiceServer;
use pintle_images::Image;
use tokio_util::sync::CancellationToken;

use crate::config::{CgroupDriver, Config, DEFAULT_HANDLER};
use crate::container::Commands;
use crate::drivers::cgroups::Hierarchies;
use crate::drivers::launcher::{Held, Launcher};
use crate::drivers::monitors::Monitors;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::service::{Images, Service};
use crate::state::{Container, Entry, Sandbox, Table};
use crate::{drivers, recover};

const MOUNT_POINTS: &str = "mount-points";

/// What every call works on.
pub struct Shared {
    pub config: Config,
    pub host: pintle_bundle::Host,
    pub hierarchies: Hierarchies,
    pub sandboxes: Table<Sandbox>,
    pub containers: Table<Container>,
    pub images: pintle_images::Store,
    pub network: Network,
    pub monitors: Monitors,
    pub events: Events,
    pub streaming: Server,
    /// Who waits for the ends of commands in containers.
    pub commands: Commands,
    /// What the default handler is started with, where that is Pintle's own.
    held: Option<Arc<Held>>,
    /// As `UpdateRuntimeConfig` last gave it.
    pub pod_cidr: Mutex<String>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Shared {
    /// The image of a name or ID.
    pub fn image(&self, name: &str) -> Result<Image> {
        let found = self.images.image(name)?;
        found.ok_or_else(|| Error::NotFound(format!("image {name:?} not found")))
    }

    /// What ends with the machine, of one sandbox.
    pub fn state_of(&self, sandbox: &str) -> PathBuf {
        self.config.state.join("sandboxes").join(sandbox)
    }

    /// Where its namespaces are kept.
    pub fn namespaces_of(&self, sandbox: &str) -> PathBuf {
        self.state_of(sandbox).join("ns")
    }

    /// Where the layers of a container are seen as its users see them, while its root is mounted. Short: the kernel
    /// takes a page of such paths.
    pub fn mapped_of(&self, container: &str) -> PathBuf {
        self.config.state.join("mapped").join(container.get(..16).unwrap_or(container))
    }

    /// The OCI runtime of a handler; empty is the default one.
    pub fn launcher(&self, handler: &str) -> Result<Launcher> {
        let named = if handler == DEFAULT_HANDLER { "" } else { handler };
        let argv = if named.is_empty() { Some(&self.config.launcher) } else { self.config.handlers.get(named) };
        let argv = argv.ok_or_else(|| Error::NotFound(format!("no runtime for {handler:?} is configured")))?;
        let root = if named.is_empty() { "launch".to_owned() } else { format!("launch-{named}") };
        let root = self.config.state.join(root);
        let launcher = match self.held.as_ref().filter(|_| named.is_empty()) {
            Some(held) => Launcher::own(argv.clone(), root, held.clone()),
            None => Launcher::new(argv.clone(), root),
        };
        Ok(launcher.with_systemd(self.config.cgroup_driver == CgroupDriver::Systemd))
    }

    /// Pintle's own OCI runtime, whichever is the default handler's.
    pub fn own_launcher(&self) -> Launcher {
        let (argv, root) = (self.config.namespaces.clone(), self.config.state.join("launch"));
        match &self.held {
            Some(held) => Launcher::own(argv, root, held.clone()),
            None => Launcher::new(argv, root),
        }
    }

    /// The layer below all images: what every container has something mounted at.
    pub fn mount_points(&self) -> PathBuf {
        self.config.root.join(MOUNT_POINTS)
    }

    /// The containers of a sandbox.
    pub fn containers_of(&self, sandbox: &str) -> Vec<Arc<Entry<Container>>> {
        let mut all = self.containers.all();
        all.retain(|entry| entry.now().sandbox_id == sandbox);
        all
    }

    pub fn set_pod_cidr(&self, cidr: String) {
        *self.pod_cidr.lock().unwrap_or_else(PoisonError::into_inner) = cidr;
    }

    pub fn pod_cidr(&self) -> String {
        self.pod_cidr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running embedded runtime. Clones share it.
#[derive(Debug, Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

impl Runtime {
    /// Takes over what an earlier one left, and is ready to serve. `stop` ends the streaming server and what follows
    /// events; containers go on.
    ///
    /// # Errors
    /// A folder that cannot be made or read, a streaming address that is taken, a cgroup driver this machine cannot have.
    pub async fn start(config: Config, stop: CancellationToken) -> anyhow::Result<Self> {
        for dir in [&config.root, &config.state, &config.state.join("mapped")] {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        drivers::mounts::make_mount_points(&config.root.join(MOUNT_POINTS))?;
        let hierarchies = Hierarchies::detect(&config.cgroup_root);
        Hierarchies::check(config.cgroup_driver)?;
        let open = |name: &str| config.root.join(name);
        let (sandboxes, broken_sandboxes) = Table::open(open("sandboxes")).context("reading the sandboxes")?;
        let (containers, broken_containers) = Table::open(open("containers")).context("reading the containers")?;
        let network = Network::load(&config.cni_conf_dir, &config.cni_bin_dirs, &open("cni"))?;
        let images = pintle_images::Store::open(&open("images"), config.images.clone())?;
        drivers::host::label_layers(images.layers_dir())?;
        let shared = Arc::new(Shared {
            host: drivers::host::look(&hierarchies, config.cgroup_driver),
            monitors: Monitors::new(config.state.join("sandboxes"), hierarchies.make(&config.monitors_cgroup)?),
            streaming: Server::start(config.streaming, stop.clone().cancelled_owned()).await?,
            events: Events::default(),
            commands: Commands::default(),
            pod_cidr: Mutex::default(),
            held: held(&config)?.map(Arc::new),
            config,
            hierarchies,
            sandboxes,
            containers,
            images,
            network,
        });
        recover::run(&shared, broken_sandboxes.into_iter().chain(broken_containers).collect()).await;
        import(&shared);
        Ok(Self { shared })
    }

    /// The two CRI services, for a [`pintle_cri::Channel`] in this process.
    pub fn service(&self) -> tonic::service::Routes {
        let runtime = RuntimeServiceServer::new(Service::new(self.shared.clone()));
        let images = ImageServiceServer::new(Images::new(self.shared.clone()));
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(runtime.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE));
        routes.add_service(images.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE));
        routes.routes()
    }

    /// Waits until nothing of a pod that was stopped is being taken away behind the calls.
    pub async fn settled(&self) {
        self.shared.network.settled().await;
    }

    /// Serves them on a unix socket until told to stop. A socket that nobody listens on is replaced.
    ///
    /// # Errors
    /// Somebody listens there already, or the socket cannot be made.
    pub async fn serve(&self, socket: &Path, stop: CancellationToken) -> anyhow::Result<()> {
        pintle_cri::serve(self.service(), socket, stop.cancelled_owned()).await
    }
}

/// Where the default handler is Pintle's own OCI runtime, it is run from a mount of its own.
fn held(config: &Config) -> anyhow::Result<Option<Held>> {
    let program = config.launcher.first().filter(|_| config.launcher == config.namespaces);
    program.map(|program| Held::open(Path::new(program))).transpose()
}

/// Imports the archives of the configured folder beside everything else; those that were imported before cost nothing.
fn import(shared: &Arc<Shared>) {
    let Some(dir) = shared.config.import_dir.clone().filter(|dir| dir.is_dir()) else { return };
    let (shared, now) = (shared.clone(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let imported = now.block_on(shared.images.import_folder(&dir));
        let imported =
            imported.inspect_err(|error| tracing::warn!(dir = %dir.display(), "images are not imported: {error}"));
        for (archive, outcome) in imported.unwrap_or_default() {
            match outcome {
                Ok(images) => tracing::info!(archive = %archive.display(), images = images.len(), "imported"),
                Err(error) => tracing::warn!(archive = %archive.display(), "not imported: {error}"),
            }
        }
    });
}
