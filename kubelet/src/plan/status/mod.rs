//! A pod's status from what was seen: containers, phase, conditions, addresses. Upstream's generateAPIPodStatus.
//!
//! Must not know: how a status reaches the API.

mod conditions;
mod containers;
mod phase;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use pintle_api::resources::{limits_with_overhead, requests_with_overhead, written};

pub use conditions::OWNED as OWNED_CONDITIONS;

use super::pod as spec_of;
use super::probing::Results;
use super::qos;
use super::resize::{Resizing, Size};
use super::seen::Seen;

/// What a status is made of.
pub struct Inputs<'a> {
    /// The spec, with the last status known (the API's, or the one reported last).
    pub pod: &'a Pod,
    pub seen: &'a Seen,
    pub probes: &'a Results,
    /// Why a container waits, by name: reason and message (`ErrImagePull`, `CrashLoopBackOff`, …).
    pub waiting: &'a BTreeMap<String, (String, String)>,
    /// What running containers were given, by name.
    pub given: &'a BTreeMap<String, Size>,
    pub resizing: &'a Resizing,
    pub node_ips: &'a [String],
    /// The name of the runtime, the scheme of container ids: `containerd`.
    pub runtime: &'a str,
    /// Nothing of the pod starts any more: it finished, is being deleted, or was ended for `ended`.
    pub terminal: bool,
    /// Why the kubelet ended the pod (deadline, eviction): status reason and message.
    pub ended: Option<&'a (String, String)>,
    pub now: Timestamp,
}

/// The status at `now`.
pub fn status(inputs: &Inputs<'_>) -> PodStatus {
    let old = inputs.pod.status.clone().unwrap_or_default();
    let (init, regular, ephemeral) = containers::statuses(inputs);
    let phase = phase_of(inputs, &old, &init, &regular);
    let (pod_ip, pod_ips) = pod_ips(inputs, &old);
    let mut status = PodStatus {
        qos_class: Some(old.qos_class.clone().unwrap_or_else(|| qos::class(inputs.pod).as_str().into())),
        start_time: Some(old.start_time.clone().unwrap_or(Time(inputs.now))),
        host_ip: inputs.node_ips.first().cloned(),
        host_ips: Some(inputs.node_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip,
        pod_ips,
        phase: Some(phase.into()),
        reason: old.reason.clone(),
        message: old.message.clone(),
        observed_generation: inputs.pod.metadata.generation,
        nominated_node_name: old.nominated_node_name.clone(),
        resize: old.resize.clone(),
        ..PodStatus::default()
    };
    if let Some((reason, message)) = inputs.ended {
        status.reason = Some(reason.clone());
        status.message = Some(message.clone());
    }
    let spec = inputs.pod.spec.as_ref();
    let requests = spec.map(requests_with_overhead).unwrap_or_default();
    status.allocated_resources = (!requests.is_empty()).then(|| written(&requests));
    let limits = spec.map(limits_with_overhead).unwrap_or_default();
    status.resources = Some(ResourceRequirements {
        requests: status.allocated_resources.clone(),
        limits: (!limits.is_empty()).then(|| written(&limits)),
        ..ResourceRequirements::default()
    });
    status.conditions = Some(conditions::conditions(inputs, &old, phase, &init, &regular));
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    status.container_statuses = Some(regular);
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    status
}

fn phase_of(
    inputs: &Inputs<'_>,
    old: &PodStatus,
    init: &[k8s_openapi::api::core::v1::ContainerStatus],
    regular: &[k8s_openapi::api::core::v1::ContainerStatus],
) -> &'static str {
    match old.phase.as_deref() {
        Some("Failed") => return "Failed",
        Some("Succeeded") => return "Succeeded",
        _ => {}
    }
    if inputs.ended.is_some() {
        return "Failed";
    }
    let Some(spec) = &inputs.pod.spec else { return "Pending" };
    let initialized = regular.iter().any(|status| {
        status.started == Some(true) || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
    });
    let every: Vec<_> = init.iter().chain(regular).cloned().collect();
    let over = inputs.terminal && !spec_of::is_static(inputs.pod);
    match phase::phase(spec, &every, over, initialized) {
        // a pod that ends before it ran has failed; whoever waits for its end can go on
        "Pending" | "Running" if over => "Failed",
        phase => phase,
    }
}

/// The pod's addresses: the node's on the host's network, else the sandbox's; the last known ones once it is gone.
fn pod_ips(inputs: &Inputs<'_>, old: &PodStatus) -> (Option<String>, Option<Vec<PodIP>>) {
    let sandbox = inputs.seen.ready_sandbox();
    let ips: Vec<String> = match sandbox {
        Some(_) if spec_of::host_network(inputs.pod) => inputs.node_ips.to_vec(),
        Some(sandbox) => sandbox.ips.clone(),
        None => Vec::new(),
    };
    if ips.is_empty() {
        return (old.pod_ip.clone(), old.pod_ips.clone());
    }
    (ips.first().cloned(), Some(ips.into_iter().map(|ip| PodIP { ip }).collect()))
}

#[cfg(test)]
mod tests;
