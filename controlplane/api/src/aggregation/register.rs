//! The APIServices that register themselves: those of this server's own groups at the start, those of custom resources
//! for as long as they are defined. Sources: `kube-aggregator/pkg/controllers/autoregister`,
//! `cmd/kube-apiserver/app/aggregator.go`, `pkg/controlplane/controller/crdregistration`.
//!
//! Must not know: how anything is written.

use serde_json::{Value, json};

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Looked after when the server starts, and left to the administrator from then on.
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";

/// Priorities of what CustomResourceDefinitions define: of the group, of the version.
pub const CUSTOM: (i64, i64) = (1000, 100);

/// Priorities of the groups and versions that this server has; None for those of APIServices.
pub fn priorities(group: &str, version: &str) -> Option<(i64, i64)> {
    Some(match (group, version) {
        ("", "v1") => (18_000, 1),
        ("apps", "v1") => (17_800, 15),
        ("events.k8s.io", "v1") => (17_750, 15),
        ("authentication.k8s.io", "v1") => (17_700, 15),
        ("authorization.k8s.io", "v1") => (17_600, 15),
        ("autoscaling", "v2") => (17_500, 30),
        ("autoscaling", "v1") => (17_500, 15),
        ("batch", "v1") => (17_400, 15),
        ("certificates.k8s.io", "v1") => (17_300, 15),
        ("networking.k8s.io", "v1") => (17_200, 15),
        ("policy", "v1") => (17_100, 15),
        ("rbac.authorization.k8s.io", "v1") => (17_000, 15),
        ("storage.k8s.io", "v1") => (16_800, 15),
        ("admissionregistration.k8s.io" | "apiextensions.k8s.io", "v1") => (16_700, 15),
        ("scheduling.k8s.io", "v1") => (16_600, 15),
        ("coordination.k8s.io", "v1") => (16_500, 15),
        ("node.k8s.io", "v1") => (16_300, 15),
        ("discovery.k8s.io", "v1") => (16_200, 15),
        ("resource.k8s.io", "v1") => (16_200, 21),
        ("flowcontrol.apiserver.k8s.io", "v1") => (16_100, 21),
        _ => return None,
    })
}

/// What is to be done about one APIService.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Create(Value),
    /// Has this spec from now on.
    Update(Value),
    Delete,
}

/// At the start, for a group and version of the server's own.
pub fn at_start(group: &str, version: &str, current: Option<&Value>) -> Option<Action> {
    let desired = desired(group, version, priorities(group, version)?, ON_START);
    act(Some(desired), current)
}

/// For one of a custom resource's; `served` says whether a definition has it still.
pub fn custom(group: &str, version: &str, served: bool, current: Option<&Value>) -> Option<Action> {
    let desired = served.then(|| desired(group, version, CUSTOM, ALWAYS));
    if desired.is_none() && current.is_none_or(|it| managed(it) != Some(ALWAYS)) {
        return None;
    }
    act(desired, current)
}

/// Whether the server may delete it when nobody serves it.
pub fn follows_definitions(object: &Value) -> bool {
    managed(object) == Some(ALWAYS)
}

fn act(desired: Option<Value>, current: Option<&Value>) -> Option<Action> {
    match (desired, current) {
        (None, None) => None,
        (Some(desired), None) => Some(Action::Create(desired)),
        (_, Some(current)) if managed(current).is_none() => None,
        (None, Some(_)) => Some(Action::Delete),
        (Some(desired), Some(current)) if desired["spec"] == current["spec"] => None,
        (Some(desired), Some(_)) => Some(Action::Update(desired["spec"].clone())),
    }
}

fn managed(object: &Value) -> Option<&str> {
    object["metadata"]["labels"][LABEL].as_str().filter(|it| [ON_START, ALWAYS].contains(it))
}

fn desired(group: &str, version: &str, (group_priority, version_priority): (i64, i64), managed: &str) -> Value {
    let mut spec =
        json!({ "version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({ "metadata": { "name": super::name(group, version), "labels": { LABEL: managed } }, "spec": spec })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    #[test]
    fn every_group_of_this_server_registers_itself_but_that_of_registrations() {
        for kind in kinds::all() {
            let known = priorities(kind.group, kind.version).is_some();
            assert_eq!(known, kind.group != super::super::GROUP, "{}/{}", kind.group, kind.version);
        }
        let Some(Action::Create(core)) = at_start("", "v1", None) else { panic!("it is missing") };
        assert_eq!(core["metadata"]["name"], "v1.");
        assert_eq!(core["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
        assert_eq!(at_start("", "v1", Some(&core)), None);
    }

    #[test]
    fn a_definitions_registration_comes_and_goes_with_it() {
        let Some(Action::Create(made)) = custom("a.example.com", "v1", true, None) else { panic!("it is missing") };
        assert_eq!(custom("a.example.com", "v1", true, Some(&made)), None);
        assert_eq!(custom("a.example.com", "v1", false, Some(&made)), Some(Action::Delete));
        let mut changed = made.clone();
        changed["spec"]["versionPriority"] = json!(5);
        assert_eq!(custom("a.example.com", "v1", true, Some(&changed)), Some(Action::Update(made["spec"].clone())));
        assert_eq!(custom("a.example.com", "v1", false, None), None);
    }

    #[test]
    fn what_somebody_took_over_is_left_alone() {
        let own = json!({ "metadata": { "name": "v1.a.example.com" }, "spec": { "service": {} } });
        assert_eq!(custom("a.example.com", "v1", true, Some(&own)), None);
        assert_eq!(custom("a.example.com", "v1", false, Some(&own)), None);
        assert_eq!(at_start("apps", "v1", Some(&own)), None);
    }
}
