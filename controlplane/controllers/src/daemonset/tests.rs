//! DaemonSets as stories: nodes and pods in, pods out.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::{Plan, Seen, plan, status};
use super::pod;

const NOW: i64 = 1_700_000_000;

struct World {
    set: DaemonSet,
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    hash: String,
    made: usize,
}

impl World {
    fn new(nodes: usize, rolling: Value) -> Self {
        let set = json!({"metadata": {"name": "agent", "namespace": "default", "uid": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": []}}}});
        let node = |number: usize| {
            Arc::new(serde_json::from_value(json!({"metadata": {"name": format!("n{number}")}})).unwrap())
        };
        Self {
            set: serde_json::from_value(set).unwrap(),
            nodes: (0..nodes).map(node).collect(),
            pods: Vec::new(),
            hash: "one".into(),
            made: 0,
        }
    }

    fn seen(&self) -> Seen<'_> {
        let now = Timestamp::from_second(NOW).unwrap();
        Seen { set: &self.set, nodes: &self.nodes, pods: &self.pods, hash: &self.hash, now }
    }

    /// One sync; new pods are ready at once unless `ready` says otherwise. How many pods came and went.
    fn step(&mut self, ready: bool) -> (usize, usize) {
        let plan = plan(&self.seen());
        let counts = (plan.create.len(), plan.delete.len());
        self.pods.retain(|pod| !plan.delete.contains(pod));
        for node in plan.create {
            let mut pod = pod::new(&self.set, &node, &self.hash).unwrap();
            self.made += 1;
            pod.metadata.uid = Some(format!("p{}", self.made));
            let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]});
            pod.status = serde_json::from_value(status).unwrap();
            self.pods.push(Arc::new(pod));
        }
        counts
    }

    fn taint(&mut self, node: usize, key: &str, effect: &str) {
        let taint =
            json!({"spec": {"taints": [{"key": key, "effect": effect}]}, "metadata": {"name": format!("n{node}")}});
        self.nodes[node] = Arc::new(serde_json::from_value(taint).unwrap());
    }
}

#[test]
fn every_node_gets_one_pod_bound_to_it() {
    let mut world = World::new(3, json!({"maxUnavailable": 1}));
    assert_eq!(world.step(true), (3, 0));
    assert_eq!(pod::target_node(&world.pods[1]), Some("n1"));
    assert_eq!(plan(&world.seen()), Plan::default());
    let status = status(&world.seen());
    assert_eq!(
        (status.desired_number_scheduled, status.number_ready, status.updated_number_scheduled),
        (3, 3, Some(3))
    );
}

#[test]
fn taints_keep_pods_away_or_drive_them_off_unless_tolerated() {
    let mut world = World::new(3, json!({"maxUnavailable": 1}));
    world.taint(0, "dedicated", "NoSchedule");
    assert_eq!(world.step(true), (2, 0));
    world.taint(1, "dedicated", "NoSchedule");
    assert_eq!(world.step(true), (0, 0));
    assert_eq!(status(&world.seen()).number_misscheduled, 1);
    world.taint(1, "dedicated", "NoExecute");
    assert_eq!(world.step(true), (0, 1));
    world.taint(2, "node.kubernetes.io/unreachable", "NoExecute");
    assert_eq!(world.step(true), (0, 0));
}

#[test]
fn an_update_replaces_as_many_pods_at_a_time_as_may_be_unavailable() {
    let mut world = World::new(4, json!({"maxUnavailable": 2}));
    world.step(true);
    world.hash = "two".into();
    assert_eq!(world.step(true), (0, 2));
    assert_eq!(world.step(false), (2, 0));
    assert_eq!(world.step(false), (0, 0));
    assert_eq!(status(&world.seen()).updated_number_scheduled, Some(2));
}

#[test]
fn surging_starts_the_new_pod_before_the_old_one_goes() {
    let mut world = World::new(2, json!({"maxSurge": 1, "maxUnavailable": 0}));
    world.step(true);
    world.hash = "two".into();
    assert_eq!(world.step(true), (1, 0));
    assert_eq!(world.step(true), (0, 1));
    assert_eq!(world.step(true), (1, 0));
    assert_eq!(world.step(true), (0, 1));
    assert_eq!(world.step(true), (0, 0));
}

#[test]
fn an_ended_pod_is_replaced() {
    let mut world = World::new(1, json!({"maxUnavailable": 1}));
    world.step(true);
    let mut failed = world.pods[0].as_ref().clone();
    failed.status.as_mut().unwrap().phase = Some("Failed".into());
    world.pods = vec![Arc::new(failed)];
    assert_eq!(plan(&world.seen()).replace.len(), 1);
}
