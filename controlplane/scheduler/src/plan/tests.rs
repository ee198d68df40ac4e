//! Tables of filters and scores, and what holds for any cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as ApiNode, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::node::Node;
use super::*;

/// A node named `name` with 4 cpus, 8 GiB and room for 110 pods; `more` is merged over it.
fn node(name: &str, more: Value) -> Node {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } },
    });
    merge(&mut node, more);
    Node::of(&serde_json::from_value::<ApiNode>(node).unwrap())
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, more) => *into = more,
    }
}

fn pod(name: &str, spec: Value) -> PodInfo {
    labelled(name, json!({}), spec)
}

fn labelled(name: &str, labels: Value, spec: Value) -> PodInfo {
    let mut whole = json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "labels": labels },
        "spec": { "containers": [{ "name": "c" }] },
    });
    merge(&mut whole["spec"], spec);
    PodInfo::of(&serde_json::from_value::<Pod>(whole).unwrap())
}

fn requests(cpu: &str, memory: &str) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu, "memory": memory } } }] })
}

fn on(node: &str, pod: PodInfo) -> Arc<PodInfo> {
    Arc::new(PodInfo { node: Some(node.to_owned()), ..pod })
}

fn table(nodes: Vec<Node>, pods: Vec<Arc<PodInfo>>) -> Table {
    let mut table = Table::default();
    nodes.into_iter().for_each(|node| table.put_node(node));
    pods.into_iter().for_each(|pod| table.put_pod(pod));
    table
}

fn message(pod: &PodInfo, table: &Table) -> String {
    match schedule(pod, table, 0) {
        Decision::Node(node) => format!("on {node}"),
        Decision::Unschedulable(why) => match preempt::plan(pod, &mut table.clone(), &[], &why, 0) {
            preempt::Outcome::Preempt(victims) => panic!("{victims:?}"),
            preempt::Outcome::Nobody { why: nobody, .. } => why.message(&nobody),
        },
    }
}

const NOBODY: &str = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
const NOT_HELPFUL: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

/// The one node, with these pods on it, turns `pod` down with these words.
fn turned_down(node: Node, pods: Vec<Arc<PodInfo>>, pod: &PodInfo, reasons: &str, preemption: &str) {
    let expected = format!("0/1 nodes are available: {reasons}. {preemption}");
    assert_eq!(message(pod, &table(vec![node], pods)), expected);
}

fn full() -> Vec<Arc<PodInfo>> {
    vec![on("n", pod("x", requests("3", "1Gi")))]
}

#[test]
fn a_node_without_room_says_what_is_short() {
    let plain = || node("n", json!({}));
    let small = node("n", json!({ "status": { "allocatable": { "pods": "1" } } }));
    let both = "1 Insufficient cpu, 1 Insufficient memory";
    turned_down(plain(), full(), &pod("p", requests("2", "1Gi")), "1 Insufficient cpu", NOBODY);
    turned_down(plain(), full(), &pod("p", requests("2", "7.5Gi")), both, NOBODY);
    turned_down(plain(), vec![], &pod("p", requests("5", "1")), "1 Insufficient cpu", NOT_HELPFUL);
    turned_down(small, full(), &pod("p", json!({})), "1 Too many pods", NOBODY);
    assert_eq!(message(&pod("p", json!({})), &Table::default()), "no nodes available to schedule pods");
}

#[test]
fn a_node_that_will_not_do_says_why() {
    let plain = pod("p", json!({}));
    let cordoned = node("n", json!({ "spec": { "unschedulable": true } }));
    let taint = json!({ "spec": { "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] } });
    let selects = pod("p", json!({ "nodeSelector": { "disk": "ssd" } }));
    let port =
        || pod("p", json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 80 }] }] }));
    let taken = vec![on("n", PodInfo { uid: "other".to_owned(), ..port() })];
    turned_down(cordoned, vec![], &plain, "1 node(s) were unschedulable", NOT_HELPFUL);
    turned_down(node("n", taint), vec![], &plain, "1 node(s) had untolerated taint(s)", NOT_HELPFUL);
    let affinity = "1 node(s) didn't match Pod's node affinity/selector";
    turned_down(node("n", json!({})), vec![], &selects, affinity, NOT_HELPFUL);
    let ports = "1 node(s) didn't have free ports for the requested pod ports";
    turned_down(node("n", json!({})), taken, &port(), ports, NOBODY);
}

