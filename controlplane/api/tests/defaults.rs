//! What the rules fill in and prepare, as a user would see it.

use pintle_api::kinds;
use serde_json::{Value, json};

fn defaulted(group: &str, version: &str, kind: &str, mut object: Value) -> Value {
    let kind = kinds::by_kind(group, version, kind).expect("a kind of the table");
    kind.hooks.defaults.expect("it has defaults")(&mut object).expect("decodes");
    object
}

fn created(group: &str, version: &str, kind: &str, object: Value) -> Value {
    let hooks = kinds::by_kind(group, version, kind).expect("a kind of the table").hooks;
    let mut object = defaulted(group, version, kind, object);
    let errors = hooks.create.expect("it prepares")(&mut object).expect("decodes");
    assert_eq!(errors, [], "{kind}");
    object
}

fn pod(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "namespace": "b" }, "spec": spec })
}

#[test]
fn a_pod_is_complete() {
    let made = created(
        "",
        "v1",
        "Pod",
        pod(json!({
            "containers": [{
                "name": "web", "image": "nginx",
                "ports": [{ "containerPort": 80 }],
                "env": [{ "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
                "resources": { "limits": { "memory": "1024Mi", "cpu": "0.5" } },
                "livenessProbe": { "httpGet": { "port": 80 } },
            }],
            "volumes": [{ "name": "tmp" }, { "name": "conf", "configMap": { "name": "c" } }],
        })),
    );
    let spec = &made["spec"];
    for (field, value) in [
        ("dnsPolicy", json!("ClusterFirst")),
        ("restartPolicy", json!("Always")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let web = &spec["containers"][0];
    assert_eq!(web["imagePullPolicy"], "Always");
    assert_eq!(web["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(web["terminationMessagePolicy"], "File");
    assert_eq!(web["ports"][0]["protocol"], "TCP");
    assert_eq!(web["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(web["resources"]["requests"], json!({ "memory": "1Gi", "cpu": "500m" }));
    let probe = json!({
        "httpGet": { "port": 80, "path": "/", "scheme": "HTTP" },
        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    });
    assert_eq!(web["livenessProbe"], probe);
    assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(spec["volumes"][1]["configMap"]["defaultMode"], 420);
    assert_eq!(made["status"], json!({ "phase": "Pending", "qosClass": "Guaranteed" }));
}

#[test]
fn match_label_keys_become_selectors() {
    let mut pod = pod(json!({
        "containers": [{ "name": "a", "image": "b:1" }],
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": "web" } }, "matchLabelKeys": ["pod-template-hash", "absent"],
        }],
    }));
    pod["metadata"]["labels"] = json!({ "pod-template-hash": "x" });
    let made = created("", "v1", "Pod", pod);
    let selector = &made["spec"]["topologySpreadConstraints"][0]["labelSelector"];
    let expected = json!([{ "key": "pod-template-hash", "operator": "In", "values": ["x"] }]);
    assert_eq!(selector["matchExpressions"], expected);
}

#[test]
fn the_pull_policy_follows_the_tag() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
    ] {
        let made = defaulted("", "v1", "Pod", pod(json!({ "containers": [{ "name": "a", "image": image }] })));
        assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn quality_of_service_follows_the_resources() {
    for (resources, class) in [
        (json!({}), "BestEffort"),
        (json!({ "requests": { "cpu": "1" } }), "Burstable"),
        (json!({ "limits": { "cpu": "1" } }), "Burstable"),
        (json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "1" } }), "Guaranteed"),
        (json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "0.5" } }), "Burstable"),
    ] {
        let container = json!({ "name": "a", "image": "b:1", "resources": resources });
        let made = created("", "v1", "Pod", pod(json!({ "containers": [container] })));
        assert_eq!(made["status"]["qosClass"], class, "{resources}");
    }
}

#[test]
fn a_deployment_rolls_by_quarters() {
    let template = json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": "nginx:1" }] },
    });
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } }, "template": template });
    let made = created("apps", "v1", "Deployment", json!({ "metadata": { "name": "web" }, "spec": spec }));
    let spec = &made["spec"];
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } });
    assert_eq!(spec["strategy"], rolling);
    assert_eq!((&spec["replicas"], &spec["progressDeadlineSeconds"]), (&json!(1), &json!(600)));
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    // only pods have it: a template that had it would differ from those made before
    assert_eq!(spec["template"]["spec"]["enableServiceLinks"], Value::Null);
}

