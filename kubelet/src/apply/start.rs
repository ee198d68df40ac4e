//! Starting a container: image, configuration, create, start, postStart hook.
//!
//! Must not know: restart policies and back-off.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec, Service, VolumeMount};
use pintle_cri::v1::{ContainerConfig, CreateContainerRequest, ImageSpec, PodSandboxConfig, StartContainerRequest};

use super::{Drivers, container_reference, pod_reference};
use crate::images::{ImageError, Present, Wanted, print_status};
use crate::plan::actions::Start;
use crate::plan::container_config::{self, Prepared};
use crate::plan::environment::{Data, ObjectKind, Sources, environment};
use crate::plan::pod::{self, Kind};
use crate::plan::seen::Seen;
use crate::plan::{dns, hosts, sandbox_config, security};
use crate::references::Facts;
use crate::volumes::PodVolumes;
use crate::volumes::mounts::Around;

/// How long a container waits for the first list of Services, which its environment shows.
const SERVICES_SYNCED: Duration = Duration::from_secs(10);

/// Why a container did not start: the waiting state's reason and message.
pub type StartError = (String, String);

/// The pod a container starts in.
pub struct Place<'a> {
    pub pod: &'a Pod,
    pub seen: &'a Seen,
    pub sandbox_id: &'a str,
    pub sandbox: &'a PodSandboxConfig,
    pub volumes: &'a PodVolumes,
    pub facts: &'a Facts,
}

/// The images that a container needs: its own, and those of image volumes by the volumes' names.
struct Found {
    own: Present,
    volumes: BTreeMap<String, ImageSpec>,
}

fn error(reason: &str, message: impl Into<String>) -> StartError {
    (reason.into(), message.into())
}

impl Drivers {
    /// Starts one container and runs its postStart hook.
    ///
    /// # Errors
    /// Upstream's reasons: image errors, CreateContainerConfigError, CreateContainerError, RunContainerError,
    /// PostStartHookError. Events are written.
    pub async fn start_container(&self, place: &Place<'_>, start: &Start) -> Result<(), StartError> {
        let spec = place.pod.spec.as_ref().ok_or_else(|| error("CreateContainerConfigError", "the pod has no spec"))?;
        let Some((kind, container)) = pod::find_container(spec, &start.name) else { return Ok(()) };
        let regarding = container_reference(place.pod, kind, &container.name);
        let images = self.images_for(place, spec, &container, &regarding).await.map_err(|failed| {
            self.recorder.warning(&regarding, "Failed", format!("Error: {}", failed.reason));
            error(failed.reason, failed.message)
        })?;
        let config = self.container_config(place, start, &container, images).await.map_err(|message| {
            self.recorder.warning(&regarding, "Failed", format!("Error: {message}"));
            error("CreateContainerConfigError", message)
        })?;
        let id = self.create(place, config, &regarding).await?;
        self.begin(&id, &regarding).await?;
        self.link_log(place.pod, &container.name, &id, start.restart_count);
        self.post_start(place, &container, &id, &regarding).await
    }

    /// The images of the volumes that the container mounts, whose events are the pod's, and then its own.
    async fn images_for(
        &self,
        place: &Place<'_>,
        spec: &PodSpec,
        container: &Container,
        regarding: &ObjectReference,
    ) -> Result<Found, ImageError> {
        let mut volumes = BTreeMap::new();
        for (name, source) in pod::image_volumes(spec, container) {
            let wanted = Wanted::of_volume(source);
            let present = self.images.ensure(place.pod, wanted, &pod_reference(place.pod), place.sandbox).await?;
            volumes.insert(name.to_owned(), present.spec);
        }
        let own = self.images.ensure(place.pod, Wanted::of_container(container), regarding, place.sandbox).await?;
        Ok(Found { own, volumes })
    }

