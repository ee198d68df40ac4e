//! What a resize may change in a pod: cpu and memory, and neither its class nor its containers
//! (`pkg/apis/core/validation`, `ValidatePodResize`).
//!
//! Must not know: nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::field::{Error, Errors, Path};

const MIRROR: &str = "kubernetes.io/config.mirror";
const ONLY: &str = "only cpu and memory resources are mutable";

type List = Option<BTreeMap<String, Quantity>>;

/// `same_class`: both have the same QoS class.
pub(crate) fn pod_resize(new: &core::Pod, old: &core::Pod, same_class: bool, errors: &mut Errors) {
    let (Some(spec), Some(had), path) = (&new.spec, &old.spec, Path::new("spec")) else { return };
    if old.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return errors.push(Error::forbidden(&Path::new(""), "static pods cannot be resized"));
    }
    if had.os.as_ref().is_some_and(|os| os.name == "windows") {
        return errors.push(Error::forbidden(&Path::new(""), "windows pods cannot be resized"));
    }
    if !same_class {
        let class = new.status.as_ref().and_then(|status| status.qos_class.clone()).unwrap_or_default();
        errors.push(Error::invalid(&path, class, "Pod QOS Class may not change as a result of resizing"));
    }
    if !runs_where_resizes_are_known(old) {
        errors.push(Error::forbidden(&path, "Pod running on node without support for resize"));
    }
    let before = errors.len();
    same_containers(spec, had, &path, errors);
    if errors.len() > before {
        return;
    }
    whole_pod(spec, had, &path, errors);
    containers(spec, had, &path, errors);
    init_containers(spec, had, &path, errors);
    if errors.is_empty() && with_cpu_and_memory_of(spec, had) != *had {
        errors.push(Error::forbidden(&path, ONLY));
    }
}

