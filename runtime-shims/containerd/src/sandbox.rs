//! Pod sandboxes: a network namespace of ours, files, and the sandbox image's process as a task of containerd.
//!
//! Must not know: how a container is made.

use std::collections::HashMap;
use std::sync::PoisonError;

use containerd_client::services::v1::container::Runtime as ShimRuntime;
use containerd_client::services::v1::{Container, CreateContainerRequest, DeleteContainerRequest};
use containerd_client::types::v1::Status as TaskStatus;
use pintle_bundle::{NamespacePaths, SandboxInput, sandbox_namespaces, sandbox_spec};
use pintle_cni::{Bandwidth, Capabilities, Dns, Pod, PortMapping};
use pintle_cri::v1::{PodSandboxConfig, PodSandboxMetadata, Protocol};
use prost_types::Any;
use tonic::Status;

use crate::client::{During, internal, request};
use crate::container::seccomp_profile;
use crate::images::PAUSE_IMAGE;
use crate::record::{KIND, SANDBOX, SandboxRecord, State, extensions, new_id, now};
use crate::tasks::Pipes;
use crate::{Inner, netns};

const SHIM: &str = "io.containerd.runc.v2";
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// A specification as containerd keeps it.
pub fn spec_any(spec: &oci_spec::runtime::Spec) -> Result<Any, Status> {
    let value = serde_json::to_vec(spec).map_err(internal)?;
    Ok(Any { type_url: SPEC_TYPE.to_owned(), value })
}