    async fn create(
        &self,
        place: &Place<'_>,
        config: ContainerConfig,
        regarding: &ObjectReference,
    ) -> Result<String, StartError> {
        let log_directory = std::path::Path::new(&place.sandbox.log_directory).join(config.log_path.clone());
        if let Some(dir) = log_directory.parent() {
            let made = std::fs::create_dir_all(dir);
            made.map_err(|failed| error("CreateContainerError", format!("making {}: {failed}", dir.display())))?;
        }
        let request = CreateContainerRequest {
            pod_sandbox_id: place.sandbox_id.into(),
            config: Some(config),
            sandbox_config: Some(place.sandbox.clone()),
        };
        match self.runtime.runtime.clone().create_container(request).await {
            Ok(answer) => {
                self.recorder.normal(regarding, "Created", "Container created");
                Ok(answer.into_inner().container_id)
            }
            Err(status) => {
                self.recorder.warning(regarding, "Failed", format!("Error: {}", status.message()));
                Err(error("CreateContainerError", status.message()))
            }
        }
    }

    async fn begin(&self, id: &str, regarding: &ObjectReference) -> Result<(), StartError> {
        let request = StartContainerRequest { container_id: id.into() };
        match self.runtime.runtime.clone().start_container(request).await {
            Ok(_) => {
                self.recorder.normal(regarding, "Started", "Container started");
                Ok(())
            }
            Err(status) => {
                self.recorder.warning(regarding, "Failed", format!("Error: {}", status.message()));
                Err(error("RunContainerError", print_status(&status)))
            }
        }
    }

    async fn container_config(
        &self,
        place: &Place<'_>,
        start: &Start,
        container: &Container,
        images: Found,
    ) -> Result<ContainerConfig, String> {
        let pod = place.pod;
        let Found { own: image, volumes: images } = images;
        security::verify_non_root(pod, container, &image.user)?;
        let environment = self.environment(pod, container, place.facts).await?;
        let hosts = self.hosts(pod, place.facts);
        let around = Around {
            environment: &environment,
            hosts: &hosts,
            restart_count: start.restart_count,
            recursive_read_only: self.can_be_read_only(pod, container).await?,
            images: &images,
        };
        let users = sandbox_config::users(place.sandbox);
        let mut mounts = self.volumes.mounts(pod, container, place.volumes, &around)?;
        for mount in &mut mounts {
            // files keep the owners that they have outside
            mount.uid_mappings.clone_from(&users.uids);
            mount.gid_mappings.clone_from(&users.gids);
        }
        let target = (start.kind == Kind::Ephemeral).then(|| target_id(place, &container.name)).flatten();
        let security = security::container(
            pod,
            container,
            &image.user,
            &self.seccomp_root(),
            self.config.seccomp_default,
            target.as_deref(),
            users,
        );
        let prepared = Prepared {
            image: image.spec,
            environment,
            mounts,
            security,
            restart_count: start.restart_count,
            node: self.node.clone(),
        };
        Ok(container_config::config(pod, container, prepared))
    }

    /// Whether the pod's handler makes mounts read-only with all below them; looked up where a mount asks for it.
    async fn can_be_read_only(&self, pod: &Pod, container: &Container) -> Result<bool, String> {
        let asks = |mount: &VolumeMount| mount.recursive_read_only.as_deref().is_some_and(|mode| mode != "Disabled");
        if !container.volume_mounts.iter().flatten().any(asks) {
            return Ok(false);
        }
        let handler = self.runtime_handler(pod).await?;
        Ok(self.abilities.of_handler(&handler).recursive_read_only_mounts)
    }

    async fn environment(
        &self,
        pod: &Pod,
        container: &Container,
        facts: &Facts,
    ) -> Result<Vec<(String, String)>, String> {
        let objects = self.referenced(pod, container).await?;
        if !pod::is_static(pod) && tokio::time::timeout(SERVICES_SYNCED, self.services.synced()).await.is_err() {
            return Err("services have not yet been read at least once, cannot construct envvars".into());
        }
        let lookup = |kind, name: &str| objects.get(&(kind, name.to_string())).cloned().flatten();
        let services: Vec<Service> = self.services.list().iter().map(|service| service.as_ref().clone()).collect();
        let sources = Sources {
            pod,
            object: &lookup,
            services: &services,
            pod_ips: &facts.pod_ips,
            host_ips: &facts.host_ips,
            allocatable: facts.allocatable,
        };
        environment(container, &sources)
    }

