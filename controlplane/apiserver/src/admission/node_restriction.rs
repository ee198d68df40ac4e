//! A kubelet changes its own node and the pods on it, and nothing else (`plugin/pkg/admission/noderestriction`).
//!
//! Must not know: what a node may read; that is authorization's.

use std::collections::BTreeSet;
use std::sync::Arc;

use pintle_api::object;
use pintle_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::server::ApiServer;

const MIRROR: &str = "kubernetes.io/config.mirror";

pub fn admit(server: &Arc<ApiServer>, attributes: &Attributes<'_>, new: &Value) -> Result<(), Status> {
    let Some(node) = attributes.user.node_name() else { return Ok(()) };
    let uid = || {
        let found = server.cache_of("", "nodes").ok()?.get("", node)?;
        Some(object::uid(&found.value()).to_owned())
    };
    decide(node, attributes, new, uid).map_err(|why| attributes.forbidden(&why))
}

/// Eviction: of a pod on the node.
pub fn admit_eviction(node: &str, pod: &Value) -> Result<(), String> {
    own(pod, || format!("node {node} can only evict pods with spec.nodeName set to itself"), node)
}

/// Tokens: for a pod on the node. `bound` is the request's `boundObjectRef`, `pod` what it names.
pub fn admit_token(node: &str, bound: &Value, pod: Option<&Value>) -> Result<(), String> {
    let text = |field: &str| bound[field].as_str().unwrap_or_default();
    if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
        return Err("node requested token not bound to a pod".to_owned());
    }
    if text("uid").is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    match pod {
        Some(pod) if pod["spec"]["nodeName"] != node => {
            Err("node requested token bound to a pod scheduled on a different node".to_owned())
        }
        _ => Ok(()),
    }
}