#[test]
fn a_node_with_the_wrong_company_says_which_rule() {
    let term = |app: &str| {
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": [
            { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": app } } },
        ] })
    };
    let apart = || json!({ "affinity": { "podAntiAffinity": term("a") } });
    let near = pod("p", json!({ "affinity": { "podAffinity": term("b") } }));
    let spread = pod(
        "p",
        json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {} }] }),
    );
    let a = || labelled("a", json!({ "app": "a" }), json!({}));
    let plain = || node("n", json!({}));
    let anti = "1 node(s) didn't match pod anti-affinity rules";
    turned_down(plain(), vec![on("n", a())], &pod("p", apart()), anti, NOBODY);
    let existing = "1 node(s) didn't satisfy existing pods anti-affinity rules";
    turned_down(plain(), vec![on("n", pod("x", apart()))], &a(), existing, NOBODY);
    turned_down(plain(), vec![], &near, "1 node(s) didn't match pod affinity rules", NOT_HELPFUL);
    let label = "1 node(s) didn't match pod topology spread constraints (missing required label)";
    turned_down(plain(), vec![], &spread, label, NOT_HELPFUL);
}

#[test]
fn what_a_pod_asks_for_or_tolerates_lets_it_in() {
    let taint = json!({ "spec": { "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] } });
    let disk = json!({ "metadata": { "labels": { "disk": "ssd", "size": "10" } } });
    let terms = |expression: Value| {
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } } } })
    };
    let by_name = json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] }] } } } });
    let near_itself = json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "a" } } },
    ] } } });
    let cases = [
        (taint.clone(), pod("p", json!({ "tolerations": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] }))),
        (taint.clone(), pod("p", json!({ "tolerations": [{ "key": "k", "operator": "Exists" }] }))),
        (taint, pod("p", json!({ "tolerations": [{ "operator": "Exists" }] }))),
        (disk.clone(), pod("p", json!({ "nodeSelector": { "disk": "ssd" } }))),
        (disk.clone(), pod("p", terms(json!({ "key": "disk", "operator": "NotIn", "values": ["hdd"] })))),
        (disk, pod("p", terms(json!({ "key": "size", "operator": "Gt", "values": ["9"] })))),
        (json!({}), pod("p", by_name)),
        (json!({}), labelled("p", json!({ "app": "a" }), near_itself)),
    ];
    for (more, pod) in cases {
        assert_eq!(message(&pod, &table(vec![node("n", more)], vec![])), "on n");
    }
}

#[test]
fn a_pod_needs_the_larger_of_its_starts_and_its_run() {
    let container = |cpu: &str| json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
    let sidecar =
        |cpu: &str| json!({ "name": "c", "restartPolicy": "Always", "resources": { "requests": { "cpu": cpu } } });
    let cases = [
        (json!({ "containers": [container("1"), container("500m")] }), 1500),
        (json!({ "containers": [container("1")], "initContainers": [container("3"), container("2")] }), 3000),
        (json!({ "containers": [container("1")], "initContainers": [sidecar("1"), container("2")] }), 3000),
        (json!({ "containers": [container("1")], "initContainers": [container("1500m"), sidecar("1")] }), 2000),
        (json!({ "containers": [container("1")], "overhead": { "cpu": "250m" } }), 1250),
        (json!({ "containers": [container("1")], "resources": { "requests": { "cpu": "2" } } }), 2000),
    ];
    for (spec, expected) in cases {
        assert_eq!(pod("p", spec.clone()).requests.get("cpu"), Some(&expected), "{spec}");
    }
}

fn scores_of(score: Score, pod: &PodInfo, table: &Table) -> Option<Vec<i64>> {
    score(&Cycle::new(pod, table), &table.nodes().iter().collect::<Vec<_>>())
}

