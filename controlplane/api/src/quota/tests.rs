//! Quotas: what counts, what is refused and in which words.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{Request, charge};
use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn quota(spec: Value, used: Value) -> ResourceQuota {
    let hard = spec["hard"].clone();
    serde_json::from_value(
        json!({ "metadata": { "name": "q" }, "spec": spec, "status": { "hard": hard, "used": used } }),
    )
    .unwrap()
}

fn pod(resources: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } }))
    .unwrap()
}

fn used(quota: &ResourceQuota) -> Value {
    serde_json::to_value(quota.status.as_ref().unwrap().used.as_ref().unwrap()).unwrap()
}

#[test]
fn a_pod_is_charged_for_what_it_requests_until_no_more_fits() {
    let quota = quota(
        json!({ "hard": { "pods": "2", "requests.cpu": "1", "count/pods": "5" } }),
        json!({ "pods": "0", "requests.cpu": "500m", "count/pods": "0" }),
    );
    let small = pod(json!({ "requests": { "cpu": "250m" } }));
    let request = Request { new: Counted::Pod(&small, NOW), old: None };
    let after = charge(&quota, &request).unwrap().unwrap();
    assert_eq!(used(&after), json!({ "count/pods": "1", "pods": "1", "requests.cpu": "750m" }));
    let large = pod(json!({ "requests": { "cpu": "600m" } }));
    let refused = charge(&quota, &Request { new: Counted::Pod(&large, NOW), old: None }).unwrap_err();
    assert_eq!(
        refused,
        "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1"
    );
}

#[test]
fn where_cpu_is_limited_every_container_says_what_it_takes() {
    let quota =
        quota(json!({ "hard": { "limits.cpu": "1", "memory": "1Gi" } }), json!({ "limits.cpu": "0", "memory": "0" }));
    let silent = pod(json!({}));
    let refused = charge(&quota, &Request { new: Counted::Pod(&silent, NOW), old: None }).unwrap_err();
    assert_eq!(refused, "failed quota: q: must specify limits.cpu for: c; memory for: c");
}

#[test]
fn a_quota_nobody_has_counted_yet_lets_nothing_in() {
    let quota = quota(json!({ "hard": { "pods": "1" } }), json!({}));
    let refused = charge(&quota, &Request { new: Counted::Pod(&pod(json!({})), NOW), old: None }).unwrap_err();
    assert_eq!(refused, "status unknown for quota: q, resources: pods");
}

#[test]
fn scopes_choose_the_pods_that_count() {
    let scoped = |scope: &str| quota(json!({ "hard": { "pods": "1" }, "scopes": [scope] }), json!({ "pods": "0" }));
    let mut ends = pod(json!({}));
    ends.spec.as_mut().unwrap().active_deadline_seconds = Some(1);
    let stays = pod(json!({ "requests": { "cpu": "1" } }));
    let counts = |scope: &str, pod: &Pod| Counted::Pod(pod, NOW).is_in_scopes(&scoped(scope));
    for (scope, of_ends, of_stays) in [
        ("Terminating", true, false),
        ("NotTerminating", false, true),
        ("BestEffort", true, false),
        ("NotBestEffort", false, true),
    ] {
        assert_eq!((counts(scope, &ends), counts(scope, &stays)), (of_ends, of_stays), "{scope}");
    }
    let update = Request { new: Counted::Pod(&ends, NOW), old: Some(Counted::Pod(&stays, NOW)) };
    assert!(charge(&scoped("Terminating"), &update).unwrap().is_some(), "the quota did not count it before");
}

#[test]
fn a_priority_class_is_a_scope() {
    let selector =
        json!({ "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "In", "values": ["high"] }] });
    let quota = quota(json!({ "hard": { "pods": "1" }, "scopeSelector": selector }), json!({ "pods": "0" }));
    let mut high = pod(json!({}));
    assert!(!Counted::Pod(&high, NOW).is_in_scopes(&quota));
    high.spec.as_mut().unwrap().priority_class_name = Some("high".to_owned());
    assert!(Counted::Pod(&high, NOW).is_in_scopes(&quota));
}

#[test]
fn services_count_their_node_ports_and_load_balancers() {
    let service = |kind: &str, allocates: Option<bool>| -> Service {
        serde_json::from_value(json!({ "spec": { "type": kind, "allocateLoadBalancerNodePorts": allocates,
            "ports": [{ "port": 80 }, { "port": 81, "nodePort": 30001 }] } }))
        .unwrap()
    };
    for (kind, allocates, ports, balancers) in [
        ("ClusterIP", None, 0, 0),
        ("NodePort", None, 2, 0),
        ("LoadBalancer", None, 2, 1),
        ("LoadBalancer", Some(false), 1, 1),
    ] {
        let used = Counted::Service(&service(kind, allocates)).usage();
        assert_eq!(
            (used["services.nodeports"].value(), used["services.loadbalancers"].value()),
            (ports, balancers),
            "{kind}"
        );
    }
}

#[test]
fn claims_count_by_class_too_and_other_kinds_by_number() {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({ "spec": { "storageClassName": "gold",
        "resources": { "requests": { "storage": "1Gi" } } } }))
    .unwrap();
    let used = Counted::Claim(&claim).usage();
    assert_eq!(used["gold.storageclass.storage.k8s.io/requests.storage"].to_string(), "1Gi");
    assert!(
        claims::concerns("gold.storageclass.storage.k8s.io/persistentvolumeclaims")
            && !claims::concerns("requests.cpu")
    );
    assert!(concerns("", "secrets", "secrets") && concerns("apps", "deployments", "count/deployments.apps"));
    assert!(!concerns("apps", "deployments", "deployments"));
}

#[test]
fn an_ended_pod_keeps_only_its_place_among_the_objects() {
    let mut ended = pod(json!({ "requests": { "cpu": "1" } }));
    ended.status = serde_json::from_value(json!({ "phase": "Succeeded" })).unwrap();
    assert_eq!(Counted::Pod(&ended, NOW).usage().keys().collect::<Vec<_>>(), ["count/pods"]);
}