/// A kubelet that knows resizes says what its containers have; while none runs it is taken for one.
fn runs_where_resizes_are_known(pod: &core::Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut running = statuses.filter(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.next().is_none_or(|one| one.resources.is_some())
}

fn same_containers(new: &core::PodSpec, old: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let init = |spec: &core::PodSpec| spec.init_containers.clone().unwrap_or_default();
    let lists =
        [("containers", new.containers.clone(), old.containers.clone()), ("initContainers", init(new), init(old))];
    for (list, new, old) in lists {
        let at = path.child(list);
        if new.len() != old.len() {
            errors.push(Error::forbidden(&at, format!("{list} may not be added or removed on resize")));
            continue;
        }
        for (i, _) in new.iter().zip(&old).enumerate().filter(|(_, (new, old))| new.name != old.name) {
            let detail = format!("{list} may not be renamed or reordered on resize");
            errors.push(Error::forbidden(&at.index(i).child("name"), detail));
        }
    }
}

fn whole_pod(new: &core::PodSpec, old: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let at = path.child("resources");
    match (&new.resources, &old.resources) {
        (None, Some(_)) => errors.push(Error::forbidden(&at, "pod-level resources cannot be removed")),
        (Some(new), Some(old)) => removals(new, old, "pod-level resource", &at, errors),
        _ => {}
    }
}

fn containers(new: &core::PodSpec, old: &core::PodSpec, path: &Path, errors: &mut Errors) {
    for (i, (new, old)) in new.containers.iter().zip(&old.containers).enumerate() {
        container(new, old, &path.child("containers").index(i), errors);
        if of_container(new, old) != *old {
            errors.push(Error::forbidden(path, ONLY));
        }
    }
}

fn init_containers(new: &core::PodSpec, old: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let pairs = new.init_containers.iter().flatten().zip(old.init_containers.iter().flatten());
    for (i, (new, old)) in pairs.enumerate() {
        let at = path.child("initContainers").index(i);
        container(new, old, &at, errors);
        if of_container(new, old) != *old {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(Error::forbidden(&at, detail));
        }
        let sidecar = new.restart_policy.as_deref() == Some("Always");
        let restarts = new.resize_policy.iter().flatten().any(|policy| policy.restart_policy == "RestartContainer");
        if new != old && !sidecar && restarts {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(Error::forbidden(&at, detail));
        }
    }
}

fn container(new: &core::Container, old: &core::Container, at: &Path, errors: &mut Errors) {
    let (none, at) = (core::ResourceRequirements::default(), at.child("resources"));
    let (new, old) = (new.resources.as_ref().unwrap_or(&none), old.resources.as_ref().unwrap_or(&none));
    removals(new, old, "resource", &at, errors);
}

fn removals(
    new: &core::ResourceRequirements,
    old: &core::ResourceRequirements,
    what: &str,
    at: &Path,
    errors: &mut Errors,
) {
    let removed = |new: &List, old: &List| {
        old.iter().flatten().any(|(name, _)| new.as_ref().is_none_or(|new| !new.contains_key(name)))
    };
    for (list, new, old) in [("requests", &new.requests, &old.requests), ("limits", &new.limits, &old.limits)] {
        if removed(new, old) {
            errors.push(Error::forbidden(&at.child(list), format!("{what} {list} cannot be removed")));
        }
    }
}

/// The spec with the cpu and memory that `old` has.
fn with_cpu_and_memory_of(new: &core::PodSpec, old: &core::PodSpec) -> core::PodSpec {
    let mut spec = new.clone();
    for (container, old) in spec.containers.iter_mut().zip(&old.containers) {
        *container = of_container(container, old);
    }
    for (container, old) in spec.init_containers.iter_mut().flatten().zip(old.init_containers.iter().flatten()) {
        *container = of_container(container, old);
    }
    spec.resources = of_requirements(spec.resources, &old.resources);
    spec
}

fn of_container(new: &core::Container, old: &core::Container) -> core::Container {
    let resources = of_requirements(new.resources.clone(), &old.resources);
    core::Container { resources, ..new.clone() }
}

fn of_requirements(
    new: Option<core::ResourceRequirements>,
    old: &Option<core::ResourceRequirements>,
) -> Option<core::ResourceRequirements> {
    let new = new.unwrap_or_default();
    let had = old.clone().unwrap_or_default();
    let kept = core::ResourceRequirements {
        requests: of_list(new.requests, had.requests),
        limits: of_list(new.limits, had.limits),
        ..new
    };
    // nothing is as good as no entry
    if kept == core::ResourceRequirements::default() { old.as_ref().map(|_| kept) } else { Some(kept) }
}

fn of_list(new: List, old: List) -> List {
    let resizable = |name: &String| matches!(name.as_str(), "cpu" | "memory");
    let mut kept: BTreeMap<_, _> = new.into_iter().flatten().filter(|(name, _)| !resizable(name)).collect();
    let was_there = old.is_some();
    kept.extend(old.into_iter().flatten().filter(|(name, _)| resizable(name)));
    (was_there || !kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(containers: Value) -> core::Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})).unwrap()
    }

    fn problems(new: &core::Pod, old: &core::Pod) -> Vec<String> {
        let mut errors = Errors::default();
        pod_resize(new, old, true, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn sized(cpu: &str) -> Value {
        json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "ephemeral-storage": "1Gi"}}}])
    }

    #[test]
    fn cpu_and_memory_may_change() {
        assert!(problems(&pod(sized("2")), &pod(sized("1"))).is_empty());
        let bare = pod(json!([{"name": "c", "image": "i"}]));
        let asking = pod(json!([{"name": "c", "image": "i", "resources": {"limits": {"memory": "1Gi"}}}]));
        assert!(problems(&asking, &bare).is_empty());
    }

    #[test]
    fn nothing_else_may() {
        let more =
            json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "ephemeral-storage": "2Gi"}}}]);
        let only = "spec: Forbidden: only cpu and memory resources are mutable";
        assert_eq!(problems(&pod(more), &pod(sized("1"))), [only]);
        let removed = json!([{"name": "c", "image": "i", "resources": {"requests": {"ephemeral-storage": "1Gi"}}}]);
        let cannot = "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed";
        assert_eq!(problems(&pod(removed), &pod(sized("1"))), [cannot]);
        let other = json!([{"name": "d", "image": "i"}]);
        let renamed = "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize";
        assert_eq!(problems(&pod(other), &pod(sized("1"))), [renamed]);
    }

    #[test]
    fn a_node_that_does_not_say_what_containers_have_cannot_resize() {
        let mut old = pod(sized("1"));
        let running = json!({"containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "i",
            "imageID": "i", "state": {"running": {}}}]});
        old.status = serde_json::from_value(running).unwrap();
        let without = "spec: Forbidden: Pod running on node without support for resize";
        assert_eq!(problems(&pod(sized("2")), &old), [without]);
    }
}