#[test]
fn scores_are_upstreams() {
    let soft = json!({ "spec": { "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] } });
    let two = |more: Value| vec![node("a", json!({})), node("b", more)];
    let busy = vec![on("b", pod("x", requests("2", "2Gi")))];
    let ask = pod("p", requests("1", "2Gi"));
    let table_of = |more| table(two(more), busy.clone());
    // a: (3/4 + 6/8) / 2; b: (1/4 + 4/8) / 2
    assert_eq!(scores_of(fit::least_allocated, &ask, &table_of(json!({}))), Some(vec![75, 37]));
    // a: 25 % and 25 %, as before; b: 75 % and 50 % after 50 % and 25 %
    assert_eq!(scores_of(fit::balanced_allocation, &ask, &table_of(json!({}))), Some(vec![75, 75]));
    assert_eq!(scores_of(node_checks::prefer_taints, &ask, &table_of(soft)), Some(vec![100, 0]));
    let preferred = json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 20, "preference": { "matchExpressions": [{ "key": "x", "operator": "Exists" }] } } ] } } });
    let labelled_node = json!({ "metadata": { "labels": { "x": "" } } });
    assert_eq!(scores_of(affinity::score, &pod("p", preferred), &table_of(labelled_node)), Some(vec![0, 100]));
    let image = json!({ "status": { "images": [{ "names": ["web:latest"], "sizeBytes": 1_048_576_000 }] } });
    let web = pod("p", json!({ "containers": [{ "name": "c", "image": "web" }] }));
    // half of the size counts, since half of the nodes have it: (500 - 23) / (1000 - 23)
    assert_eq!(scores_of(image::score, &web, &table_of(image)), Some(vec![0, 48]));
}

#[test]
fn replicas_go_where_fewer_of_them_are() {
    let owned = |name: &str| PodInfo { owner: Some("rs".to_owned()), ..pod(name, json!({})) };
    let table = table(vec![node("a", json!({})), node("b", json!({}))], vec![on("a", owned("x"))]);
    assert_eq!(schedule(&owned("p"), &table, 0), Decision::Node("b".to_owned()));
    let scores = scores_of(spread::score, &owned("p"), &table).unwrap();
    assert!(scores[1] > scores[0], "{scores:?}");
}

#[test]
fn preferences_among_pods_pull_and_push() {
    let prefer = |kind: &str| {
        json!({ "affinity": { kind: { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 10,
            "podAffinityTerm": { "topologyKey": "kubernetes.io/hostname",
                "labelSelector": { "matchLabels": { "app": "a" } } } }] } } })
    };
    let there = on("b", labelled("x", json!({ "app": "a" }), json!({})));
    let table = table(vec![node("a", json!({})), node("b", json!({}))], vec![there]);
    assert_eq!(scores_of(inter_pod::score, &pod("p", prefer("podAffinity")), &table), Some(vec![0, 100]));
    assert_eq!(scores_of(inter_pod::score, &pod("p", prefer("podAntiAffinity")), &table), Some(vec![100, 0]));
}

proptest! {
    /// Whatever the cluster: a pod is put only where there is room, so that assuming it overfills nothing; and the
    /// table's sums are those of its pods.
    #[test]
    fn no_node_is_ever_overfilled(
        pods in prop::collection::vec((1i64..2500, 1i64..4096, any::<bool>()), 1..60),
        nodes in 1usize..5,
    ) {
        let nodes = (0..nodes).map(|n| node(&format!("n{n}"), json!({}))).collect();
        let mut table = table(nodes, vec![]);
        for (turn, (cpu, memory, goes)) in pods.into_iter().enumerate() {
            let name = format!("p{turn}");
            let pod = pod(&name, requests(&format!("{cpu}m"), &format!("{memory}Mi")));
            match schedule(&pod, &table, turn) {
                Decision::Node(name) => table.put_pod(on(&name, pod)),
                Decision::Unschedulable(why) => {
                    prop_assert!(why.plugins().contains("NodeResourcesFit"));
                    let room = |node: &Node| node.requested.get("cpu").copied().unwrap_or_default() + cpu <= 4000
                        && node.requested.get("memory").copied().unwrap_or_default() + (memory << 20) <= 8 << 30;
                    prop_assert!(!table.nodes().iter().any(room));
                }
            }
            if goes {
                table.remove_pod(&format!("p{}", turn / 2));
            }
            for node in table.nodes() {
                let sum: i64 = node.pods.values().filter_map(|pod| pod.requests.get("cpu")).sum();
                prop_assert_eq!(node.requested.get("cpu").copied().unwrap_or_default(), sum);
                prop_assert!(sum <= 4000);
            }
        }
    }
}

/// A pod of this priority that takes so much cpu, and has run since then.
fn ranked(name: &str, priority: i32, cpu: &str, started: &str) -> PodInfo {
    let mut whole = json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "labels": { "app": name } },
        "spec": { "priority": priority, "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
    });
    if !started.is_empty() {
        whole["status"] = json!({ "startTime": started });
    }
    PodInfo::of(&serde_json::from_value::<Pod>(whole).unwrap())
}

