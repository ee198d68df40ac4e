//! What is refused, and in which words: upstream's paths and messages.

use pintle_api::kinds::{self, Kind};
use pintle_api::validation::meta;
use serde_json::{Value, json};

fn kind(group: &str, version: &str, name: &str) -> &'static Kind {
    kinds::by_kind(group, version, name).expect("a kind of the table")
}

fn defaulted(kind: &Kind, mut object: Value) -> Value {
    if let Some(defaults) = kind.hooks.defaults {
        defaults(&mut object).expect("decodes");
    }
    object
}

fn refused(kind: &Kind, object: Value) -> Vec<String> {
    let mut object = defaulted(kind, object);
    let errors = kind.hooks.create.expect("it validates")(&mut object).expect("decodes");
    errors.iter().map(ToString::to_string).collect()
}

fn refused_update(kind: &Kind, old: Value, new: Value) -> Vec<String> {
    let (old, mut new) = (defaulted(kind, old), defaulted(kind, new));
    let errors = kind.hooks.update.expect("it validates")(&mut new, &old, "").expect("decodes");
    errors.iter().map(ToString::to_string).collect()
}

fn pod(spec: Value) -> Vec<String> {
    refused(kind("", "v1", "Pod"), json!({ "metadata": { "name": "a", "namespace": "b" }, "spec": spec }))
}

fn nothing() -> [String; 0] {
    []
}

#[test]
fn a_plain_pod_is_fine() {
    let volumes = json!([{ "name": "v", "configMap": { "name": "c" } }]);
    let container = json!({
        "name": "c", "image": "i", "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        "readinessProbe": { "httpGet": { "port": "http" } }, "ports": [{ "containerPort": 80, "name": "http" }],
        "resources": { "requests": { "cpu": "100m" }, "limits": { "cpu": "1", "example.com/gpu": "1" } },
    });
    assert_eq!(pod(json!({ "containers": [container], "volumes": volumes })), nothing());
}

#[test]
fn policies_of_a_pods_security_are_known_ones() {
    let of = |context: Value| {
        let containers = json!([{ "name": "c", "image": "i" }]);
        pod(json!({ "containers": containers, "securityContext": context }))
    };
    let fine = json!({ "supplementalGroupsPolicy": "Strict", "seLinuxChangePolicy": "Recursive" });
    assert_eq!(of(fine), nothing());
    assert_eq!(
        of(json!({ "supplementalGroupsPolicy": "All", "seLinuxChangePolicy": "MountOption" })),
        [
            "spec.securityContext.supplementalGroupsPolicy: Unsupported value: \"All\": supported values: \"Merge\", \
             \"Strict\"",
            "spec.securityContext.seLinuxChangePolicy: Unsupported value: \"MountOption\": supported values: \
             \"Recursive\"",
        ]
    );
}

