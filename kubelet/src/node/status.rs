//! The node's status: capacity, addresses, conditions, info, images.
//!
//! Must not know: how it is written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pintle_cri::Runtime;
use pintle_cri::v1::{ListImagesRequest, StatusResponse};
use serde_json::{Value, json};

use super::facts::Machine;
use crate::abilities::Abilities;
use crate::config::Config;
use crate::plan::admission::Room;
use crate::plan::quantity;

/// The version of Kubernetes this kubelet speaks.
pub const VERSION: &str = "v1.36.0";
/// Images reported at most, upstream's default.
const IMAGES: usize = 50;

type Resources = BTreeMap<String, Quantity>;

fn capacity(config: &Config, machine: &Machine) -> Resources {
    let mut all = Resources::from([
        ("cpu".to_string(), Quantity(machine.cpus.to_string())),
        ("memory".into(), Quantity(format!("{}Ki", machine.memory / 1024))),
        ("ephemeral-storage".into(), Quantity(format!("{}Ki", machine.ephemeral_storage / 1024))),
        ("pods".into(), Quantity(config.max_pods.to_string())),
    ]);
    all.extend(
        machine.hugepages.iter().map(|(size, bytes)| (format!("hugepages-{size}"), Quantity(bytes.to_string()))),
    );
    all
}

fn reserved(config: &Config, name: &str, read: fn(&Quantity) -> i64) -> i64 {
    let of = |map: &BTreeMap<String, String>| map.get(name).map_or(0, |text| read(&Quantity(text.clone())));
    of(&config.kube_reserved) + of(&config.system_reserved)
}

/// cpu (milli) and memory (bytes) that pods may have.
pub fn allocatable(config: &Config, machine: &Machine) -> (i64, i64) {
    let cpu = machine.cpus * 1000 - reserved(config, "cpu", quantity::milli);
    let memory = machine.memory - reserved(config, "memory", quantity::value);
    (cpu.max(0), memory.max(0))
}

/// What pods may have together.
pub fn room(config: &Config, machine: &Machine) -> Room {
    let all = allocatable_resources(config, machine);
    let (cpu, memory) = allocatable(config, machine);
    let storage = all.get("ephemeral-storage").map_or(0, quantity::value);
    Room { cpu, memory: memory / 1024 * 1024, ephemeral_storage: storage, pods: config.max_pods.into() }
}

fn allocatable_resources(config: &Config, machine: &Machine) -> Resources {
    let mut all = capacity(config, machine);
    let (cpu, memory) = allocatable(config, machine);
    let cpu = if cpu % 1000 == 0 { (cpu / 1000).to_string() } else { format!("{cpu}m") };
    let storage = machine.ephemeral_storage - reserved(config, "ephemeral-storage", quantity::value);
    // upstream's default eviction threshold keeps a tenth of the disk
    let storage = storage - machine.ephemeral_storage / 10;
    all.insert("cpu".into(), Quantity(cpu));
    all.insert("memory".into(), Quantity(format!("{}Ki", memory / 1024)));
    all.insert("ephemeral-storage".into(), Quantity(storage.max(0).to_string()));
    all
}

/// The status now. Conditions keep the time of their last change.
pub async fn status(
    config: &Config,
    machine: &Machine,
    (runtime, abilities): (&Runtime, &Abilities),
    ips: &[String],
    old: Option<&NodeStatus>,
) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> =
        ips.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.clone() }).collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: config.node_name.clone() });
    let asked = abilities.ask(runtime).await;
    let mut status = NodeStatus {
        capacity: Some(capacity(config, machine)),
        allocatable: Some(allocatable_resources(config, machine)),
        addresses: Some(addresses),
        conditions: Some(conditions(asked, old)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: config.port.into() }),
        }),
        node_info: Some(info(machine, runtime)),
        images: Some(images(runtime).await),
        ..NodeStatus::default()
    };
    abilities.tell(&mut status);
    status
}