#[test]
fn a_job_finds_its_pods_by_its_uid() {
    let template = json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "a", "image": "b:1" }] } });
    let job = json!({ "metadata": { "name": "j", "uid": "u" }, "spec": { "template": template } });
    let made = created("batch", "v1", "Job", job);
    let uid = "batch.kubernetes.io/controller-uid";
    assert_eq!(made["spec"]["selector"]["matchLabels"][uid], "u");
    assert_eq!(made["spec"]["template"]["metadata"]["labels"][uid], "u");
    assert_eq!(made["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    assert_eq!((&made["spec"]["completions"], &made["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
}

#[test]
fn a_service_is_internal_unless_told_otherwise() {
    let service = json!({ "metadata": { "name": "web" }, "spec": { "ports": [{ "port": 80 }] } });
    let made = defaulted("", "v1", "Service", service);
    let expected = json!({
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80 }],
    });
    assert_eq!(made["spec"], expected);
}

#[test]
fn a_status_keeps_its_zero_times() {
    let status = json!({ "conditions": [{ "type": "a", "status": "True", "reason": "b", "message": "c",
        "lastTransitionTime": null }], "loadBalancer": {} });
    let service = json!({ "metadata": { "name": "web" }, "spec": { "ports": [{ "port": 80 }] }, "status": status });
    let made = defaulted("", "v1", "Service", service);
    assert_eq!((&made["status"], &made["spec"]["type"]), (&status, &json!("ClusterIP")));
}

#[test]
fn a_namespace_begins_active_and_guarded() {
    let made = created("", "v1", "Namespace", json!({ "metadata": { "name": "a" } }));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["status"]["phase"], "Active");
}

#[test]
fn a_secrets_text_becomes_bytes() {
    let made = defaulted("", "v1", "Secret", json!({ "metadata": { "name": "a" }, "stringData": { "k": "v" } }));
    assert_eq!((&made["data"]["k"], &made["type"]), (&json!("dg=="), &json!("Opaque")));
    assert_eq!(made["stringData"], Value::Null);
}

#[test]
fn defaulting_twice_changes_nothing() {
    for kind in kinds::all() {
        let Some(defaults) = kind.hooks.defaults else { continue };
        let mut once = json!({ "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": { "name": "a" } });
        defaults(&mut once).expect("decodes");
        let mut twice = once.clone();
        defaults(&mut twice).expect("decodes");
        assert_eq!(once, twice, "{}", kind.kind);
    }
}

/// Every GA object of upstream's own test data passes through the typed hooks without losing a field.
#[test]
fn nothing_is_lost_on_the_way_through_the_types() {
    let Some(folder) = std::env::var_os("PINTLE_UPSTREAM") else { return };
    let folder = std::path::Path::new(&folder).join("api-testdata");
    for kind in kinds::all() {
        let Some(defaults) = kind.hooks.defaults else { continue };
        let group = if kind.group.is_empty() { "core" } else { kind.group };
        let file = folder.join(format!("{group}.{}.{}.json", kind.version, kind.kind));
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let mut before: Value = serde_json::from_str(&text).expect("JSON");
        // written as text, kept as bytes
        before.as_object_mut().expect("an object").remove("stringData");
        let mut after = before.clone();
        defaults(&mut after).expect("decodes");
        let mut lost = Vec::new();
        lost_paths(&before, &after, kind.kind.to_owned(), &mut lost);
        assert_eq!(lost, [] as [String; 0]);
    }
}

/// Paths whose value is gone; changed values may be defaults at work, emptiness has two spellings.
fn lost_paths(before: &Value, after: &Value, path: String, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                lost_paths(value, after.get(key).unwrap_or(&Value::Null), format!("{path}.{key}"), lost);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (i, value) in before.iter().enumerate() {
                lost_paths(value, after.get(i).unwrap_or(&Value::Null), format!("{path}[{i}]"), lost);
            }
        }
        (before, Value::Null) if !is_empty(before) => lost.push(path),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