    async fn referenced(
        &self,
        pod: &Pod,
        container: &Container,
    ) -> Result<HashMap<(ObjectKind, String), Option<Data>>, String> {
        let mut wanted: Vec<(ObjectKind, String)> = Vec::new();
        for source in container.env_from.iter().flatten() {
            wanted.extend(source.config_map_ref.iter().map(|one| (ObjectKind::ConfigMap, one.name.clone())));
            wanted.extend(source.secret_ref.iter().map(|one| (ObjectKind::Secret, one.name.clone())));
        }
        for source in container.env.iter().flatten().filter_map(|one| one.value_from.as_ref()) {
            wanted.extend(source.config_map_key_ref.iter().map(|one| (ObjectKind::ConfigMap, one.name.clone())));
            wanted.extend(source.secret_key_ref.iter().map(|one| (ObjectKind::Secret, one.name.clone())));
        }
        let mut found = HashMap::new();
        for (kind, name) in wanted {
            let data = self.objects.get(kind, pod::namespace(pod), &name).await?;
            found.insert((kind, name), data);
        }
        Ok(found)
    }

    fn hosts(&self, pod: &Pod, facts: &Facts) -> String {
        let spec = pod.spec.clone().unwrap_or_default();
        if spec.host_network == Some(true) {
            return hosts::from_node(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), &spec);
        }
        let (hostname, domain) = dns::hostname(pod, &self.config.cluster_domain);
        hosts::managed(&facts.pod_ips, &hostname, &domain, &spec)
    }

    /// The older name of the log, which log collectors read: `<pod>_<namespace>_<container>-<id>.log`.
    fn link_log(&self, pod: &Pod, container: &str, id: &str, restart_count: i32) {
        let name = format!("{}_{}_{container}-{id}.log", pod::name(pod), pod::namespace(pod));
        let dir = sandbox_config::log_directory_name(pod::namespace(pod), pod::name(pod), pod::uid(pod));
        let log = self.config.pod_logs_dir.join(dir).join(container_config::log_path(container, restart_count));
        let linked = std::fs::create_dir_all(&self.config.container_logs_dir)
            .and_then(|()| std::os::unix::fs::symlink(log, self.config.container_logs_dir.join(name)));
        if let Err(error) = linked {
            tracing::debug!(container, "linking the log's older name: {error}");
        }
    }

    async fn post_start(
        &self,
        place: &Place<'_>,
        container: &Container,
        id: &str,
        regarding: &ObjectReference,
    ) -> Result<(), StartError> {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let host = place.facts.pod_ips.first().cloned().unwrap_or_default();
        let Err(message) = self.run_hook(hook, container, id, &host, None).await else { return Ok(()) };
        self.recorder.warning(regarding, "FailedPostStartHook", "PostStartHook failed");
        tracing::warn!(pod = pod::display(place.pod), container = container.name, "postStart hook: {message}");
        let grace = crate::plan::pod::grace_seconds(place.pod);
        self.stop_container(id, grace).await;
        Err(error("PostStartHookError", message))
    }
}

/// The container whose processes an ephemeral container sees.
fn target_id(place: &Place<'_>, name: &str) -> Option<String> {
    let spec = place.pod.spec.as_ref()?;
    let ephemeral = pod::ephemeral_containers(spec).iter().find(|one| one.name == name)?;
    let target = ephemeral.target_container_name.as_deref().filter(|target| !target.is_empty())?;
    place.seen.running().find(|one| one.name == target).map(|one| one.id.clone())
}
