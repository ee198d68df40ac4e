//! Deployments as stories: ReplicaSets in, steps and conditions out.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::plan::{Plan, Seen, Step, plan};
use super::{revision, scale};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn deployment(image: &str, replicas: i32, strategy: serde_json::Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "progressDeadlineSeconds": 600, "strategy": strategy, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    }))
    .unwrap()
}

fn rolling(surge: serde_json::Value, unavailable: serde_json::Value) -> serde_json::Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

/// Plays the API and the ReplicaSet controller: whatever the plan asks for happens; pods are available at once if `healthy`.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    healthy: fn(&ReplicaSet) -> bool,
    clock: i64,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), healthy: |_| true, clock: 0 }
    }

    fn plan(&self) -> Plan {
        let sets = self.sets.iter().cloned().map(Arc::new).collect();
        plan(Seen { deployment: &self.deployment, sets, old_pods_running: false }, at(self.clock))
    }

    /// One sync; the sizes of all sets after it, oldest first.
    fn step(&mut self) -> Vec<i32> {
        self.clock += 1;
        let plan = self.plan();
        for step in plan.steps {
            match step {
                Step::Create(mut set) => {
                    set.metadata.uid = set.metadata.name.clone();
                    set.metadata.creation_timestamp = Some(at(self.clock).into());
                    self.sets.push(set);
                }
                Step::Update { set, .. } => {
                    let own = self.sets.iter_mut().find(|own| own.metadata.uid == set.metadata.uid).unwrap();
                    *own = set;
                }
                Step::Delete(set) => self.sets.retain(|own| own.metadata.uid != set.metadata.uid),
            }
        }
        for set in &mut self.sets {
            let (size, healthy) = (scale::size(set), (self.healthy)(set));
            let status = set.status.get_or_insert_default();
            let ready = if healthy { size } else { 0 };
            (status.replicas, status.ready_replicas, status.available_replicas) = (size, Some(ready), Some(ready));
            status.observed_generation = Some(1);
        }
        self.deployment = plan.report;
        self.sets.iter().map(scale::size).collect()
    }

    fn settle(&mut self) -> Vec<Vec<i32>> {
        let mut history = vec![self.step()];
        for _ in 0..50 {
            let sizes = self.step();
            if history.last() == Some(&sizes) && self.plan().steps.is_empty() {
                break;
            }
            history.push(sizes);
        }
        history
    }

    fn set_image(&mut self, image: &str) {
        let template = &mut self.deployment.spec.as_mut().unwrap().template;
        template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    }

    fn scale(&mut self, replicas: i32) {
        self.deployment.spec.as_mut().unwrap().replicas = Some(replicas);
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let status = self.deployment.status.as_ref().unwrap();
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == type_).unwrap();
        (found.status.clone(), found.reason.clone().unwrap())
    }
}

#[test]
fn a_new_deployment_gets_a_replica_set_and_becomes_complete() {
    let mut world = World::new(deployment("web:1", 3, rolling(json!("25%"), json!("25%"))));
    assert_eq!(world.step(), [3]);
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetCreated".into()));
    world.settle();
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(world.condition("Available"), ("True".into(), "MinimumReplicasAvailable".into()));
    let set = &world.sets[0];
    let name = set.metadata.name.clone().unwrap();
    assert_eq!(name, format!("web-{}", set.metadata.labels.as_ref().unwrap()["pod-template-hash"]));
    assert_eq!(revision::annotation(&world.deployment.metadata, revision::REVISION), Some("1"));
    assert!(world.plan().steps.is_empty() && world.plan().report == world.deployment);
}

#[test]
fn a_rolling_update_stays_within_surge_and_unavailability() {
    let mut world = World::new(deployment("web:1", 10, rolling(json!(3), json!(2))));
    world.settle();
    world.set_image("web:2");
    for sizes in world.settle() {
        let total: i32 = sizes.iter().sum();
        assert!((8..=13).contains(&total), "{sizes:?}");
    }
    assert_eq!(world.sets.iter().map(scale::size).collect::<Vec<_>>(), [0, 10]);
    assert_eq!(revision::number(&world.sets[1].metadata), 2);
    assert_eq!(revision::annotation(&world.deployment.metadata, revision::REVISION), Some("2"));
}

#[test]
fn a_rollout_that_never_becomes_available_stops_and_times_out() {
    let mut world = World::new(deployment("web:1", 4, rolling(json!(1), json!(1))));
    world.settle();
    world.set_image("broken");
    world.healthy = |set| revision::number(&set.metadata) < 2;
    world.settle();
    assert_eq!(world.sets.iter().map(scale::size).collect::<Vec<_>>(), [3, 2]);
    assert!(world.plan().again.is_some());
    world.clock += 700;
    world.step();
    assert_eq!(world.condition("Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
}

#[test]
fn going_back_reuses_the_old_replica_set_under_a_new_revision() {
    let mut world = World::new(deployment("web:1", 2, rolling(json!(1), json!(0))));
    world.settle();
    world.set_image("web:2");
    world.settle();
    world.set_image("web:1");
    world.settle();
    assert_eq!(world.sets.iter().map(scale::size).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(revision::number(&world.sets[0].metadata), 3);
    let history = revision::annotation(&world.sets[0].metadata, "deployment.kubernetes.io/revision-history");
    assert_eq!(history, Some("1"));
}

#[test]
fn recreate_removes_all_old_pods_before_the_first_new_one() {
    let mut world = World::new(deployment("web:1", 3, json!({"type": "Recreate"})));
    world.settle();
    world.set_image("web:2");
    assert_eq!(world.step(), [0]);
    let sets: Vec<Arc<ReplicaSet>> = world.sets.iter().cloned().map(Arc::new).collect();
    let waiting = plan(Seen { deployment: &world.deployment, sets, old_pods_running: true }, at(100));
    assert!(waiting.steps.is_empty());
    assert_eq!(world.step(), [0, 3]);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut world = World::new(deployment("web:1", 10, rolling(json!(3), json!(2))));
    world.settle();
    world.set_image("broken");
    world.healthy = |set| revision::number(&set.metadata) < 2;
    world.settle();
    assert_eq!(world.sets.iter().map(scale::size).collect::<Vec<_>>(), [8, 5]);
    world.scale(15);
    assert_eq!(world.step(), [11, 7]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(deployment("web:1", 2, rolling(json!(1), json!(0))));
    world.settle();
    world.deployment.spec.as_mut().unwrap().paused = Some(true);
    world.set_image("web:2");
    world.scale(5);
    world.settle();
    assert_eq!(world.sets.iter().map(scale::size).collect::<Vec<_>>(), [5]);
    assert_eq!(world.condition("Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
}

#[test]
fn old_revisions_over_the_limit_are_deleted() {
    let mut world = World::new(deployment("web:0", 1, rolling(json!(1), json!(0))));
    world.deployment.spec.as_mut().unwrap().revision_history_limit = Some(2);
    for image in 1..6 {
        world.settle();
        world.set_image(&format!("web:{image}"));
    }
    world.settle();
    let revisions: Vec<i64> = world.sets.iter().map(|set| revision::number(&set.metadata)).collect();
    assert_eq!(revisions, [4, 5, 6]);
}

#[test]
fn percentages_round_up_for_surge_and_down_for_unavailability() {
    let world = deployment("web", 5, rolling(json!("30%"), json!("30%")));
    assert_eq!((scale::max_surge(&world), scale::max_unavailable(&world)), (2, 1));
    let none = deployment("web", 5, rolling(json!(0), json!(0)));
    assert_eq!((scale::max_surge(&none), scale::max_unavailable(&none)), (0, 1));
}
