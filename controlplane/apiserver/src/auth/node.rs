//! The node authorizer: a kubelet may read what the pods bound to its node need, and write what is its own
//! (upstream's `plugin/pkg/auth/authorizer/node`).
//!
//! Must not know: RBAC's objects.

use std::sync::Arc;

use serde_json::Value;

use super::Attributes;
use super::rbac::rule::Rule;
use crate::cache::Caches;

/// What every node may do, whatever pods it has; a line a rule: `verbs | groups | resources`.
const RULES: &str = "
    create | authentication.k8s.io | tokenreviews
    create | authorization.k8s.io | subjectaccessreviews,localsubjectaccessreviews
    get,list,watch | - | services
    create,get,list,watch,update,patch | - | nodes
    update,patch | - | nodes/status
    create,update,patch | -,events.k8s.io | events
    get,list,watch,create,delete | - | pods
    update,patch | - | pods/status
    create | - | pods/eviction
    get | - | endpoints
    create,get,list,watch | certificates.k8s.io | certificatesigningrequests
    get,list,watch | certificates.k8s.io | clustertrustbundles
    get,list,watch | storage.k8s.io | csidrivers
    get,list,watch | node.k8s.io | runtimeclasses
";

pub struct NodeAuthorizer {
    caches: Arc<Caches>,
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    pub fn new(caches: Arc<Caches>) -> Self {
        let rules = RULES.lines().filter(|line| !line.trim().is_empty()).map(rule).collect();
        Self { caches, rules }
    }

    pub fn authorize(&self, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
        if !asked.is_resource {
            return Err(String::new());
        }
        match (asked.group, asked.resource) {
            ("coordination.k8s.io", "leases") => own_lease(node, asked),
            ("storage.k8s.io", "csinodes") => own_csi_node(node, asked),
            ("", "secrets" | "configmaps" | "persistentvolumeclaims" | "serviceaccounts") => self.needed(node, asked),
            _ if self.rules.iter().any(|rule| rule.covers(asked)) => Ok(()),
            _ => Err(String::new()),
        }
    }

    /// Whether a pod on `node` refers to the object.
    fn needed(&self, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
        let readable = ["get", "list", "watch"].contains(&asked.verb) && asked.subresource.is_empty();
        let token = asked.resource == "serviceaccounts" && asked.subresource == "token" && asked.verb == "create";
        let claim_status = asked.resource == "persistentvolumeclaims" && asked.subresource == "status";
        if !(readable || token || claim_status) {
            return Err(format!("no relationship found between node '{node}' and this object"));
        }
        if asked.name.is_empty() {
            return Err(format!("can only {} individual resources of this type", asked.verb));
        }
        let Some(pods) = self.caches.of("", "pods") else { return Err(String::new()) };
        let here = pods.list(Some(asked.namespace)).items;
        let mut here = here.iter().filter(|pod| pod.field("spec.nodeName") == Some(node));
        if here.any(|pod| refers(&pod.value()["spec"], asked.resource, asked.name)) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{node}' and this object"))
    }
}

fn rule(line: &str) -> Rule {
    let mut columns = line.split('|').map(|column| column.trim().split(',').map(str::to_owned).collect::<Vec<_>>());
    let mut next = || columns.next().unwrap_or_default();
    let verbs = next();
    let groups = next().into_iter().map(|group| if group == "-" { String::new() } else { group }).collect();
    Rule { verbs, groups, resources: next(), ..Rule::default() }
}

fn own_lease(node: &str, asked: &Attributes<'_>) -> Result<(), String> {
    if !["get", "create", "update", "patch", "delete"].contains(&asked.verb) {
        return Err("can only get, create, update, patch, or delete a node lease".to_owned());
    }
    if asked.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    if asked.verb != "create" && asked.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn own_csi_node(node: &str, asked: &Attributes<'_>) -> Result<(), String> {
    let allowed = ["get", "create", "update", "patch", "delete"].contains(&asked.verb);
    if allowed && (asked.verb == "create" || asked.name == node) {
        return Ok(());
    }
    Err("can only access CSINode with the same name as the requesting node".to_owned())
}

/// Whether a pod's spec names the object, by any of the fields that a kubelet reads it for.
fn refers(spec: &Value, resource: &str, name: &str) -> bool {
    match resource {
        "serviceaccounts" => spec["serviceAccountName"] == name,
        "persistentvolumeclaims" => each(&spec["volumes"]).any(|it| it["persistentVolumeClaim"]["claimName"] == name),
        "secrets" => {
            each(&spec["imagePullSecrets"]).any(|it| it["name"] == name)
                || containers(spec).any(|it| env_refers(it, "secretRef", "secretKeyRef", name))
                || volumes_refer(spec, name, |it| [&it["secret"]["secretName"], &it["secret"]["name"]])
        }
        _ => {
            containers(spec).any(|it| env_refers(it, "configMapRef", "configMapKeyRef", name))
                || volumes_refer(spec, name, |it| [&it["configMap"]["name"], &it["configMap"]["name"]])
        }
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(|list| each(&spec[list]))
}

fn env_refers(container: &Value, all: &str, one: &str, name: &str) -> bool {
    each(&container["envFrom"]).any(|it| it[all]["name"] == name)
        || each(&container["env"]).any(|it| it["valueFrom"][one]["name"] == name)
}

/// Volumes, and the sources inside projected ones.
fn volumes_refer<'a>(spec: &'a Value, name: &str, names: impl Fn(&'a Value) -> [&'a Value; 2]) -> bool {
    let projected = each(&spec["volumes"]).flat_map(|it| each(&it["projected"]["sources"]));
    each(&spec["volumes"]).chain(projected).any(|it| names(it).into_iter().any(|it| it == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_refers_to_what_its_volumes_and_environment_name() {
        let spec = json!({
            "serviceAccountName": "bot",
            "containers": [{ "envFrom": [{ "secretRef": { "name": "env" } }],
                "env": [{ "valueFrom": { "configMapKeyRef": { "name": "one", "key": "k" } } }] }],
            "volumes": [{ "secret": { "secretName": "vol" } },
                { "projected": { "sources": [{ "configMap": { "name": "kube-root-ca.crt" } }] } }],
        });
        for (resource, name) in [
            ("secrets", "env"),
            ("secrets", "vol"),
            ("configmaps", "one"),
            ("configmaps", "kube-root-ca.crt"),
            ("serviceaccounts", "bot"),
        ] {
            assert!(refers(&spec, resource, name), "{resource} {name}");
            assert!(!refers(&spec, resource, "other"));
        }
        assert!(!refers(&spec, "secrets", "one"));
    }
}
