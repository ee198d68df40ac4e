//! Resizes in place: what was allocated to a pod, what its containers were given, and what follows from the two.
//! Source: upstream's allocation manager and kuberuntime's resize actions.
//!
//! Must not know: how a resize is carried out, or whether the node has room.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

use super::quantity::{milli, value};
use super::seen::Seen;

type List = Option<BTreeMap<String, Quantity>>;

/// Cpu and memory of a container or a pod, as the API writes them: what a resize may change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Size {
    requests: [Option<Quantity>; 2],
    limits: [Option<Quantity>; 2],
}

const NAMES: [&str; 2] = ["cpu", "memory"];

impl Size {
    pub fn of(resources: Option<&ResourceRequirements>) -> Self {
        let pick = |list: &List| NAMES.map(|name| list.as_ref()?.get(name).cloned());
        resources.map_or_else(Self::default, |it| Self { requests: pick(&it.requests), limits: pick(&it.limits) })
    }

    /// The resources with this cpu and memory.
    pub fn applied(&self, resources: Option<&ResourceRequirements>) -> Option<ResourceRequirements> {
        let mut resources = resources.cloned();
        if Self::of(resources.as_ref()) == *self {
            return resources;
        }
        let all = resources.get_or_insert_default();
        put(&mut all.requests, &self.requests);
        put(&mut all.limits, &self.limits);
        resources
    }

    /// `[[cpu request, cpu limit], [memory request, memory limit]]`, in thousandths and bytes.
    fn numbers(&self) -> [[Option<i64>; 2]; 2] {
        let of = |at: usize, read: fn(&Quantity) -> i64| {
            [self.requests[at].as_ref().map(read), self.limits[at].as_ref().map(read)]
        };
        [of(0, milli), of(1, value)]
    }

    /// Bytes.
    fn memory_limit(&self) -> Option<i64> {
        self.limits[1].as_ref().map(value)
    }
}

fn put(list: &mut List, amounts: &[Option<Quantity>; 2]) {
    let mut all = list.take().unwrap_or_default();
    for (name, amount) in NAMES.iter().zip(amounts) {
        match amount {
            Some(amount) => drop(all.insert((*name).to_owned(), amount.clone())),
            None => drop(all.remove(*name)),
        }
    }
    *list = (!all.is_empty()).then_some(all);
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

/// Sizes by container's name, and that of the pod as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sizes {
    pub containers: BTreeMap<String, Size>,
    pub pod: Size,
}

impl Sizes {
    /// What the pod's specification asks for.
    pub fn asked(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let containers = containers(spec).map(|one| (one.name.clone(), Size::of(one.resources.as_ref())));
        Self { containers: containers.collect(), pod: Size::of(spec.resources.as_ref()) }
    }

    /// What an earlier kubelet gave, as the pod's status has it; what asks for the first time gets what it asks for.
    pub fn given_before(pod: &Pod) -> Self {
        let mut sizes = Self::asked(pod);
        let Some(status) = &pod.status else { return sizes };
        for status in statuses(status) {
            if let Some((had, size)) = status.resources.as_ref().zip(sizes.containers.get_mut(&status.name)) {
                *size = Size::of(Some(had));
            }
        }
        let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        if let Some(had) = whole.and(status.resources.as_ref()) {
            let had = Size::of(Some(had));
            // the status has what the containers need together, too: only what is asked of the pod itself counts
            let only = |had: [Option<Quantity>; 2], asked: &[Option<Quantity>; 2]| {
                let mut kept = had;
                kept.iter_mut().zip(asked).for_each(|(had, asked)| *had = had.take().filter(|_| asked.is_some()));
                kept
            };
            sizes.pod =
                Size { requests: only(had.requests, &sizes.pod.requests), limits: only(had.limits, &sizes.pod.limits) };
        }
        sizes
    }

    /// The pod with these sizes; the same one where it asks for them.
    pub fn applied(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if Self::asked(pod) == *self {
            return pod.clone();
        }
        let mut resized = pod.as_ref().clone();
        if let Some(spec) = &mut resized.spec {
            for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
                if let Some(size) = self.containers.get(&container.name) {
                    container.resources = size.applied(container.resources.as_ref());
                }
            }
            spec.resources = self.pod.applied(spec.resources.as_ref());
        }
        Arc::new(resized)
    }
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.container_statuses.iter().chain(&status.init_container_statuses).flatten()
}

/// What a running container's size asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    InPlace,
    Restart,
}

