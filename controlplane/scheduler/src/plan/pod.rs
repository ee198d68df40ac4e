//! What the plan keeps of a pod: no more than the plugins look at.
//!
//! Must not know: nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, Pod, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint,
};
use pintle_api::quantity::Quantity;
use pintle_api::selector::LabelSelector;

use super::selector::{Labels, NodeTerm, selector};

/// Upstream's stand-ins for containers that request nothing, used for scoring only: 0.1 core, 200 MiB.
const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// Amounts by resource name; cpu in thousandths, everything else in whole units.
pub type Resources = BTreeMap<String, i64>;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodInfo {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    /// The UID of its controller.
    pub owner: Option<String>,
    pub node: Option<String>,
    pub nominated: Option<String>,
    pub scheduler: String,
    pub priority: i32,
    /// Its preemptionPolicy allows it to preempt.
    pub preempts: bool,
    pub requests: Resources,
    /// As `requests`, with upstream's stand-ins for what is not requested: cpu and memory.
    pub counted: (i64, i64),
    pub ports: Vec<HostPort>,
    pub node_selector: Labels,
    /// One of these must match, if there are any; `Some` of none matches nothing.
    pub required_nodes: Option<Vec<NodeTerm>>,
    pub preferred_nodes: Vec<(i64, NodeTerm)>,
    pub tolerations: Vec<Toleration>,
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
    /// Weights are negative where the pod prefers to be apart.
    pub preferred_pods: Vec<(i64, PodTerm)>,
    pub spread: Vec<Spread>,
    pub images: Vec<String>,
    pub gated: bool,
    pub terminating: bool,
    /// When it began to run, in seconds.
    pub started: Option<i64>,
    /// Succeeded or failed: it takes up nothing.
    pub finished: bool,
    /// PodScheduled says so already, with this message.
    pub told: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
        let same_ip = self.ip == other.ip || any(&self.ip) || any(&other.ip);
        same_ip && self.port == other.port && self.protocol == other.protocol
    }
}

/// A term of pod affinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTerm {
    pub topology_key: String,
    selector: LabelSelector,
    namespaces: Vec<String>,
    namespace_selector: LabelSelector,
}

impl PodTerm {
    fn of(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let (same, other) = (term.match_label_keys.as_ref(), term.mismatch_label_keys.as_ref());
        let selector = selector(term.label_selector.as_ref(), labels, same, other);
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        let namespace_selector = LabelSelector::from_metav1(term.namespace_selector.as_ref());
        let namespace_selector = namespace_selector.unwrap_or(LabelSelector::NOTHING);
        Self { topology_key: term.topology_key.clone(), selector, namespaces, namespace_selector }
    }

    /// Whether it means `pod`; `namespaces` has the labels of each namespace.
    pub fn matches(&self, pod: &PodInfo, namespaces: &BTreeMap<String, Labels>) -> bool {
        let none = Labels::new();
        let labels = namespaces.get(&pod.namespace).unwrap_or(&none);
        let named = self.namespaces.contains(&pod.namespace) || self.namespace_selector.matches(labels);
        named && self.selector.matches(&pod.labels)
    }
}

/// A topology spread constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    pub max_skew: i64,
    pub topology_key: String,
    /// DoNotSchedule.
    pub hard: bool,
    pub selector: LabelSelector,
    pub min_domains: i64,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

impl Spread {
    fn of(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let same = constraint.match_label_keys.as_ref();
        let selector = selector(constraint.label_selector.as_ref(), labels, same, None);
        Self {
            max_skew: constraint.max_skew.into(),
            topology_key: constraint.topology_key.clone(),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            selector,
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

impl PodInfo {
    pub fn of(pod: &Pod) -> Self {
        let (meta, none) = (&pod.metadata, PodSpec::default());
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let held = pintle_api::resources::held(pod).unwrap_or_default();
        let status = pod.status.as_ref();
        let labels = meta.labels.clone().unwrap_or_default();
        let namespace = meta.namespace.clone().unwrap_or_default();
        let owners = meta.owner_references.iter().flatten();
        let phase = status.and_then(|status| status.phase.as_deref());
        let mut info = Self {
            uid: meta.uid.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            owner: owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).next(),
            node: spec.node_name.clone().filter(|name| !name.is_empty()),
            nominated: status.and_then(|status| status.nominated_node_name.clone()).filter(|name| !name.is_empty()),
            scheduler: spec.scheduler_name.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or_default(),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            requests: requests(&held),
            counted: counted(&held),
            ports: host_ports(spec),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            spread: spec.topology_spread_constraints.iter().flatten().map(|one| Spread::of(one, &labels)).collect(),
            images: containers(spec).filter_map(|container| container.image.clone()).collect(),
            gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
            terminating: meta.deletion_timestamp.is_some(),
            started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0.as_second()),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            told: told(pod),
            ..Self::default()
        };
        if let Some(affinity) = &spec.affinity {
            info.set_affinity(affinity, &namespace, &labels);
        }
        Self { namespace, labels, ..info }
    }

    /// Whether both look the same to every plugin: only what the pod is told about itself may differ.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let plain = |pod: &Self| Self { told: None, node: None, nominated: None, started: None, ..pod.clone() };
        plain(self) == plain(other)
    }