fn info(machine: &Machine, runtime: &Runtime) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: machine.architecture.into(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!(
            "{}://{}",
            runtime.version.runtime_name,
            runtime.version.runtime_version.trim_start_matches('v')
        ),
        kernel_version: machine.kernel_version.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: VERSION.into(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

async fn images(runtime: &Runtime) -> Vec<ContainerImage> {
    let listed = runtime.images.clone().list_images(ListImagesRequest::default()).await;
    let mut images = listed.map(|answer| answer.into_inner().images).unwrap_or_default();
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let named = images.into_iter().map(|image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    });
    named.filter(|image| image.names.as_ref().is_some_and(|names| !names.is_empty())).take(IMAGES).collect()
}

fn conditions(asked: Result<StatusResponse, tonic::Status>, old: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH));
    let trouble = trouble(asked);
    let values = [
        ("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available".to_string()),
        ("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure".to_string()),
        ("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available".to_string()),
        match trouble {
            None => ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_string()),
            Some(trouble) => ("Ready", false, "KubeletNotReady", trouble),
        },
    ];
    let previous = old.and_then(|old| old.conditions.as_deref()).unwrap_or_default();
    let condition = |(type_, value, reason, message): (&str, bool, &str, String)| {
        let status = if value { "True" } else { "False" };
        let before = previous.iter().find(|one| one.type_ == type_ && one.status == status);
        NodeCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: before.and_then(|one| one.last_transition_time.clone()).or(Some(now.clone())),
        }
    };
    values.into_iter().map(condition).collect()
}

/// Why the runtime cannot run pods.
fn trouble(asked: Result<StatusResponse, tonic::Status>) -> Option<String> {
    let answer = match asked {
        Ok(answer) => answer.status.unwrap_or_default(),
        Err(status) => return Some(format!("container runtime is down: {}", status.message())),
    };
    let failed: Vec<String> = answer
        .conditions
        .into_iter()
        .filter(|one| !one.status && matches!(one.r#type.as_str(), "RuntimeReady" | "NetworkReady"))
        .map(|one| match one.r#type.as_str() {
            "NetworkReady" => format!(
                "container runtime network not ready: NetworkReady=false reason:{} message:{}",
                one.reason, one.message
            ),
            _ => {
                format!("container runtime not ready: RuntimeReady=false reason:{} message:{}", one.reason, one.message)
            }
        })
        .collect();
    (!failed.is_empty()).then(|| failed.join(", "))
}

pub fn is_ready(status: &NodeStatus) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Whether anything but heartbeats changed.
pub fn differs(old: Option<&NodeStatus>, new: &NodeStatus) -> bool {
    let Some(old) = old else { return true };
    let ours = |status: &NodeStatus| {
        let conditions = status.conditions.iter().flatten().filter(|one| is_ours(&one.type_));
        let conditions: Vec<_> = conditions
            .map(|one| (one.type_.clone(), one.status.clone(), one.reason.clone(), one.message.clone()))
            .collect();
        (
            status.capacity.clone(),
            status.allocatable.clone(),
            status.addresses.clone(),
            status.node_info.clone(),
            status.images.clone(),
            (status.runtime_handlers.clone().unwrap_or_default(), status.features.clone()),
            conditions,
        )
    };
    ours(old) != ours(new)
}

fn is_ours(type_: &str) -> bool {
    matches!(type_, "MemoryPressure" | "DiskPressure" | "PIDPressure" | "Ready")
}

/// A strategic merge patch; addresses are replaced as a whole, other owners' conditions stay.
pub fn patch(old: Option<&NodeStatus>, new: &NodeStatus) -> Value {
    let mut status = serde_json::to_value(new).unwrap_or_default();
    if let Value::Object(fields) = &mut status {
        if old.and_then(|old| old.addresses.as_ref()) == new.addresses.as_ref() {
            fields.remove("addresses");
        } else if let Some(Value::Array(addresses)) = fields.get_mut("addresses") {
            addresses.push(json!({"$patch": "replace"}));
        }
    }
    json!({"status": status})
}
