//! One pod's sandboxes and containers, listed by UID. What cannot change any more is asked for once.
//!
//! Must not know: the pod's spec.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use pintle_cri::v1::{
    Container as Listed, ContainerFilter, ContainerState, ContainerStatus, ContainerStatusRequest,
    ListContainersRequest, ListPodSandboxRequest, NamespaceMode, PodSandbox, PodSandboxFilter, PodSandboxState,
    PodSandboxStatusRequest,
};
use pintle_cri::{Runtime, v1};
use tonic::Code;

use super::message;
use crate::plan::container_config::{HASH, RESTART_COUNT};
use crate::plan::sandbox_config::{CONTAINER_NAME, POD_UID};
use crate::plan::seen::{Container, Sandbox, Seen, State};

/// Looks at one pod. Remembers the details of containers whose state did not change since the last look.
pub struct Observer {
    runtime: Runtime,
    /// Where termination messages are: the kubelet's directory.
    root: PathBuf,
    uid: String,
    known: HashMap<String, Container>,
}

fn labelled(uid: &str) -> impl Iterator<Item = (String, String)> {
    std::iter::once((POD_UID.to_string(), uid.to_string()))
}

impl Observer {
    pub fn new(runtime: Runtime, root: PathBuf, uid: &str) -> Self {
        Self { runtime, root, uid: uid.into(), known: HashMap::new() }
    }

    /// What the runtime has now.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub async fn look(&mut self) -> anyhow::Result<Seen> {
        let filter = PodSandboxFilter { label_selector: labelled(&self.uid).collect(), ..PodSandboxFilter::default() };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let listed = self.runtime.runtime.list_pod_sandbox(request).await.context("listing the pod's sandboxes")?;
        let mut items = listed.into_inner().items;
        items.sort_by_key(|item| std::cmp::Reverse(item.created_at));
        let mut sandboxes = Vec::new();
        for item in items {
            sandboxes.extend(self.sandbox(item).await?);
        }
        let containers = self.containers().await?;
        Ok(Seen { sandboxes, containers })
    }

    async fn sandbox(&mut self, item: PodSandbox) -> anyhow::Result<Option<Sandbox>> {
        let ready = item.state() == PodSandboxState::SandboxReady;
        let request = PodSandboxStatusRequest { pod_sandbox_id: item.id.clone(), verbose: false };
        let status = match self.runtime.runtime.pod_sandbox_status(request).await {
            Ok(answer) => answer.into_inner().status.unwrap_or_default(),
            // gone between the list and this question
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(status).context("asking for the sandbox's status"),
        };
        let namespaces = status.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
        let host_network = namespaces.is_some_and(|options| options.network() == NamespaceMode::Node);
        let network = status.network.unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|ip| ip.ip);
        let ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
        let metadata = item.metadata.unwrap_or_default();
        Ok(Some(Sandbox {
            id: item.id,
            ready,
            attempt: metadata.attempt,
            host_network,
            ips,
            name: metadata.name,
            namespace: metadata.namespace,
            created_at: time(item.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        }))
    }

    async fn containers(&mut self) -> anyhow::Result<Vec<Container>> {
        let filter = ContainerFilter { label_selector: labelled(&self.uid).collect(), ..ContainerFilter::default() };
        let request = ListContainersRequest { filter: Some(filter) };
        let listed = self.runtime.runtime.list_containers(request).await.context("listing the pod's containers")?;
        let mut listed = listed.into_inner().containers;
        listed.sort_by_key(|item| std::cmp::Reverse(item.created_at));
        let mut containers = Vec::new();
        for item in listed {
            containers.extend(self.container(item).await?);
        }
        self.known = containers.iter().map(|one| (one.id.clone(), one.clone())).collect();
        Ok(containers)
    }

    async fn container(&mut self, item: Listed) -> anyhow::Result<Option<Container>> {
        let state = state(item.state());
        let settled = matches!(state, State::Running | State::Exited);
        if let Some(known) = self.known.get(&item.id).filter(|known| known.state == state && settled) {
            return Ok(Some(known.clone()));
        }
        let request = ContainerStatusRequest { container_id: item.id, verbose: false };
        match self.runtime.runtime.container_status(request).await {
            Ok(answer) => Ok(answer.into_inner().status.map(|status| {
                let mut seen = from_status(item.pod_sandbox_id, status);
                if seen.state == State::Exited {
                    seen.message = message::read(&self.root, &self.uid, &seen);
                }
                seen
            })),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status).context("asking for the container's status"),
        }
    }
}

fn time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| Timestamp::from_nanosecond(nanoseconds.into()).ok()).flatten()
}

fn state(state: ContainerState) -> State {
    match state {
        ContainerState::ContainerCreated => State::Created,
        ContainerState::ContainerRunning => State::Running,
        ContainerState::ContainerExited => State::Exited,
        ContainerState::ContainerUnknown => State::Unknown,
    }
}

fn from_status(sandbox_id: String, status: ContainerStatus) -> Container {
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let user = status.user.as_ref().and_then(|user| user.linux.as_ref());
    let metadata = status.metadata.clone().unwrap_or_default();
    let label = status.labels.get(CONTAINER_NAME).cloned();
    Container {
        name: label.unwrap_or(metadata.name),
        sandbox_id,
        state: state(status.state()),
        created_at: time(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: status.exit_code,
        restart_count: annotation(RESTART_COUNT).parse().unwrap_or(0),
        hash: annotation(HASH),
        user: user.map(|user| (user.uid, user.gid, user.supplemental_groups.clone())),
        image: image_name(&status),
        recursively_read_only: recursively_read_only(&status),
        annotations: status.annotations.clone().into_iter().collect(),
        id: status.id,
        reason: status.reason,
        message: status.message,
        image_ref: status.image_ref,
        log_path: status.log_path,
    }
}

fn recursively_read_only(status: &ContainerStatus) -> Vec<String> {
    let mounts = status.mounts.iter().filter(|mount| mount.recursive_read_only);
    mounts.map(|mount| mount.container_path.clone()).collect()
}

/// The image as the user wrote it, where the runtime kept it.
fn image_name(status: &v1::ContainerStatus) -> String {
    let spec = status.image.clone().unwrap_or_default();
    if spec.user_specified_image.is_empty() { spec.image } else { spec.user_specified_image }
}
