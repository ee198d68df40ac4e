//! StatefulSets as stories: pods in, pods out.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::{Seen, plan};
use super::pod;

struct World {
    set: StatefulSet,
    pods: Vec<Arc<Pod>>,
    current: ControllerRevision,
    update: ControllerRevision,
    made: usize,
}

fn named(name: &str) -> ControllerRevision {
    serde_json::from_value(json!({"metadata": {"name": name}, "revision": 1})).unwrap()
}

impl World {
    fn new(spec: Value) -> Self {
        let mut set = json!({"metadata": {"name": "db", "namespace": "default", "uid": "s"}, "spec": {"replicas": 3, "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}}, "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}}}});
        for (key, value) in spec.as_object().unwrap() {
            set["spec"][key] = value.clone();
        }
        Self {
            set: serde_json::from_value(set).unwrap(),
            pods: Vec::new(),
            current: named("db-1"),
            update: named("db-1"),
            made: 0,
        }
    }

    /// One sync; new pods become ready if `ready`. Names of pods that came (`+`) and went (`-`).
    fn step(&mut self, ready: bool) -> Vec<String> {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let pods = self.pods.clone();
        let plan =
            plan(&Seen { set: &self.set, pods, current: &self.current, update: &self.update, collisions: None, now });
        let mut said = Vec::new();
        for gone in &plan.delete {
            said.push(format!("-{}", gone.metadata.name.as_ref().unwrap()));
            self.pods.retain(|pod| pod.metadata.uid != gone.metadata.uid);
        }
        for (ordinal, update) in plan.create {
            let revision = if update { &self.update } else { &self.current };
            let template: PodTemplateSpec = self.set.spec.as_ref().unwrap().template.clone();
            let mut pod = pod::new(&self.set, &template, revision.metadata.name.as_ref().unwrap(), ordinal);
            self.made += 1;
            pod.metadata.uid = Some(format!("u{}", self.made));
            let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]});
            pod.status = serde_json::from_value(status).unwrap();
            said.push(format!("+{}", pod.metadata.name.as_ref().unwrap()));
            self.pods.push(Arc::new(pod));
        }
        if plan.status.current_revision == self.update.metadata.name {
            self.current = self.update.clone();
        }
        self.set.status = Some(plan.status);
        said
    }

    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let said = self.step(true);
            if said.is_empty() {
                return all;
            }
            all.extend(said);
        }
    }
}

#[test]
fn pods_start_in_order_each_after_the_one_before_is_ready() {
    let mut world = World::new(json!({}));
    assert_eq!(world.step(false), ["+db-0"]);
    assert!(world.step(false).is_empty());
    world.pods.clear();
    assert_eq!(world.settle(), ["+db-0", "+db-1", "+db-2"]);
    let status = world.set.status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas, status.current_replicas), (3, Some(3), Some(3)));
    let spec = world.pods[1].spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("db")));
}

#[test]
fn in_parallel_all_start_at_once() {
    let mut world = World::new(json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(world.step(false), ["+db-0", "+db-1", "+db-2"]);
}

#[test]
fn scaling_down_goes_from_the_highest_ordinal() {
    let mut world = World::new(json!({}));
    world.settle();
    world.set.spec.as_mut().unwrap().replicas = Some(1);
    assert_eq!(world.settle(), ["-db-2", "-db-1"]);
}

#[test]
fn an_update_replaces_one_pod_at_a_time_from_the_highest_ordinal_down_to_the_partition() {
    let mut world = World::new(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}));
    world.settle();
    world.update = named("db-2");
    assert_eq!(world.settle(), ["-db-2", "+db-2", "-db-1", "+db-1"]);
    let status = world.set.status.as_ref().unwrap();
    assert_eq!((status.updated_replicas, status.current_revision.as_deref()), (Some(2), Some("db-1")));
    world.set.spec.as_mut().unwrap().update_strategy = None;
    assert_eq!(world.settle(), ["-db-0", "+db-0"]);
    assert_eq!(world.set.status.unwrap().current_revision.as_deref(), Some("db-2"));
}

#[test]
fn claims_follow_the_ordinal() {
    let world = World::new(json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}));
    let claims = pod::claims(&world.set, 2);
    assert_eq!(claims[0].1.metadata.name.as_deref(), Some("data-db-2"));
    assert_eq!(claims[0].1.metadata.labels.as_ref().unwrap()["app"], "db");
    let template = world.set.spec.as_ref().unwrap().template.clone();
    let pod = pod::new(&world.set, &template, "db-1", 2);
    let volume = &pod.spec.unwrap().volumes.unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-2");
}
