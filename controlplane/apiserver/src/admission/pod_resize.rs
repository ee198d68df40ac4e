//! A pod on a node is not resized beyond what that node has at all (`plugin/pkg/admission/podresize`).
//!
//! Must not know: what else runs there; the kubelet does.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_api::quantity::Quantity;
use pintle_api::resources::{Amounts, amounts, requests_with_overhead};
use pintle_api::status::Status;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::Attributes;
use crate::server::ApiServer;

const OS: &str = "kubernetes.io/os";

pub fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let same = attributes.old.is_some_and(|old| old["metadata"]["generation"] == pod["metadata"]["generation"]);
    let Some(name) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty() && !same) else { return Ok(()) };
    let Some(node) = server.cache_of("", "nodes")?.get("", name) else {
        return Err(attributes.forbidden(&format!("node {name:?} not found")));
    };
    let node: Node = serde_json::from_slice(&node.json).map_err(Status::internal)?;
    let pod = Pod::deserialize(pod).map_err(Status::internal)?;
    match problem(&pod, &node) {
        Some((reason, why)) => {
            let mut status = attributes.forbidden(&why);
            status.details["causes"] = json!([{"reason": reason}]);
            Err(status)
        }
        None => Ok(()),
    }
}

fn problem(pod: &Pod, node: &Node) -> Option<(&'static str, String)> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let os = node.metadata.labels.as_ref().and_then(|labels| labels.get(OS)).filter(|os| *os != "linux");
    if let Some(os) = os {
        let why = format!("pod resize is only supported on linux nodes, node {name:?} is {os:?}");
        return Some(("UnsupportedPlatform", why));
    }
    let asked = pod.spec.as_ref().map(requests_with_overhead).unwrap_or_default();
    let has = amounts(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
    let too_much: Vec<String> = ["cpu", "memory"].iter().filter_map(|name| beyond(name, &asked, &has)).collect();
    let why = || format!("node didn't have enough allocatable resources: {}", too_much.join("; "));
    (!too_much.is_empty()).then(|| ("NodeCapacity", why()))
}

fn beyond(name: &str, asked: &Amounts, has: &Amounts) -> Option<String> {
    let none = Quantity::ZERO;
    let (asked, has) = (asked.get(name).unwrap_or(&none), has.get(name).unwrap_or(&none));
    let shown = |amount: &Quantity| if name == "cpu" { amount.milli_value() } else { amount.value() };
    (asked > has).then(|| format!("{name}, requested: {}, allocatable: {}", shown(asked), shown(has)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_node_has_is_allowed() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "labels": {OS: "linux"}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}}))
        .unwrap();
        let pod = |cpu: &str, memory: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}}))
            .unwrap()
        };
        assert_eq!(problem(&pod("2", "1Gi"), &node), None);
        let both = "node didn't have enough allocatable resources: cpu, requested: 2001, allocatable: 2000; \
                    memory, requested: 2147483648, allocatable: 1073741824";
        assert_eq!(problem(&pod("2001m", "2Gi"), &node), Some(("NodeCapacity", both.to_owned())));
    }
}
