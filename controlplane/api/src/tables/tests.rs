//! Objects and the rows that upstream prints for them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::kinds;

/// `n` seconds before the tests' now.
fn before(n: i64) -> String {
    (now() - jiff::SignedDuration::from_secs(n)).to_string()
}

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("a time")
}

/// The cells of one object as one line; `|` between columns.
fn line(group: &str, version: &str, plural: &str, item: Value) -> String {
    let kind = kinds::find(group, version, plural).expect("a kind of the table");
    let table = render(kind, &[&item], json!({}), now(), Include::None);
    let cells = table["rows"][0]["cells"].as_array().expect("cells").clone();
    let columns = table["columnDefinitions"].as_array().expect("columns").len();
    assert_eq!(cells.len(), columns, "as many cells as columns");
    cells.iter().map(text::plain).collect::<Vec<_>>().join("|")
}

fn metadata(name: &str) -> Value {
    json!({ "name": name, "creationTimestamp": before(200) })
}

fn pod(spec: Value, status: Value) -> String {
    line("", "v1", "pods", json!({ "kind": "Pod", "metadata": metadata("a"), "spec": spec, "status": status }))
}

fn container(state: Value, ready: bool) -> Value {
    json!({ "name": "c", "state": state, "ready": ready, "restartCount": 0 })
}

#[test]
fn durations_have_two_figures() {
    for (seconds, text) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11400, "3h10m"),
        (8 * 3600, "8h"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ] {
        assert_eq!(text::human_duration(seconds), text, "{seconds}");
    }
}

#[test]
fn a_running_pod() {
    let spec = json!({ "containers": [{ "name": "c" }], "nodeName": "n" });
    let running = container(json!({ "running": {} }), true);
    let status = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }], "containerStatuses": [running] });
    assert_eq!(pod(spec, status), "a|1/1|Running|0|3m20s|10.0.0.1|n|<none>|<none>");
}

#[test]
fn pods_say_what_they_wait_for() {
    let spec = json!({ "containers": [{ "name": "c" }] });
    let status = |state: Value| json!({ "phase": "Pending", "containerStatuses": [container(state, false)] });
    for (state, reason) in [
        (json!({ "waiting": { "reason": "ContainerCreating" } }), "ContainerCreating"),
        (json!({ "waiting": { "reason": "CrashLoopBackOff" } }), "CrashLoopBackOff"),
        (json!({ "terminated": { "reason": "Completed", "exitCode": 0 } }), "Completed"),
        (json!({ "terminated": { "reason": "Error", "exitCode": 1 } }), "Error"),
        (json!({ "terminated": { "exitCode": 3 } }), "ExitCode:3"),
        (json!({ "terminated": { "exitCode": 137, "signal": 9 } }), "Signal:9"),
    ] {
        let line = pod(spec.clone(), status(state));
        assert_eq!(line, format!("a|0/1|{reason}|0|3m20s|<none>|<none>|<none>|<none>"));
    }
}

#[test]
fn restarts_say_when() {
    let spec = json!({ "containers": [{ "name": "c" }] });
    let mut status = container(json!({ "running": {} }), true);
    status["restartCount"] = json!(3);
    status["lastState"] = json!({ "terminated": { "finishedAt": before(5) } });
    let line = pod(spec, json!({ "phase": "Running", "containerStatuses": [status] }));
    assert_eq!(line, "a|1/1|Running|3 (5s ago)|3m20s|<none>|<none>|<none>|<none>");
}

#[test]
fn init_containers_come_first() {
    let spec = json!({ "containers": [{ "name": "c" }], "initContainers": [{ "name": "i" }, { "name": "j" }] });
    let done = container(json!({ "terminated": { "exitCode": 0 } }), true);
    for (second, reason) in [
        (json!({ "running": {} }), "Init:1/2"),
        (json!({ "waiting": { "reason": "PodInitializing" } }), "Init:1/2"),
        (json!({ "waiting": { "reason": "CrashLoopBackOff" } }), "Init:CrashLoopBackOff"),
        (json!({ "terminated": { "reason": "Error", "exitCode": 1 } }), "Init:Error"),
    ] {
        let status = json!({
            "phase": "Pending",
            "initContainerStatuses": [done, container(second, false)],
            "containerStatuses": [container(json!({ "waiting": { "reason": "PodInitializing" } }), false)],
        });
        assert!(pod(spec.clone(), status).starts_with(&format!("a|0/1|{reason}|0|")), "{reason}");
    }
}

#[test]
fn a_deleted_pod_is_terminating() {
    let mut metadata = metadata("a");
    metadata["deletionTimestamp"] = json!(before(1));
    let item =
        json!({ "kind": "Pod", "metadata": metadata, "spec": { "containers": [] }, "status": { "phase": "Running" } });
    assert!(line("", "v1", "pods", item).starts_with("a|0/0|Terminating|0|"));
}