#[test]
fn pods_need_sound_containers() {
    for (container, error) in [
        (json!({ "name": "c" }), "spec.containers[0].image: Required value"),
        (
            json!({ "name": "c", "image": "i", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({ "name": "c", "image": "i", "imagePullPolicy": "Sometimes" }),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
             \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({ "name": "c", "image": "i", "ports": [{ "containerPort": 70000 }] }),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({ "name": "c", "image": "i", "livenessProbe": { "periodSeconds": 5 } }),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({ "name": "c", "image": "i", "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "1" } } }),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({ "name": "c", "image": "i", "env": [{ "name": "A", "value": "x", "valueFrom":
                { "secretKeyRef": { "name": "s", "key": "k" } } }] }),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
    ] {
        assert_eq!(pod(json!({ "containers": [container] })), [error]);
    }
    assert_eq!(pod(json!({ "containers": [] })), ["spec.containers: Required value"]);
    let twice = json!([{ "name": "c", "image": "i" }, { "name": "c", "image": "i" }]);
    assert_eq!(pod(json!({ "containers": twice })), ["spec.containers[1].name: Duplicate value: \"c\""]);
}

#[test]
fn pods_hardly_change() {
    let pods = kind("", "v1", "Pod");
    let object = |image: &str, node: &str| {
        let spec = json!({ "containers": [{ "name": "c", "image": image }], "nodeName": node });
        json!({ "metadata": { "name": "a" }, "spec": spec })
    };
    assert_eq!(refused_update(pods, object("i:1", "n"), object("i:2", "n")), nothing());
    let errors = refused_update(pods, object("i:1", "n"), object("i:1", "m"));
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(
        error.starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`")
    );
    assert!(error.ends_with("- nodeName: \"n\"\n+ nodeName: \"m\""), "{error}");
}

fn deployment(labels: Value) -> Value {
    let template = json!({
        "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    });
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } }, "template": template });
    json!({ "metadata": { "name": "web" }, "spec": spec })
}

#[test]
fn a_selector_matches_its_template_and_stays() {
    let kind = kind("apps", "v1", "Deployment");
    assert_eq!(refused(kind, deployment(json!({ "app": "web" }))), nothing());
    let error = "spec.template.metadata.labels: Invalid value: {\"app\":\"api\"}: `selector` does not match template \
                 `labels`";
    assert_eq!(refused(kind, deployment(json!({ "app": "api" }))), [error]);
    let old = deployment(json!({ "app": "web" }));
    let mut new = deployment(json!({ "app": "web", "tier": "x" }));
    new["spec"]["selector"]["matchLabels"]["tier"] = json!("x");
    let errors = refused_update(kind, old, new);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("spec.selector: Invalid value: ") && errors[0].ends_with(": field is immutable"));
}

#[test]
fn jobs_end() {
    let template = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let job = json!({ "metadata": { "name": "j", "uid": "u" }, "spec": { "template": template } });
    let error = "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"";
    assert_eq!(refused(kind("batch", "v1", "Job"), job), [error]);
}

#[test]
fn sysctls_have_names_that_the_kernel_could_have() {
    let pod = |names: &[&str]| {
        let sysctls: Vec<Value> = names.iter().map(|name| json!({ "name": name, "value": "1" })).collect();
        let spec = json!({ "securityContext": { "sysctls": sysctls }, "hostNetwork": true, "restartPolicy": "Never",
            "dnsPolicy": "Default", "containers": [{ "name": "c", "image": "i", "imagePullPolicy": "Never",
            "terminationMessagePolicy": "File" }] });
        json!({ "metadata": { "name": "p" }, "spec": spec })
    };
    let errors = refused(kind("", "v1", "Pod"), pod(&["foo-", "kernel.shmmax", "net.ipv4.ip_forward", "bar.."]));
    let bad: Vec<&str> = errors.iter().filter_map(|error| error.split('"').nth(1)).collect();
    assert_eq!(bad, ["foo-", "net.ipv4.ip_forward", "bar.."], "{errors:?}");
}

#[test]
fn services_need_ports() {
    let kind = kind("", "v1", "Service");
    let service = |spec: Value| json!({ "metadata": { "name": "s" }, "spec": spec });
    assert_eq!(refused(kind, service(json!({}))), ["spec.ports: Required value"]);
    assert_eq!(refused(kind, service(json!({ "clusterIP": "None" }))), nothing());
    let two = json!({ "ports": [{ "port": 80 }, { "port": 81, "name": "b" }] });
    assert_eq!(refused(kind, service(two)), ["spec.ports[0].name: Required value"]);
    let old = service(json!({ "ports": [{ "port": 80 }], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"] }));
    let new = service(json!({ "ports": [{ "port": 80 }], "clusterIP": "10.0.0.2" }));
    let error = "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set";
    assert_eq!(refused_update(kind, old.clone(), new), [error]);
    let replaced = service(json!({ "ports": [{ "port": 81 }] }));
    assert_eq!(refused_update(kind, old, replaced), nothing(), "a client may leave the address out");
}

#[test]
fn frozen_maps_stay() {
    let kind = kind("", "v1", "ConfigMap");
    let map = |value: &str| json!({ "metadata": { "name": "m" }, "immutable": true, "data": { "k": value } });
    let error = "data: Forbidden: field is immutable when `immutable` is set";
    assert_eq!(refused_update(kind, map("a"), map("b")), [error]);
    let errors = refused(kind, json!({ "metadata": { "name": "m" }, "data": { "a/b": "" } }));
    assert!(errors[0].starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key must consist of"));
}

#[test]
fn bindings_name_a_role() {
    let kind = kind("rbac.authorization.k8s.io", "v1", "RoleBinding");
    let role = json!({ "kind": "Role", "name": "r" });
    let binding = |subjects: Value| json!({ "metadata": { "name": "b" }, "roleRef": role, "subjects": subjects });
    assert_eq!(refused(kind, binding(json!([{ "kind": "User", "name": "u" }]))), nothing());
    let error = "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \
                 \"Group\"";
    assert_eq!(refused(kind, binding(json!([{ "kind": "Robot", "name": "u" }]))), [error]);
}

#[test]
fn metadata_of_every_kind() {
    let messages = |kind: &Kind, metadata: Value| -> Vec<String> {
        meta::meta(kind, &json!({ "metadata": metadata })).iter().map(ToString::to_string).collect()
    };
    let pods = kind("", "v1", "Pod");
    assert_eq!(messages(pods, json!({ "name": "a.b", "namespace": "ns" })), nothing());
    assert_eq!(
        messages(pods, json!({ "namespace": "ns" })),
        ["metadata.name: Required value: name or generateName is required"]
    );
    assert!(
        messages(pods, json!({ "name": "A", "namespace": "ns" }))[0]
            .starts_with("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of")
    );
    let nodes = kind("", "v1", "Node");
    let error = "metadata.namespace: Forbidden: not allowed on this type";
    assert_eq!(messages(nodes, json!({ "name": "n", "namespace": "ns" })), [error]);
    let namespaces = kind("", "v1", "Namespace");
    assert_eq!(
        messages(namespaces, json!({ "name": "a.b" })),
        ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
    );
    let labels = messages(pods, json!({ "name": "a", "namespace": "ns", "labels": { "k": "-" } }));
    assert!(labels[0].starts_with("metadata.labels: Invalid value: \"-\": a valid label must be an empty string"));
    assert_eq!(messages(pods, json!({ "name": "a-x", "generateName": "a-", "namespace": "ns" })), nothing());
}

#[test]
fn metadata_hardly_changes() {
    let old = json!({ "metadata": { "name": "a", "uid": "1", "resourceVersion": "5" } });
    let new = json!({ "metadata": { "name": "a", "uid": "2", "resourceVersion": "5" } });
    let errors: Vec<String> = meta::meta_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["metadata.uid: Invalid value: \"2\": field is immutable"]);
    assert_eq!(meta::meta_update(&old, &old), []);
}

#[test]
fn webhooks_say_whom_to_call() {
    let kind = kind("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration");
    let webhook = |name: &str, client: Value| {
        let rule = json!({ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"] });
        json!({ "metadata": { "name": "w" }, "webhooks": [{
            "name": name, "clientConfig": client, "rules": [rule], "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }] })
    };
    let service = json!({ "service": { "name": "s", "namespace": "n" } });
    assert_eq!(refused(kind, webhook("a.b.example", service.clone())), nothing());
    let error = "webhooks[0].clientConfig: Required value: exactly one of url or service is required";
    assert_eq!(refused(kind, webhook("a.b.example", json!({}))), [error]);
    let error = "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by \
                 dots";
    assert_eq!(refused(kind, webhook("a", service)), [error]);
}

#[test]
fn endpoints_are_addresses() {
    let kind = kind("", "v1", "Endpoints");
    let at = |ip: &str| json!({ "metadata": { "name": "e" }, "subsets": [{ "addresses": [{ "ip": ip }] }] });
    assert_eq!(refused(kind, at("10.0.0.1")), nothing());
    let error = "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range \
                 (127.0.0.0/8, ::1/128)";
    assert_eq!(refused(kind, at("127.0.0.1")), [error]);
}

#[test]
fn affinity_names_what_it_means() {
    let spec = |affinity: Value| json!({ "containers": [{ "name": "c", "image": "i" }], "affinity": affinity });
    let term = |operator: &str| {
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution":
        { "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "zone", "operator": operator, "values": ["a"] }] }] } } })
    };
    assert_eq!(pod(spec(term("In"))), nothing());
    let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
    let error = format!("{path}.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator");
    assert_eq!(pod(spec(term("Is"))), [error]);
    let weight = json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution":
        [{ "weight": 0, "podAffinityTerm": { "topologyKey": "kubernetes.io/hostname" } }] } });
    let error = "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid \
                 value: 0: must be in the range 1-100";
    assert_eq!(pod(spec(weight)), [error]);
}
