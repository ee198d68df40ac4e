//! Pods and volume claims stay within the LimitRanges of their namespace; containers that say nothing get their
//! defaults (`plugin/pkg/admission/limitranger`).
//!
//! Must not know: quotas.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use pintle_api::object::{map_mut, metadata_mut};
use pintle_api::quantity::Quantity;
use pintle_api::resources::{self, Amounts, amounts};
use pintle_api::status::Status;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::server::ApiServer;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type List = BTreeMap<String, Written>;

/// Gives the containers of a new pod what the namespace has for those that say nothing.
pub fn admit(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if attributes.operation == Operation::Create {
        ranges(server, attributes)?.iter().for_each(|range| fill(pod, range));
    }
    Ok(())
}

/// Refuses what is outside of any range.
pub fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    let creates = attributes.operation == Operation::Create;
    let ending = attributes.old.is_some_and(|old| !old["metadata"]["deletionTimestamp"].is_null());
    let is_pod = attributes.is("", "pods");
    if ending || (is_pod && !creates && attributes.subresource != "resize") {
        return Ok(());
    }
    for range in ranges(server, attributes)? {
        let problems = if is_pod { of_pod(&range, &object["spec"]) } else { of_claim(&range, object) };
        if !problems.is_empty() {
            return Err(attributes.forbidden(&aggregate(problems)));
        }
    }
    Ok(())
}

fn ranges(server: &Arc<ApiServer>, attributes: &Attributes<'_>) -> Result<Vec<LimitRange>, Status> {
    let found = server.cache_of("", "limitranges")?.list(Some(attributes.namespace)).items;
    found.iter().map(|range| serde_json::from_slice(&range.json).map_err(Status::internal)).collect()
}

/// As upstream joins errors: each once, several in brackets.
fn aggregate(mut problems: Vec<String>) -> String {
    let mut seen = std::collections::BTreeSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    match problems.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn items<'r>(range: &'r LimitRange, kind: &'r str) -> impl Iterator<Item = &'r LimitRangeItem> {
    range.spec.iter().flat_map(|spec| &spec.limits).filter(move |item| item.type_ == kind)
}

fn fill(pod: &mut Value, range: &LimitRange) {
    let (mut requests, mut limits) = (List::new(), List::new());
    for item in items(range, "Container") {
        requests.extend(item.default_request.clone().unwrap_or_default());
        limits.extend(item.default.clone().unwrap_or_default());
    }
    let mut said = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            fill_container(container, &requests, &limits, what, &mut said);
        }
    }
    if !said.is_empty() {
        let text = format!("LimitRanger plugin set: {}", said.join("; "));
        let annotations = metadata_mut(pod).entry("annotations").or_insert_with(|| json!({}));
        annotations[ANNOTATION] = text.into();
    }
}

fn fill_container(container: &mut Value, requests: &List, limits: &List, what: &str, said: &mut Vec<String>) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    for (field, defaults, word) in [("requests", requests, "request"), ("limits", limits, "limit")] {
        let missing = |(resource, _): &(&String, &Written)| container["resources"][field][resource.as_str()].is_null();
        let set: Vec<(&String, &Written)> = defaults.iter().filter(missing).collect();
        if set.is_empty() {
            continue;
        }
        let names: Vec<&str> = set.iter().map(|(resource, _)| resource.as_str()).collect();
        said.push(format!("{} {word} for {what} {name}", names.join(", ")));
        map_mut(container, "resources");
        let list = map_mut(&mut container["resources"], field);
        list.extend(set.into_iter().map(|(resource, amount)| (resource.clone(), amount.0.clone().into())));
    }
}

fn of_pod(range: &LimitRange, spec: &Value) -> Vec<String> {
    let Ok(spec) = PodSpec::deserialize(spec) else { return Vec::new() };
    let mut problems = Vec::new();
    for item in range.spec.iter().flat_map(|spec| &spec.limits) {
        match item.type_.as_str() {
            "Container" => {
                let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
                containers.for_each(|container| of_container(item, container, &mut problems));
            }
            "Pod" => bounds(item, &resources::requests(&spec), &resources::limits(&spec), &mut problems),
            _ => {}
        }
    }
    problems
}

fn of_container(item: &LimitRangeItem, container: &Container, problems: &mut Vec<String>) {
    let resources = container.resources.as_ref();
    let requests = amounts(resources.and_then(|resources| resources.requests.as_ref()));
    let limits = amounts(resources.and_then(|resources| resources.limits.as_ref()));
    bounds(item, &requests, &limits, problems);
}

fn bounds(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts, problems: &mut Vec<String>) {
    let kind = item.type_.as_str();
    for (name, least) in &amounts(item.min.as_ref()) {
        problems.extend(below(kind, name, least, requests.get(name), limits.get(name)));
    }
    for (name, most) in &amounts(item.max.as_ref()) {
        problems.extend(above(kind, name, most, requests.get(name), limits.get(name)));
    }
    for (name, ratio) in &amounts(item.max_limit_request_ratio.as_ref()) {
        problems.extend(too_far_apart(kind, name, ratio, requests.get(name), limits.get(name)));
    }
}