/// From what the container was given to what is allocated. A container of which nothing is known has what it should.
pub fn change(container: &Container, given: Option<&Size>) -> Change {
    let wanted = Size::of(container.resources.as_ref()).numbers();
    let Some(given) = given.map(Size::numbers).filter(|given| *given != wanted) else { return Change::None };
    let restarts = |name: &str| {
        let policies = container.resize_policy.as_deref().unwrap_or_default();
        policies.iter().any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
    };
    let differs = given.iter().zip(&wanted).map(|(given, wanted)| given != wanted);
    let restart = NAMES.iter().zip(differs).any(|(name, differs)| differs && restarts(name));
    if restart { Change::Restart } else { Change::InPlace }
}

/// Whether what runs has not yet what was allocated to it.
pub fn in_progress(pod: &Pod, seen: &Seen, given: &Sizes) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let running = |name: &str| seen.running().any(|one| one.name == name);
    let lags = |one: &Container| running(&one.name) && change(one, given.containers.get(&one.name)) != Change::None;
    containers(spec).any(lags) || Size::of(spec.resources.as_ref()) != given.pod
}

/// The new memory limit in bytes, where it is lower than the one given, or the first.
pub fn memory_cut(container: &Container, given: Option<&Size>) -> Option<i64> {
    let wanted = Size::of(container.resources.as_ref()).memory_limit()?;
    let had = given.and_then(Size::memory_limit);
    had.is_none_or(|had| wanted < had).then_some(wanted)
}

/// A resize that waits, or is being carried out, as a condition shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub reason: Option<String>,
    pub message: Option<String>,
    /// Of the pod that asked.
    pub generation: Option<i64>,
    pub since: Timestamp,
}

/// Both may be there: one resize can wait while an earlier one is carried out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resizing {
    pub pending: Option<Condition>,
    pub in_progress: Option<Condition>,
}

/// The text of a resize's events: `Pod resize started: {"containers":[…],"generation":2}`.
pub fn told(what: &str, pod: &Pod, generation: Option<i64>, error: &str) -> String {
    let list = |containers: &[Container]| -> Vec<serde_json::Value> {
        let one = |it: &Container| json!({"name": it.name, "resources": it.resources.clone().unwrap_or_default()});
        containers.iter().map(one).collect()
    };
    let mut summary = serde_json::Map::new();
    if let Some(spec) = &pod.spec {
        let init = spec.init_containers.as_deref().unwrap_or_default();
        for (name, containers) in [("initContainers", init), ("containers", &spec.containers)] {
            if !containers.is_empty() {
                summary.insert(name.into(), list(containers).into());
            }
        }
    }
    summary.insert("generation".into(), generation.unwrap_or(0).into());
    if !error.is_empty() {
        summary.insert("error".into(), error.into());
    }
    format!("{what}: {}", serde_json::Value::Object(summary))
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    fn sized(cpu: &str, more: &str) -> Arc<Pod> {
        let resources = format!("resources: {{requests: {{cpu: {cpu}, ephemeral-storage: 1Gi}}}}");
        Arc::new(pod(&format!("  containers: [{{name: a, image: i, {resources}{more}}}]\n")))
    }

    fn container(pod: &Pod) -> &Container {
        &pod.spec.as_ref().unwrap().containers[0]
    }

    #[test]
    fn a_pod_runs_with_what_was_allocated_until_more_is() {
        let (small, large) = (sized("1", ""), sized("2", ""));
        let allocated = Sizes::asked(&small);
        assert_eq!(container(&allocated.applied(&large)).resources, container(&small).resources);
        assert!(Arc::ptr_eq(&allocated.applied(&small), &small));
    }

    #[test]
    fn a_later_kubelet_knows_what_was_given_from_the_status() {
        let mut pod = sized("2", "").as_ref().clone();
        let status = "containerStatuses: [{name: a, image: i, imageID: i, ready: true, restartCount: 0, \
                      resources: {requests: {cpu: '1', ephemeral-storage: 1Gi}}}]";
        pod.status = serde_yaml_ng::from_str(status).unwrap();
        assert_eq!(Sizes::given_before(&pod), Sizes::asked(&sized("1", "")));
    }

    #[test]
    fn the_policy_of_what_changes_says_whether_a_container_restarts() {
        let given = Sizes::asked(&sized("1", "")).containers.remove("a");
        let policy = ", resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]";
        let changed = |pod: Arc<Pod>| change(container(&pod), given.as_ref());
        assert_eq!(changed(sized("1000m", policy)), Change::None);
        assert_eq!(changed(sized("2", policy)), Change::Restart);
        assert_eq!(changed(sized("2", &policy.replace("cpu", "memory"))), Change::InPlace);
    }

    #[test]
    fn events_list_what_is_allocated() {
        let text = told("Pod resize started", &sized("1", ""), Some(2), "");
        let resources = r#"{"requests":{"cpu":"1","ephemeral-storage":"1Gi"}}"#;
        let wanted =
            format!(r#"Pod resize started: {{"containers":[{{"name":"a","resources":{resources}}}],"generation":2}}"#);
        assert_eq!(text, wanted);
    }
}
