//! What CRI says of sandboxes and containers, from what is recorded and what runs.
//!
//! Must not know: how they came to be.

use std::collections::HashMap;

use containerd_client::types::v1::Status as TaskStatus;
use pintle_cri::v1::*;
use serde_json::{Value, json};
use tonic::Status;

use crate::Inner;
use crate::record::{ContainerRecord, SandboxRecord, State};

impl Inner {
    pub async fn sandbox_status(&self, sandbox: &SandboxRecord) -> Result<PodSandboxStatus, Status> {
        let (config, state) = (sandbox.config.clone(), &sandbox.state);
        let context = config.linux.and_then(|linux| linux.security_context);
        let namespaces = Namespace { options: context.and_then(|context| context.namespace_options) };
        let mut ips = state.ips.iter().cloned();
        let network = PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        };
        Ok(PodSandboxStatus {
            id: sandbox.id.clone(),
            metadata: config.metadata,
            state: self.sandbox_state(sandbox).await?.into(),
            created_at: state.created_at,
            network: Some(network),
            linux: Some(LinuxPodSandboxStatus { namespaces: Some(namespaces) }),
            labels: config.labels,
            annotations: config.annotations,
            runtime_handler: state.runtime_handler.clone(),
        })
    }

    async fn sandbox_state(&self, sandbox: &SandboxRecord) -> Result<PodSandboxState, Status> {
        let ready = self.sandbox_ready(sandbox).await?;
        Ok(if ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready })
    }

    pub async fn sandboxes(&self, filter: PodSandboxFilter) -> Result<Vec<PodSandbox>, Status> {
        let mut list = Vec::new();
        for sandbox in self.all::<PodSandboxConfig>().await? {
            let state = self.sandbox_state(&sandbox).await?;
            let (config, wanted) = (sandbox.config, filter.state.as_ref().map(|state| state.state()));
            if !matches_id(&filter.id, &sandbox.id)
                || wanted.is_some_and(|wanted| wanted != state)
                || !has(&config.labels, &filter.label_selector)
            {
                continue;
            }
            list.push(PodSandbox {
                id: sandbox.id,
                metadata: config.metadata,
                state: state.into(),
                created_at: sandbox.state.created_at,
                labels: config.labels,
                annotations: config.annotations,
                runtime_handler: sandbox.state.runtime_handler,
            });
        }
        Ok(list)
    }

    /// The state as it is, an end that nobody recorded yet among it.
    async fn current(&self, container: &ContainerRecord) -> Result<(ContainerState, State), Status> {
        let state = container.state.clone();
        if state.finished_at != 0 {
            return Ok((ContainerState::ContainerExited, state));
        }
        if state.started_at == 0 {
            return Ok((ContainerState::ContainerCreated, state));
        }
        match self.task(&container.id).await? {
            Some(task) if task.status() == TaskStatus::Created => Ok((ContainerState::ContainerCreated, state)),
            Some(task) if task.status() != TaskStatus::Stopped => Ok((ContainerState::ContainerRunning, state)),
            _ => Ok((ContainerState::ContainerExited, self.settle(&container.id).await?)),
        }
    }

    pub async fn containers_list(&self, filter: ContainerFilter) -> Result<Vec<Container>, Status> {
        let mut list = Vec::new();
        for container in self.all::<ContainerConfig>().await? {
            let (state, kept) = self.current(&container).await?;
            let (config, wanted) = (container.config, filter.state.as_ref().map(|state| state.state()));
            if !matches_id(&filter.id, &container.id)
                || !matches_id(&filter.pod_sandbox_id, &kept.sandbox)
                || wanted.is_some_and(|wanted| wanted != state)
                || !has(&config.labels, &filter.label_selector)
            {
                continue;
            }
            list.push(Container {
                id: container.id,
                pod_sandbox_id: kept.sandbox,
                metadata: config.metadata,
                image: config.image,
                image_ref: kept.image_ref,
                state: state.into(),
                created_at: kept.created_at,
                labels: config.labels,
                annotations: config.annotations,
                image_id: kept.image,
            });
        }
        Ok(list)
    }

    pub async fn container_status(&self, container: &ContainerRecord) -> Result<ContainerStatus, Status> {
        let (state, kept) = self.current(container).await?;
        let config = container.config.clone();
        let (uid, gid, groups) = kept.user.clone();
        let user = LinuxContainerUser {
            uid: uid.into(),
            gid: gid.into(),
            supplemental_groups: groups.into_iter().map(i64::from).collect(),
        };
        Ok(ContainerStatus {
            id: container.id.clone(),
            metadata: config.metadata,
            state: state.into(),
            created_at: kept.created_at,
            started_at: kept.started_at,
            finished_at: kept.finished_at,
            exit_code: kept.exit_code,
            image: config.image,
            image_ref: kept.image_ref.clone(),
            reason: reason(state, &kept).to_owned(),
            message: kept.message.clone(),
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
            log_path: kept.log_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            resources: limits(&container.spec).map(|linux| ContainerResources { linux: Some(linux), windows: None }),
            image_id: kept.image.clone(),
            user: Some(ContainerUser { linux: Some(user) }),
            stop_signal: config.stop_signal,
        })
    }
}