fn of_claim(range: &LimitRange, claim: &Value) -> Vec<String> {
    let Ok(claim) = PersistentVolumeClaim::deserialize(claim) else { return Vec::new() };
    let requests = claim.spec.and_then(|spec| spec.resources).and_then(|resources| resources.requests);
    let (requests, mut problems) = (amounts(requests.as_ref()), Vec::new());
    for item in items(range, "PersistentVolumeClaim") {
        for (name, least) in &amounts(item.min.as_ref()) {
            problems.extend(below(&item.type_, name, least, requests.get(name), None));
        }
        for (name, most) in &amounts(item.max.as_ref()) {
            let usage = format!("maximum {name} usage per {} is {most}", item.type_);
            match requests.get(name) {
                None => problems.push(format!("{usage}.  No request is specified")),
                Some(request) if request > most => problems.push(format!("{usage}, but request is {request}")),
                Some(_) => {}
            }
        }
    }
    problems
}

type Amount<'a> = Option<&'a Quantity>;

fn below(kind: &str, name: &str, least: &Quantity, request: Amount<'_>, limit: Amount<'_>) -> Option<String> {
    let usage = format!("minimum {name} usage per {kind} is {least}");
    match (request, limit) {
        (None, _) => Some(format!("{usage}.  No request is specified")),
        (Some(request), _) if request < least => Some(format!("{usage}, but request is {request}")),
        (_, Some(limit)) if limit < least => Some(format!("{usage}, but limit is {limit}")),
        _ => None,
    }
}

fn above(kind: &str, name: &str, most: &Quantity, request: Amount<'_>, limit: Amount<'_>) -> Option<String> {
    let usage = format!("maximum {name} usage per {kind} is {most}");
    match (limit, request) {
        (None, _) => Some(format!("{usage}.  No limit is specified")),
        (Some(limit), _) if limit > most => Some(format!("{usage}, but limit is {limit}")),
        (_, Some(request)) if request > most => Some(format!("{usage}, but request is {request}")),
        _ => None,
    }
}

fn too_far_apart(kind: &str, name: &str, most: &Quantity, request: Amount<'_>, limit: Amount<'_>) -> Option<String> {
    let ratio = format!("{name} max limit to request ratio per {kind} is {most}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Some(format!("{ratio}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Some(format!("{ratio}, but no limit is specified or limit is 0"));
    };
    let provided = limit.to_f64() / request.to_f64();
    (provided > most.to_f64()).then(|| format!("{ratio}, but provided ratio is {provided:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limits: Value) -> LimitRange {
        serde_json::from_value(json!({ "metadata": { "name": "r" }, "spec": { "limits": limits } })).unwrap()
    }

    #[test]
    fn containers_that_say_nothing_get_the_defaults_and_the_pod_says_so() {
        let range = range(json!([{ "type": "Container", "default": { "cpu": "500m", "memory": "500Mi" },
            "defaultRequest": { "cpu": "100m" } }]));
        let mut pod = json!({ "metadata": {}, "spec": { "containers": [
            { "name": "a" }, { "name": "b", "resources": { "limits": { "cpu": "1" }, "requests": { "cpu": "1" } } }] } });
        fill(&mut pod, &range);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({ "requests": { "cpu": "100m" }, "limits": { "cpu": "500m", "memory": "500Mi" } })
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; \
             memory limit for container b"
        );
    }

    #[test]
    fn what_is_outside_is_refused_in_upstreams_words() {
        let range = range(json!([
            { "type": "Container", "min": { "cpu": "100m" }, "max": { "cpu": "1" }, "maxLimitRequestRatio": { "cpu": "2" } },
            { "type": "Pod", "max": { "memory": "1Gi" } }]));
        let spec = |requests: Value, limits: Value| json!({ "containers": [{ "name": "a", "resources": { "requests": requests, "limits": limits } }] });
        assert!(of_pod(&range, &spec(json!({ "cpu": "500m" }), json!({ "cpu": "1", "memory": "1Gi" }))).is_empty());
        assert_eq!(
            of_pod(&range, &spec(json!({ "cpu": "50m" }), json!({ "cpu": "2", "memory": "2Gi" }))),
            [
                "minimum cpu usage per Container is 100m, but request is 50m",
                "maximum cpu usage per Container is 1, but limit is 2",
                "cpu max limit to request ratio per Container is 2, but provided ratio is 40.000000",
                "maximum memory usage per Pod is 1Gi, but limit is 2Gi",
            ]
        );
        assert_eq!(aggregate(vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]), "[a, b]");
    }

    #[test]
    fn claims_are_held_to_what_they_request() {
        let range = range(
            json!([{ "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" }, "max": { "storage": "2Gi" } }]),
        );
        let claim = |storage: &str| json!({ "spec": { "resources": { "requests": { "storage": storage } } } });
        assert!(of_claim(&range, &claim("1Gi")).is_empty());
        assert_eq!(
            of_claim(&range, &claim("3Gi")),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
    }
}