fn decide(node: &str, a: &Attributes<'_>, new: &Value, uid: impl Fn() -> Option<String>) -> Result<(), String> {
    let null = Value::Null;
    let old = a.old.unwrap_or(&null);
    match (a.kind.group, a.kind.plural, a.subresource) {
        ("", "pods", "") => match a.operation {
            Operation::Create => mirror(node, new, uid),
            Operation::Delete => {
                own(old, || format!("node {node:?} can only delete pods with spec.nodeName set to itself"), node)
            }
            _ => Err(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods")),
        },
        ("", "pods", "status") => pod_status(node, new, old),
        ("", "pods", other) => {
            Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
        ("", "nodes", _) => self::node(node, a, new, old),
        ("", "persistentvolumeclaims", "status") => claim_status(node, new, old),
        ("", "persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
        ("coordination.k8s.io", "leases", _) => lease(node, a),
        ("storage.k8s.io", "csinodes", _) if a.name != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        _ => Ok(()),
    }
}

fn own(pod: &Value, why: impl Fn() -> String, node: &str) -> Result<(), String> {
    if pod["spec"]["nodeName"] == node { Ok(()) } else { Err(why()) }
}

/// A pod that the kubelet has from elsewhere: it needs nothing of the API, and ends with its node.
fn mirror(node: &str, pod: &Value, uid: impl Fn() -> Option<String>) -> Result<(), String> {
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        return Err(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    own(pod, || format!("node {node:?} can only create pods with spec.nodeName set to itself"), node)?;
    let owners = pod["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let [owner] = owners else {
        let what = if owners.is_empty() { "an owner reference" } else { "a single owner reference" };
        return Err(format!("node {node:?} can only create pods with {what} set to itself"));
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return Err(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let (said, is) = (owner["uid"].as_str().unwrap_or_default(), uid().unwrap_or_default());
    if said != is {
        return Err(format!("node {node} UID mismatch: expected {said} got {is}"));
    }
    match referenced(&pod["spec"]) {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// What of the API the pod's spec refers to.
fn referenced(spec: &Value) -> Option<&'static str> {
    const SOURCES: [(&str, &str); 6] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    if !spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        return Some("serviceaccounts");
    }
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let containers = || lists.iter().flat_map(|list| each(&spec[*list]));
    let env = |all: &str, one: &str| {
        containers().any(|container| {
            each(&container["envFrom"]).any(|from| !from[all].is_null())
                || each(&container["env"]).any(|variable| !variable["valueFrom"][one].is_null())
        })
    };
    if env("secretRef", "secretKeyRef") || each(&spec["imagePullSecrets"]).next().is_some() {
        return Some("secrets");
    }
    if env("configMapRef", "configMapKeyRef") {
        return Some("configmaps");
    }
    if each(&spec["resourceClaims"]).next().is_some() {
        return Some("resourceclaims");
    }
    each(&spec["volumes"]).find_map(|volume| {
        let direct = SOURCES.iter().find(|(field, _)| !volume[*field].is_null());
        let projected = || {
            let mut sources = each(&volume["projected"]["sources"]);
            sources.find_map(|source| PROJECTED.iter().find(|(field, _)| !source[*field].is_null()))
        };
        direct.or_else(projected).map(|(_, what)| *what)
    })
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn pod_status(node: &str, new: &Value, old: &Value) -> Result<(), String> {
    own(old, || format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"), node)?;
    if !same(&new["metadata"]["labels"], &old["metadata"]["labels"]) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    if !same(&new["status"]["resourceClaimStatuses"], &old["status"]["resourceClaimStatuses"]) {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    Ok(())
}

/// Nothing and an empty collection are the same.
fn same(left: &Value, right: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    left == right || (empty(left) && empty(right))
}

fn node(node: &str, a: &Attributes<'_>, new: &Value, old: &Value) -> Result<(), String> {
    if a.name != node {
        return Err(format!("node {node:?} is not allowed to modify node {:?}", a.name));
    }
    let list = |labels: BTreeSet<&str>| labels.into_iter().collect::<Vec<_>>().join(", ");
    match a.operation {
        Operation::Create => {
            let forbidden = forbidden_labels(new, &Value::Null);
            if !forbidden.is_empty() {
                let labels = list(forbidden);
                return Err(format!("node {node:?} is not allowed to set the following labels: {labels}"));
            }
        }
        Operation::Update => {
            if !same(&new["spec"]["taints"], &old["spec"]["taints"]) {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            if !same(&new["metadata"]["ownerReferences"], &old["metadata"]["ownerReferences"]) {
                return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let forbidden = forbidden_labels(new, old);
            if !forbidden.is_empty() {
                return Err(format!("is not allowed to modify labels: {}", list(forbidden)));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Of the labels that change, those that are not a kubelet's to set.
fn forbidden_labels<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let (new, old) = (&new["metadata"]["labels"], &old["metadata"]["labels"]);
    let keys = new.as_object().into_iter().chain(old.as_object()).flat_map(|labels| labels.keys());
    let changed = keys.filter(|key| new[key.as_str()] != old[key.as_str()]);
    changed.map(String::as_str).filter(|key| is_forbidden(key)).collect()
}

fn is_forbidden(label: &str) -> bool {
    const RESTRICTED: &str = "node-restriction.kubernetes.io";
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let below = |root: &str| domain == root || domain.strip_suffix(root).is_some_and(|rest| rest.ends_with('.'));
    below(RESTRICTED) || ((below("kubernetes.io") || below("k8s.io")) && !is_a_kubelets(label, below))
}

fn is_a_kubelets(label: &str, below: impl Fn(&str) -> bool) -> bool {
    const LABELS: [&str; 11] = [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    ];
    LABELS.contains(&label) || below("kubelet.kubernetes.io") || below("node.kubernetes.io")
}

/// Only how much there is and what state it is in.
fn claim_status(node: &str, new: &Value, old: &Value) -> Result<(), String> {
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in ["resourceVersion", "managedFields"] {
            claim["metadata"][field] = Value::Null;
        }
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            claim["status"][field] = Value::Null;
        }
        claim
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    Err(format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions"))
}

fn lease(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    if a.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    if a.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::UserInfo;
    use crate::call::Warnings;

    fn decided(plural: &str, subresource: &str, name: &str, new: Value, old: Option<Value>) -> Result<(), String> {
        let kind = pintle_api::kinds::find("", "v1", plural).unwrap();
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        let (user, warnings) = (UserInfo::new("system:node:n", &["system:nodes"]), Warnings::default());
        let attributes = Attributes {
            operation,
            kind,
            subresource,
            namespace: "ns",
            name,
            user: &user,
            old: old.as_ref(),
            warnings: &warnings,
            dry_run: false,
        };
        decide("n", &attributes, &new, || Some("1".to_owned()))
    }

    #[test]
    fn a_node_changes_only_itself_and_only_what_is_its_own() {
        let node =
            |labels: Value, taints: Value| json!({ "metadata": { "labels": labels }, "spec": { "taints": taints } });
        let old = node(json!({ "a": "b" }), json!([]));
        let update = |name: &str, new: Value| decided("nodes", "", name, new, Some(old.clone()));
        assert_eq!(update("n", node(json!({ "kubernetes.io/os": "linux" }), Value::Null)), Ok(()));
        assert_eq!(update("m", old.clone()).unwrap_err(), r#"node "n" is not allowed to modify node "m""#);
        assert_eq!(
            update("n", node(json!({ "node-role.kubernetes.io/x": "", "a.k8s.io/b": "" }), json!([]))).unwrap_err(),
            "is not allowed to modify labels: a.k8s.io/b, node-role.kubernetes.io/x"
        );
        let tainted = node(json!({ "a": "b" }), json!([{ "key": "k", "effect": "NoSchedule" }]));
        assert_eq!(update("n", tainted).unwrap_err(), r#"node "n" is not allowed to modify taints"#);
    }

    #[test]
    fn a_node_makes_only_mirrors_that_need_nothing_of_the_api() {
        let pod = |spec: Value, uid: &str| {
            json!({ "metadata": { "annotations": { MIRROR: "x" }, "ownerReferences": [{
                "apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid, "controller": true }] }, "spec": spec })
        };
        let made = |pod: Value| decided("pods", "", "p", pod, None);
        assert_eq!(made(pod(json!({ "nodeName": "n" }), "1")), Ok(()));
        assert_eq!(made(pod(json!({ "nodeName": "n" }), "2")).unwrap_err(), "node n UID mismatch: expected 2 got 1");
        assert_eq!(
            made(pod(json!({ "nodeName": "m" }), "1")).unwrap_err(),
            r#"node "n" can only create pods with spec.nodeName set to itself"#
        );
        let secret = json!({ "nodeName": "n", "volumes": [{ "secret": { "secretName": "s" } }] });
        assert_eq!(
            made(pod(secret, "1")).unwrap_err(),
            r#"node "n" can not create pods that reference secrets (via secret volumes)"#
        );
        assert!(made(json!({ "spec": { "nodeName": "n" } })).unwrap_err().starts_with("pod does not have"));
    }

    #[test]
    fn a_node_reports_and_evicts_only_its_pods_and_takes_their_tokens() {
        let (here, there) = (json!({ "spec": { "nodeName": "n" } }), json!({ "spec": { "nodeName": "m" } }));
        assert_eq!(decided("pods", "status", "p", here.clone(), Some(here.clone())), Ok(()));
        assert!(decided("pods", "status", "p", there.clone(), Some(there.clone())).is_err());
        assert!(admit_eviction("n", &here).is_ok() && admit_eviction("n", &there).is_err());
        let bound = json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1" });
        assert!(admit_token("n", &bound, Some(&here)).is_ok());
        assert!(admit_token("n", &bound, Some(&there)).is_err());
        assert_eq!(admit_token("n", &Value::Null, None).unwrap_err(), "node requested token not bound to a pod");
    }
}