/// A pod's attempt whose sandbox is being made.
struct Reserved<'a> {
    inner: &'a Inner,
    key: (String, u32),
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.inner.making.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Inner {
    /// Makes a sandbox and starts its process; its id. What was made is undone when a step fails.
    pub async fn run_sandbox(&self, config: PodSandboxConfig, handler: String) -> Result<String, Status> {
        if !handler.is_empty() && handler != "runc" {
            return Err(Status::invalid_argument(format!("no runtime for {handler:?} is configured")));
        }
        self.check_users(&config)?;
        let metadata = config.metadata.as_ref();
        let metadata = metadata.filter(|it| !it.name.is_empty() && !it.uid.is_empty()).cloned();
        let metadata = metadata.ok_or_else(|| Status::invalid_argument("the sandbox has no metadata.name and uid"))?;
        let _reserved = self.reserve(&metadata).await?;
        let id = new_id();
        let selinux_level = self.selinux_level(&config).await?;
        let state = State { created_at: now(), runtime_handler: handler, selinux_level, ..State::default() };
        match self.make_sandbox(&id, &config, state).await {
            Ok(()) => Ok(id),
            Err(status) => {
                self.undo_sandbox(&id).await;
                Err(status)
            }
        }
    }

    /// A pod's attempt is made once: a kubelet whose call was lost must not get a second sandbox beside the first.
    async fn reserve(&self, metadata: &PodSandboxMetadata) -> Result<Reserved<'_>, Status> {
        let taken = || Status::already_exists(format!("sandbox {} of attempt {}", metadata.name, metadata.attempt));
        let key = (metadata.uid.clone(), metadata.attempt);
        let free = self.making.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        if !free {
            return Err(taken());
        }
        let reserved = Reserved { inner: self, key };
        let all = self.all::<PodSandboxConfig>().await?;
        let same = |it: &PodSandboxMetadata| it.uid == metadata.uid && it.attempt == metadata.attempt;
        if all.iter().any(|record| record.config.metadata.as_ref().is_some_and(same)) {
            Err(taken())
        } else {
            Ok(reserved)
        }
    }

    async fn make_sandbox(&self, id: &str, config: &PodSandboxConfig, mut state: State) -> Result<(), Status> {
        let folder = self.config.sandbox_state(id);
        std::fs::create_dir_all(&folder).map_err(internal).during("making the sandbox's folder")?;
        if !crate::files::host_network(config) {
            let path = match sandbox_namespaces(config).map_err(invalid)?.user {
                Some(users) => self.make_user_namespace(id, &users).await.map_err(internal)?,
                None => {
                    let path = folder.join("netns");
                    netns::make(&path).map_err(internal)?;
                    path
                }
            };
            state.netns = Some(path.clone());
            let result = self.network.add(&pod(id, config, &path)?).await;
            let result = result.map_err(internal).during("failed to setup network for sandbox")?;
            state.ips = result.addresses().iter().map(ToString::to_string).collect();
        }
        self.config.make_sandbox_files(id, config, &self.host).map_err(internal)?;
        self.create_sandbox(id, config, &state).await?;
        let sandbox: SandboxRecord = self.get(id).await?;
        let mut mounts = self.labelled_layers(id, &sandbox.spec).await?;
        let users = self.users(&sandbox)?;
        users.as_ref().map_or(Ok(()), |users| self.own_files(id, config, users))?;
        // until the shim has mounted them
        let _mapped = self.map(id, users.as_ref(), &[], &mut mounts)?;
        self.create_task(id, mounts, Pipes::default()).await?;
        self.start_task(id).await
    }

    async fn create_sandbox(&self, id: &str, config: &PodSandboxConfig, state: &State) -> Result<(), Status> {
        let image = self.image(PAUSE_IMAGE).await?;
        let image = image.ok_or_else(|| Status::failed_precondition("the sandbox image is gone from containerd"))?;
        let context = config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default();
        #[allow(deprecated)]
        let profile = seccomp_profile(context.seccomp.as_ref(), &context.seccomp_profile_path)?;
        let own = sandbox_namespaces(config).map_err(invalid)?;
        let joined = NamespacePaths {
            net: state.netns.clone().unwrap_or_default(),
            user: own.user.map(|_| self.namespaces_of(id).join("user")),
            ..NamespacePaths::default()
        };
        let spec = sandbox_spec(&SandboxInput {
            id,
            config,
            image: image.facts.config.config().as_ref(),
            image_name: PAUSE_IMAGE,
            rootfs: "rootfs".into(),
            namespaces: Some(&joined),
            files: &self.config.sandbox_files(id, config),
            sysctls_set: false,
            seccomp_profile: profile.as_deref(),
            selinux_level: &state.selinux_level,
            host: &self.host,
        });
        let spec = spec_any(&spec.map_err(invalid)?)?;
        let lease = self.client.lease().await.during("containerd gave no lease")?;
        let layers = image.facts.config.rootfs().diff_ids().len();
        self.prepare(&lease, id, image.facts.chain_id(layers)).await?;
        let extensions = extensions(config, state)?;
        let container = self.container(id, SANDBOX, PAUSE_IMAGE, spec, extensions);
        let create = CreateContainerRequest { container: Some(container) };
        self.told.belongs(id, id, false);
        self.client.containers().create(lease.request(create)).await.during("failed to create containerd container")?;
        Ok(())
    }

    /// A record for containerd, of either kind.
    pub fn container(
        &self,
        id: &str,
        kind: &str,
        image: &str,
        spec: Any,
        extensions: HashMap<String, Any>,
    ) -> Container {
        Container {
            id: id.to_owned(),
            labels: [(KIND.to_owned(), kind.to_owned())].into(),
            image: image.to_owned(),
            runtime: Some(ShimRuntime { name: SHIM.to_owned(), options: Some(self.shim_options()) }),
            spec: Some(spec),
            snapshotter: self.config.snapshotter.clone(),
            snapshot_key: id.to_owned(),
            extensions,
            ..Container::default()
        }
    }

    /// Takes back everything of a sandbox that could not be made; what fails is logged, for the failure is told already.
    async fn undo_sandbox(&self, id: &str) {
        if let Err(status) = self.dismantle(id).await {
            tracing::warn!(sandbox = id, message = status.message(), "a sandbox that failed was not cleaned up whole");
        }
    }

    async fn dismantle(&self, id: &str) -> Result<(), Status> {
        self.kill_task(id).await?;
        self.delete_task(id).await?;
        self.leave_network(id).await?;
        let delete = DeleteContainerRequest { id: id.to_owned() };
        let gone = self.client.containers().delete(request(delete)).await.or_gone().during("removing a sandbox")?;
        if gone.is_none() {
            self.told.forget(id);
        }
        self.remove_snapshot(id).await?;
        self.config.remove_sandbox_files(id).map_err(internal)
    }

    async fn leave_network(&self, id: &str) -> Result<(), Status> {
        self.network.del(id).await.map_err(internal).during("failed to destroy network for sandbox")?;
        let namespaces = ["netns", "ns/net", "ns/user"].map(|name| self.config.sandbox_state(id).join(name));
        namespaces.iter().try_for_each(|path| netns::remove(path)).map_err(internal)
    }

    /// Ends a sandbox's containers, its process and its network; what is stopped already is left as it is.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Status> {
        let Some(mut sandbox): Option<SandboxRecord> = self.find(id).await? else { return Ok(()) };
        for container in self.containers_of(id).await? {
            self.kill_task(&container.id).await?;
            self.settle(&container.id).await?;
        }
        self.kill_task(id).await?;
        self.delete_task(id).await?;
        self.leave_network(id).await?;
        self.config.unmount_sandbox(id).map_err(internal)?;
        sandbox.state.stopped = true;
        self.write_state(id, &sandbox.state).await
    }

    /// Removes a sandbox with everything in it.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        if self.find::<PodSandboxConfig>(id).await?.is_none() {
            return Ok(());
        }
        self.stop_sandbox(id).await?;
        for container in self.containers_of(id).await? {
            self.remove_container(&container.id).await?;
        }
        self.dismantle(id).await
    }

    /// A sandbox is ready while its process runs.
    pub async fn sandbox_ready(&self, sandbox: &SandboxRecord) -> Result<bool, Status> {
        if sandbox.state.stopped {
            return Ok(false);
        }
        Ok(self.task(&sandbox.id).await?.is_some_and(|task| task.status() == TaskStatus::Running))
    }
}

