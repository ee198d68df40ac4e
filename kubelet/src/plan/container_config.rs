//! A container's configuration for the runtime, with upstream's label and annotation names.
//!
//! Must not know: how its image, mounts and environment were made (they are arguments).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use pintle_cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerSecurityContext,
    Mount, Signal,
};

use super::actions;
use super::expand::expand;
use super::pod;
use super::resources;
use super::sandbox_config::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};

pub const HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
pub const PORTS: &str = "io.kubernetes.container.ports";
pub const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// What was prepared for a container before it is created.
pub struct Prepared {
    pub image: ImageSpec,
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub security: LinuxContainerSecurityContext,
    pub restart_count: i32,
    pub node: resources::NodeFacts,
}

pub fn config(pod: &Pod, container: &Container, prepared: Prepared) -> ContainerConfig {
    let lookup = |name: &str| {
        let found = prepared.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let expanded = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, &lookup)).collect()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: u32::try_from(prepared.restart_count).unwrap_or(0),
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels: labels(pod, container).into_iter().collect(),
        annotations: annotations(pod, container, prepared.restart_count).into_iter().collect(),
        log_path: log_path(&container.name, prepared.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::linux_resources(pod, container, &prepared.node)),
            security_context: Some(prepared.security),
        }),
        stop_signal: stop_signal(container).into(),
        envs: prepared.environment.into_iter().map(|(key, value)| KeyValue { key, value: value.into() }).collect(),
        image: Some(prepared.image),
        mounts: prepared.mounts,
        ..ContainerConfig::default()
    }
}

/// `<container>/<restart count>.log`, below the pod's log directory.
pub fn log_path(name: &str, restart_count: i32) -> String {
    format!("{name}/{restart_count}.log")
}

fn stop_signal(container: &Container) -> Signal {
    let named = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    named.and_then(Signal::from_str_name).unwrap_or(Signal::RuntimeDefault)
}

fn labels(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    BTreeMap::from([
        (POD_NAME.into(), pod::name(pod).into()),
        (POD_NAMESPACE.into(), pod::namespace(pod).into()),
        (POD_UID.into(), pod::uid(pod).into()),
        (CONTAINER_NAME.into(), container.name.clone()),
    ])
}

/// What a restarted kubelet needs to know about the container even when its pod is gone.
fn annotations(pod: &Pod, container: &Container, restart_count: i32) -> BTreeMap<String, String> {
    let text = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.into());
    let mut all = BTreeMap::from([
        (HASH.to_string(), actions::hash(container)),
        (RESTART_COUNT.into(), restart_count.to_string()),
        (MESSAGE_PATH.into(), text(&container.termination_message_path, "/dev/termination-log")),
        (MESSAGE_POLICY.into(), text(&container.termination_message_policy, "File")),
    ]);
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        all.insert(DELETION_GRACE.into(), grace.to_string());
    }
    if let Some(grace) = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) {
        all.insert(TERMINATION_GRACE.into(), grace.to_string());
    }
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    if let Some(json) = hook.and_then(|hook| serde_json::to_string(hook).ok()) {
        all.insert(PRE_STOP.into(), json);
    }
    let ports = container.ports.as_ref().filter(|ports| !ports.is_empty());
    if let Some(json) = ports.and_then(|ports| serde_json::to_string(ports).ok()) {
        all.insert(PORTS.into(), json);
    }
    all
}