    fn set_affinity(&mut self, affinity: &Affinity, namespace: &str, labels: &Labels) {
        if let Some(nodes) = &affinity.node_affinity {
            let required = nodes.required_during_scheduling_ignored_during_execution.as_ref();
            self.required_nodes =
                required.map(|required| required.node_selector_terms.iter().map(NodeTerm::of).collect());
            let preferred = nodes.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            self.preferred_nodes = preferred.map(|term| (term.weight.into(), NodeTerm::of(&term.preference))).collect();
        }
        let term = |term: &PodAffinityTerm| PodTerm::of(term, namespace, labels);
        if let Some(pods) = &affinity.pod_affinity {
            self.affinity =
                pods.required_during_scheduling_ignored_during_execution.iter().flatten().map(term).collect();
            let preferred = pods.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            self.preferred_pods.extend(preferred.map(|one| (one.weight.into(), term(&one.pod_affinity_term))));
        }
        if let Some(pods) = &affinity.pod_anti_affinity {
            self.anti_affinity =
                pods.required_during_scheduling_ignored_during_execution.iter().flatten().map(term).collect();
            let preferred = pods.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            let apart = preferred.map(|one| (-i64::from(one.weight), term(&one.pod_affinity_term)));
            self.preferred_pods.extend(apart);
        }
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn told(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    let unschedulable = scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable");
    unschedulable.then(|| scheduled.message.clone().unwrap_or_default())
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let ports = containers(spec).filter(|container| restarts(container) || spec.containers.contains(container));
    let ports = ports.flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some(HostPort { ip: port.host_ip.clone().unwrap_or_default(), protocol, port: number })
    });
    taken.collect()
}

/// A sidecar: an init container that stays.
fn restarts(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What a pod asks of a node: the larger of what its containers and sidecars need together and what any init
/// container needs beside the sidecars before it; overridden by pod-level requests; plus overhead.
/// Source: `k8s.io/component-helpers/resource.PodRequests`.
fn total(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let (mut running, mut starting, mut sidecars) = (Resources::new(), Resources::new(), Resources::new());
    spec.containers.iter().for_each(|container| add(&mut running, &of(container)));
    for container in spec.init_containers.iter().flatten() {
        let mut at_once = of(container);
        if restarts(container) {
            add(&mut running, &at_once);
            add(&mut sidecars, &at_once);
            at_once = sidecars.clone();
        } else {
            add(&mut at_once, &sidecars);
        }
        raise(&mut starting, &at_once);
    }
    raise(&mut running, &starting);
    if let Some(requests) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        running.extend(amounts(requests.iter()));
    }
    if let Some(overhead) = &spec.overhead {
        add(&mut running, &amounts(overhead.iter()));
    }
    running
}

fn requests(spec: &PodSpec) -> Resources {
    total(spec, own)
}

fn counted(spec: &PodSpec) -> (i64, i64) {
    let total = total(spec, |container| {
        let mut requests = own(container);
        requests.entry("cpu".to_owned()).or_insert(DEFAULT_CPU);
        requests.entry("memory".to_owned()).or_insert(DEFAULT_MEMORY);
        requests
    });
    let amount = |name| total.get(name).copied().unwrap_or_default();
    (amount("cpu"), amount("memory"))
}

fn own(container: &Container) -> Resources {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.map(|requests| amounts(requests.iter())).unwrap_or_default()
}

type Amount<'a> = (&'a String, &'a k8s_openapi::apimachinery::pkg::api::resource::Quantity);

/// Quantities as numbers; unreadable ones, which validation lets nobody store, are left out.
pub fn amounts<'a>(list: impl Iterator<Item = Amount<'a>>) -> Resources {
    let number = |name: &str, text: &str| {
        let quantity: Quantity = text.parse().ok()?;
        Some(if name == "cpu" { quantity.milli_value() } else { quantity.value() })
    };
    list.filter_map(|(name, amount)| Some((name.clone(), number(name, &amount.0)?))).collect()
}

pub fn add(total: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

pub fn subtract(total: &mut Resources, less: &Resources) {
    for (name, amount) in less {
        let sum = total.entry(name.clone()).or_default();
        *sum = sum.saturating_sub(*amount);
    }
}

fn raise(total: &mut Resources, least: &Resources) {
    for (name, amount) in least {
        let sum = total.entry(name.clone()).or_default();
        *sum = (*sum).max(*amount);
    }
}