/// What a plugin is told of a pod.
fn pod(id: &str, config: &PodSandboxConfig, netns: &std::path::Path) -> Result<Pod, Status> {
    let PodSandboxMetadata { name, namespace, uid, .. } = config.metadata.clone().unwrap_or_default();
    let ports = config.port_mappings.iter().filter(|mapping| mapping.host_port > 0);
    let port_mappings = ports.map(|mapping| PortMapping {
        host_port: mapping.host_port.try_into().unwrap_or_default(),
        container_port: mapping.container_port.try_into().unwrap_or_default(),
        protocol: match mapping.protocol() {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
        .to_owned(),
        host_ip: mapping.host_ip.clone(),
    });
    let dns =
        config.dns_config.clone().map(|dns| Dns { servers: dns.servers, searches: dns.searches, options: dns.options });
    let parent = config.linux.as_ref().map(|linux| linux.cgroup_parent.clone()).filter(|parent| !parent.is_empty());
    let bandwidth = Bandwidth::asked(&config.annotations);
    let bandwidth =
        bandwidth.map_err(|why| Status::invalid_argument(format!("reading pod bandwidth annotations: {why}")))?;
    let port_mappings = port_mappings.collect();
    let annotations = config.annotations.clone().into_iter().collect();
    let capabilities =
        Capabilities { port_mappings, bandwidth, dns, cgroup_path: parent, annotations, ..Capabilities::default() };
    Ok(Pod { id: id.to_owned(), name, namespace, uid, netns: netns.to_path_buf(), capabilities })
}

/// A request that cannot be honoured.
pub fn invalid(invalid: pintle_bundle::Invalid) -> Status {
    Status::invalid_argument(invalid.to_string())
}