/// Where somebody is preempted for `pod`, and who.
fn preempted(pod: &PodInfo, table: &Table, budgets: &[preempt::Budget]) -> Option<(String, Vec<String>)> {
    let Decision::Unschedulable(why) = schedule(pod, table, 0) else { return None };
    let mut after = table.clone();
    let outcome = preempt::plan(pod, &mut after, budgets, &why, 0);
    let pods = |table: &Table| -> Vec<Vec<String>> {
        table.nodes().iter().map(|node| node.pods.keys().cloned().collect()).collect()
    };
    assert_eq!(pods(&after), pods(table), "the table is as it was");
    match outcome {
        preempt::Outcome::Preempt(victims) => {
            Some((victims.node, victims.pods.iter().map(|pod| pod.name.clone()).collect()))
        }
        preempt::Outcome::Nobody { .. } => None,
    }
}

#[test]
fn only_who_must_goes_and_the_least_important_first() {
    let early = "2026-01-01T00:00:00Z";
    let pods = vec![
        on("n", ranked("a", 1, "1", early)),
        on("n", ranked("b", 2, "1", early)),
        on("n", ranked("c", 1, "1", "2026-01-02T00:00:00Z")),
        on("n", ranked("d", 9, "1", early)),
    ];
    let table = table(vec![node("n", json!({}))], pods);
    assert_eq!(preempted(&ranked("p", 5, "1", ""), &table, &[]), Some(("n".into(), vec!["c".into()])));
    assert_eq!(preempted(&ranked("p", 5, "2", ""), &table, &[]), Some(("n".into(), vec!["a".into(), "c".into()])));
    assert_eq!(preempted(&ranked("p", 5, "4", ""), &table, &[]), None, "d may stay");
    assert_eq!(preempted(&ranked("p", 1, "1", ""), &table, &[]), None, "nobody has less priority");
}

#[test]
fn the_node_is_taken_where_the_least_is_lost() {
    let nodes = ["x", "y", "z"].map(|name| node(name, json!({}))).into_iter().collect();
    let pods = vec![
        on("x", ranked("a", 3, "4", "")),
        on("y", ranked("b", 2, "2", "")),
        on("y", ranked("c", 2, "2", "")),
        on("z", ranked("d", 2, "4", "")),
    ];
    let table = table(nodes, pods);
    assert_eq!(preempted(&ranked("p", 5, "4", ""), &table, &[]), Some(("z".into(), vec!["d".into()])));
}

#[test]
fn who_a_budget_protects_goes_last() {
    let budget = |app: &str, allowed: i32| -> preempt::Budget {
        let whole = json!({ "metadata": { "namespace": "ns" }, "spec": { "selector": { "matchLabels": { "app": app } } },
            "status": { "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1 } });
        preempt::Budget::of(&serde_json::from_value(whole).unwrap())
    };
    let nodes = ["x", "y"].map(|name| node(name, json!({}))).into_iter().collect();
    let table = table(nodes, vec![on("x", ranked("a", 1, "4", "")), on("y", ranked("b", 2, "4", ""))]);
    let pod = ranked("p", 5, "4", "");
    assert_eq!(preempted(&pod, &table, &[budget("a", 0)]), Some(("y".into(), vec!["b".into()])));
    assert_eq!(preempted(&pod, &table, &[budget("a", 1)]), Some(("x".into(), vec!["a".into()])));
    assert_eq!(preempted(&pod, &table, &[budget("a", 0), budget("b", 0)]), Some(("x".into(), vec!["a".into()])));
}

#[test]
fn who_was_promised_a_node_waits_for_those_who_leave_it() {
    let leaving = PodInfo { terminating: true, ..ranked("a", 1, "4", "") };
    let mut table = table(vec![node("n", json!({}))], vec![on("n", leaving)]);
    let pod = PodInfo { nominated: Some("n".to_owned()), ..ranked("p", 5, "4", "") };
    let Decision::Unschedulable(why) = schedule(&pod, &table, 0) else { panic!("there is no room yet") };
    let why_not = "not eligible due to a terminating pod on the nominated node.".to_owned();
    let outcome = preempt::plan(&pod, &mut table, &[], &why, 0);
    assert_eq!(outcome, preempt::Outcome::Nobody { why: why_not, waits: true });
}
