//! What a node's silence means: its conditions, and the taints that its conditions ask for.
//!
//! Must not know: the API, clocks.

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The conditions that a kubelet reports.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Taints that only this controller sets.
const OWNED: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/unschedulable",
];

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    conditions(node).iter().find(|condition| condition.type_ == type_)
}

/// `True`, `False` or `Unknown`; empty where the kubelet has said nothing yet.
pub fn readiness(node: &Node) -> &str {
    condition(node, "Ready").map(|ready| ready.status.as_str()).unwrap_or_default()
}

/// The node with its conditions unknown, since it has been silent for too long. None: they are already.
pub fn silenced(node: &Node, now: Timestamp) -> Option<Node> {
    let mut silent = node.clone();
    let all = silent.status.get_or_insert_default().conditions.get_or_insert_default();
    for type_ in REPORTED {
        match all.iter_mut().find(|condition| condition.type_ == type_) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(Time(now));
            }
            None => all.push(NodeCondition {
                type_: type_.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    (&silent != node).then_some(silent)
}

/// The taints that the node should have, in place of those it has. `evict`: whether pods may be driven off it (not when
/// every node seems lost: then it is more likely us). None: it has them already.
pub fn taints(node: &Node, evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let present = crate::taints::taints(node);
    let wanted = wanted(node, evict);
    let same = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let kept = present.iter().filter(|taint| {
        let owned = OWNED.contains(&taint.key.as_str()) && taint.effect != "PreferNoSchedule";
        !owned || wanted.iter().any(|want| same(taint, want))
    });
    let mut new: Vec<Taint> = kept.cloned().collect();
    for want in wanted.iter().filter(|want| !present.iter().any(|taint| same(taint, want))) {
        new.push(Taint { key: want.0.into(), effect: want.1.into(), value: None, time_added: Some(Time(now)) });
    }
    (new != present).then_some(new)
}

fn wanted(node: &Node, evict: bool) -> Vec<(&'static str, &'static str)> {
    let is = |type_: &str| condition(node, type_).is_some_and(|condition| condition.status == "True");
    let lost = match readiness(node) {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    };
    let pressures = [
        ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
        ("DiskPressure", "node.kubernetes.io/disk-pressure"),
        ("PIDPressure", "node.kubernetes.io/pid-pressure"),
        ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
    ];
    let unschedulable = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    let mut wanted: Vec<(&str, &str)> = lost.map(|key| (key, "NoSchedule")).into_iter().collect();
    wanted.extend(pressures.into_iter().filter(|(type_, _)| is(type_)).map(|(_, key)| (key, "NoSchedule")));
    wanted.extend(unschedulable.then_some(("node.kubernetes.io/unschedulable", "NoSchedule")));
    wanted.extend(lost.filter(|_| evict).map(|key| (key, "NoExecute")));
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(ready: &str, spec: Value) -> Node {
        let conditions = json!([{"type": "Ready", "status": ready}, {"type": "MemoryPressure", "status": "False"}]);
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}))
            .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn keys(taints: Option<Vec<Taint>>) -> Vec<String> {
        taints
            .unwrap()
            .iter()
            .map(|taint| format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect))
            .collect()
    }

    #[test]
    fn a_silent_node_is_unknown_in_every_respect() {
        let silent = silenced(&node("True", json!({})), at(100)).unwrap();
        let reasons: Vec<_> = conditions(&silent)
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_deref().unwrap()))
            .collect();
        assert_eq!(
            reasons,
            [
                ("Ready", "Unknown", "NodeStatusUnknown"),
                ("MemoryPressure", "Unknown", "NodeStatusUnknown"),
                ("DiskPressure", "Unknown", "NodeStatusNeverUpdated"),
                ("PIDPressure", "Unknown", "NodeStatusNeverUpdated"),
            ]
        );
        assert_eq!(silenced(&silent, at(200)), None);
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let other = json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]});
        assert_eq!(taints(&node("True", other.clone()), true, at(1)), None);
        assert_eq!(
            keys(taints(&node("False", other), true, at(1))),
            ["gpu:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"]
        );
        assert_eq!(keys(taints(&node("Unknown", json!({})), false, at(1))), ["unreachable:NoSchedule"]);
        assert_eq!(
            keys(taints(&node("True", json!({"unschedulable": true})), true, at(1))),
            ["unschedulable:NoSchedule"]
        );
        let was =
            json!({"taints": [{"key": NOT_READY, "effect": "NoExecute"}, {"key": NOT_READY, "effect": "NoSchedule"}]});
        assert_eq!(
            keys(taints(&node("Unknown", was), true, at(1))),
            ["unreachable:NoSchedule", "unreachable:NoExecute"]
        );
    }
}