impl Inner {
    /// What is told of a sandbox where more is asked for, under the key that `crictl inspectp` shows.
    pub async fn sandbox_info(&self, sandbox: &SandboxRecord) -> Result<HashMap<String, String>, Status> {
        let pid = self.task(&sandbox.id).await?.map(|task| task.pid);
        Ok(info(json!({
            "pid": pid,
            "runtimeHandler": sandbox.state.runtime_handler,
            "namespaces": { "network": sandbox.state.netns },
            "ips": sandbox.state.ips,
            "snapshotter": self.config.snapshotter,
            "runtimeSpec": spec(&sandbox.spec),
        })))
    }

    /// The same of a container.
    pub async fn container_info(&self, container: &ContainerRecord) -> Result<HashMap<String, String>, Status> {
        let pid = self.task(&container.id).await?.map(|task| task.pid);
        Ok(info(json!({
            "pid": pid,
            "sandboxID": container.state.sandbox,
            "snapshotter": self.config.snapshotter,
            "runtimeSpec": spec(&container.spec),
        })))
    }
}

fn info(value: Value) -> HashMap<String, String> {
    HashMap::from([("info".to_owned(), value.to_string())])
}

fn spec(json: &[u8]) -> Option<Value> {
    serde_json::from_slice(json).ok()
}

/// containerd's words for an end.
fn reason(state: ContainerState, kept: &State) -> &'static str {
    match state {
        ContainerState::ContainerExited if kept.started_at == 0 => "StartError",
        ContainerState::ContainerExited if kept.out_of_memory => "OOMKilled",
        ContainerState::ContainerExited if !kept.message.is_empty() => "Unknown",
        ContainerState::ContainerExited if kept.exit_code == 0 => "Completed",
        ContainerState::ContainerExited => "Error",
        _ => "",
    }
}

/// The limits that are in force, from the specification.
fn limits(spec: &[u8]) -> Option<LinuxContainerResources> {
    let spec: oci_spec::runtime::Spec = serde_json::from_slice(spec).ok()?;
    let limits = spec.linux().as_ref()?.resources().clone()?;
    let cpu = limits.cpu().clone().unwrap_or_default();
    let memory = limits.memory().unwrap_or_default();
    let signed = |value: Option<u64>| value.and_then(|value| value.try_into().ok()).unwrap_or_default();
    Some(LinuxContainerResources {
        cpu_period: signed(cpu.period()),
        cpu_quota: cpu.quota().unwrap_or_default(),
        cpu_shares: signed(cpu.shares()),
        memory_limit_in_bytes: memory.limit().unwrap_or_default(),
        memory_swap_limit_in_bytes: memory.swap().unwrap_or_default(),
        oom_score_adj: spec.process().as_ref().and_then(|process| process.oom_score_adj()).unwrap_or_default().into(),
        cpuset_cpus: cpu.cpus().clone().unwrap_or_default(),
        cpuset_mems: cpu.mems().clone().unwrap_or_default(),
        unified: limits.unified().clone().unwrap_or_default(),
        hugepage_limits: Vec::new(),
    })
}

/// Filters take the beginning of an id.
pub fn matches_id(wanted: &str, id: &str) -> bool {
    id.starts_with(wanted)
}

pub fn has(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}
