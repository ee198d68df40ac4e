//! Services and pods in, EndpointSlices and Endpoints out.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::{slices, subsets};

fn service(spec: Value) -> Service {
    let mut service = json!({"metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    serde_json::from_value(service).unwrap()
}

fn pod(number: usize, port: u16, ready: bool, terminating: bool) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": format!("web-{number}"), "namespace": "default", "uid": format!("p{number:04}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "hostname": format!("web-{number}"), "subdomain": "web",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": format!("10.244.{}.{}", number / 250, number % 250),
            "podIPs": [{"ip": format!("10.244.{}.{}", number / 250, number % 250)}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    if terminating {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn slice_plan(service: &Service, pods: Vec<Arc<Pod>>, existing: Vec<EndpointSlice>) -> slices::Plan {
    let zones: HashMap<String, Option<String>> = [("node-1".to_owned(), Some("z1".to_owned()))].into();
    slices::plan(&slices::Seen { service, pods, slices: existing.into_iter().map(Arc::new).collect(), zones: &zones })
}

/// Plays the API: what the plan does to the slices.
fn applied(plan: slices::Plan, mut slices: Vec<EndpointSlice>) -> Vec<EndpointSlice> {
    slices.retain(|slice| !plan.delete.iter().any(|gone| gone.metadata.uid == slice.metadata.uid));
    for slice in plan.update {
        let own = slices.iter_mut().find(|own| own.metadata.uid == slice.metadata.uid).unwrap();
        *own = slice;
    }
    for mut slice in plan.create {
        slice.metadata.uid = Some(format!("slice-{}", slices.len()));
        slices.push(slice);
    }
    slices
}

fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
    slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect()
}

#[test]
fn a_slice_says_who_where_and_in_what_condition() {
    let service = service(json!({}));
    let plan = slice_plan(&service, vec![pod(1, 8080, true, false), pod(2, 8080, true, true)], vec![]);
    assert_eq!(plan.create.len(), 1);
    let slice = serde_json::to_value(&plan.create[0]).unwrap();
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"team": "a", "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["controller"], true);
    let (first, second) = (&slice["endpoints"][0], &slice["endpoints"][1]);
    assert_eq!(first["conditions"], json!({"ready": true, "serving": true, "terminating": false}));
    assert_eq!(second["conditions"], json!({"ready": false, "serving": true, "terminating": true}));
    assert_eq!(
        (&first["nodeName"], &first["zone"], &first["hostname"]),
        (&json!("node-1"), &json!("z1"), &json!("web-1"))
    );
    assert_eq!(first["targetRef"], json!({"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "p0001"}));
}

#[test]
fn planning_again_changes_nothing() {
    let service = service(json!({}));
    let pods: Vec<Arc<Pod>> = (0..250).map(|number| pod(number, 80, true, false)).collect();
    let slices = applied(slice_plan(&service, pods.clone(), vec![]), vec![]);
    assert_eq!(sizes(&slices), [100, 100, 50]);
    assert_eq!(slice_plan(&service, pods, slices), slices::Plan::default());
    let empty = applied(slice_plan(&service, vec![], vec![]), vec![]);
    assert_eq!(sizes(&empty), [0]);
    assert_eq!(slice_plan(&service, vec![], empty), slices::Plan::default());
}

#[test]
fn a_new_pod_touches_one_slice_and_a_last_pod_leaves_a_placeholder() {
    let service = service(json!({}));
    let mut pods: Vec<Arc<Pod>> = (0..150).map(|number| pod(number, 80, true, false)).collect();
    let slices = applied(slice_plan(&service, pods.clone(), vec![]), vec![]);
    pods.push(pod(200, 80, true, false));
    let plan = slice_plan(&service, pods, slices.clone());
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
    let left = applied(slice_plan(&service, vec![], slices.clone()), slices);
    assert_eq!(sizes(&left), [0]);
}

#[test]
fn pods_with_other_numbers_for_a_named_port_get_slices_of_their_own() {
    let plan = slice_plan(&service(json!({})), vec![pod(1, 80, true, false), pod(2, 8080, true, false)], vec![]);
    let ports: Vec<Option<i32>> = plan.create.iter().map(|slice| slice.ports.as_ref().unwrap()[0].port).collect();
    assert_eq!(ports, [Some(80), Some(8080)]);
}

#[test]
fn a_headless_service_may_publish_pods_that_are_not_ready() {
    let service = service(json!({"clusterIP": "None", "publishNotReadyAddresses": true, "ports": []}));
    let plan = slice_plan(&service, vec![pod(1, 80, false, false)], vec![]);
    let slice = &plan.create[0];
    assert!(slice.metadata.labels.as_ref().unwrap().contains_key("service.kubernetes.io/headless"));
    assert_eq!(slice.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready, Some(true));
    assert_eq!(slice.ports.as_deref(), Some(&[][..]));
}

#[test]
fn endpoints_hold_ready_and_not_ready_addresses_by_ports() {
    let service = service(json!({}));
    let pods = [pod(2, 80, true, false), pod(1, 80, true, false), pod(3, 80, false, false), pod(4, 80, true, true)];
    let endpoints = subsets::plan(&service, &pods, None).unwrap();
    let value = serde_json::to_value(&endpoints).unwrap();
    let ips = |key: &str| -> Vec<String> {
        let all = value["subsets"][0][key].as_array().unwrap();
        all.iter().map(|address| address["ip"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ips("addresses"), ["10.244.0.1", "10.244.0.2"]);
    assert_eq!(ips("notReadyAddresses"), ["10.244.0.3"]);
    assert_eq!(value["subsets"][0]["ports"], json!([{"name": "http", "port": 80, "protocol": "TCP"}]));
    assert_eq!(subsets::plan(&service, &pods, Some(&endpoints)), None);
}

#[test]
fn a_service_without_pods_has_endpoints_without_subsets() {
    let endpoints = subsets::plan(&service(json!({})), &[], None).unwrap();
    assert_eq!(endpoints.subsets, None);
}