#[test]
fn finished_pods_are_marked() {
    let item = json!({ "kind": "Pod", "metadata": metadata("a"), "status": { "phase": "Succeeded" } });
    let kind = kinds::find("", "v1", "pods").expect("pods");
    let table = render(kind, &[&item], json!({}), now(), Include::Metadata);
    assert_eq!(table["rows"][0]["conditions"][0]["type"], "Completed");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

fn template() -> Value {
    json!({ "spec": { "containers": [{ "name": "web", "image": "nginx:1" }, { "name": "log", "image": "fluent" }] } })
}

#[test]
fn workloads() {
    let selector = json!({ "matchLabels": { "app": "web" } });
    let spec = json!({ "replicas": 3, "selector": selector, "template": template() });
    let status = json!({ "replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1 });
    let item = json!({ "metadata": metadata("web"), "spec": spec, "status": status });
    for (plural, expected) in [
        ("deployments", "web|2/3|3|1|3m20s|web,log|nginx:1,fluent|app=web"),
        ("replicasets", "web|3|3|2|3m20s|web,log|nginx:1,fluent|app=web"),
        ("statefulsets", "web|2/3|3m20s|web,log|nginx:1,fluent"),
        ("daemonsets", "web|0|0|0|0|0|<none>|3m20s|web,log|nginx:1,fluent|app=web"),
    ] {
        assert_eq!(line("apps", "v1", plural, item.clone()), expected);
    }
}

#[test]
fn jobs() {
    let spec = json!({ "completions": 2, "template": template(), "selector": { "matchLabels": { "a": "b" } } });
    let running = json!({ "succeeded": 1, "startTime": before(60) });
    let mut item = json!({ "metadata": metadata("j"), "spec": spec, "status": running });
    assert_eq!(line("batch", "v1", "jobs", item.clone()), "j|Running|1/2|60s|3m20s|web,log|nginx:1,fluent|a=b");
    item["status"]["completionTime"] = json!(before(20));
    item["status"]["conditions"] = json!([{ "type": "Complete", "status": "True" }]);
    assert!(line("batch", "v1", "jobs", item).starts_with("j|Complete|1/2|40s|"));
    let cron = json!({ "metadata": metadata("c"), "spec": {
        "schedule": "* * * * *", "suspend": false, "jobTemplate": { "spec": { "template": template() } } } });
    let expected = "c|* * * * *|<none>|False|0|<none>|3m20s|web,log|nginx:1,fluent|<none>";
    assert_eq!(line("batch", "v1", "cronjobs", cron), expected);
}

#[test]
fn services() {
    let ports = json!([{ "port": 80, "protocol": "TCP", "nodePort": 30080 }, { "port": 53, "protocol": "UDP" }]);
    let service = |type_: &str, status: Value| {
        let spec = json!({ "type": type_, "clusterIPs": ["10.96.0.5"], "ports": ports, "selector": { "a": "b" } });
        line("", "v1", "services", json!({ "metadata": metadata("s"), "spec": spec, "status": status }))
    };
    let tail = "80:30080/TCP,53/UDP|3m20s|a=b";
    assert_eq!(service("NodePort", json!({})), format!("s|NodePort|10.96.0.5|<none>|{tail}"));
    assert_eq!(service("LoadBalancer", json!({})), format!("s|LoadBalancer|10.96.0.5|<pending>|{tail}"));
    let balanced = json!({ "loadBalancer": { "ingress": [{ "ip": "1.2.3.4" }] } });
    assert_eq!(service("LoadBalancer", balanced), format!("s|LoadBalancer|10.96.0.5|1.2.3.4|{tail}"));
}

#[test]
fn endpoints_show_three() {
    let addresses: Vec<Value> = (1..=5).map(|i| json!({ "ip": format!("10.0.0.{i}") })).collect();
    let subsets = json!([{ "addresses": addresses, "ports": [{ "port": 80 }] }]);
    let item = json!({ "metadata": metadata("e"), "subsets": subsets });
    let expected = "e|10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...|3m20s";
    assert_eq!(line("", "v1", "endpoints", item), expected);
    let slice = json!({ "metadata": metadata("e"), "addressType": "IPv4", "endpoints": [] });
    assert_eq!(line("discovery.k8s.io", "v1", "endpointslices", slice), "e|IPv4|<unset>|<unset>|3m20s");
}

#[test]
fn nodes() {
    let mut metadata = metadata("n");
    metadata["labels"] = json!({ "node-role.kubernetes.io/control-plane": "" });
    let status = json!({
        "conditions": [{ "type": "Ready", "status": "True" }],
        "addresses": [{ "type": "InternalIP", "address": "10.0.0.9" }],
        "nodeInfo": { "kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64" },
    });
    let item = json!({ "metadata": metadata, "spec": { "unschedulable": true }, "status": status });
    let expected =
        "n|Ready,SchedulingDisabled|control-plane|3m20s|v1.36.0|10.0.0.9|<none>|Debian|6.1 (amd64)|<unknown>";
    assert_eq!(line("", "v1", "nodes", item), expected);
}

#[test]
fn events_of_both_groups() {
    let old = json!({
        "metadata": metadata("e"), "type": "Normal", "reason": "Pulled", "message": "Pulled image\n",
        "involvedObject": { "kind": "Pod", "name": "a", "fieldPath": "spec.containers{c}" },
        "source": { "component": "kubelet", "host": "n" },
        "firstTimestamp": before(100), "lastTimestamp": before(10), "count": 4,
    });
    let expected = "10s|Normal|Pulled|pod/a|spec.containers{c}|kubelet, n|Pulled image|100s|4|e";
    assert_eq!(line("", "v1", "events", old), expected);
    let new = json!({
        "metadata": metadata("e"), "type": "Normal", "reason": "Scheduled", "note": "done", "eventTime": before(7),
        "regarding": { "kind": "Pod", "name": "a" }, "reportingController": "default-scheduler",
    });
    assert_eq!(line("events.k8s.io", "v1", "events", new), "7s|Normal|Scheduled|pod/a||default-scheduler|done|7s|1|e");
}

#[test]
fn kinds_without_columns_show_when_they_were_made() {
    let item = json!({ "metadata": { "name": "r", "creationTimestamp": "2026-01-01T00:00:00Z" } });
    assert_eq!(line("rbac.authorization.k8s.io", "v1", "roles", item), "r|2026-01-01T00:00:00Z");
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for kind in kinds::all().iter().filter(|kind| kind.stored()) {
        line(kind.group, kind.version, kind.plural, json!({ "metadata": metadata("x") }));
    }
}
