//! What a user reads when something is wrong: upstream's words.
//!
//! Must not know: where the errors come from.

use crate::cluster::Cluster;

pub fn unknown_fields_and_invalid_objects_are_refused(cluster: &mut Cluster) {
    let applied = |yaml: &str| cluster.fails(&format!("kubectl apply -f - <<'EOF'\n# YAML\n{yaml}\nEOF"));
    let said = applied("{apiVersion: v1, kind: ConfigMap, metadata: {name: odd}, dada: {a: b}}");
    assert!(
        said.contains(
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dada""#
        ),
        "{said}"
    );
    let said = applied("{apiVersion: v1, kind: ConfigMap, metadata: {name: Not_A_Name}}");
    assert!(said.contains(r#"The ConfigMap "Not_A_Name" is invalid: metadata.name: Invalid value: "Not_A_Name": a lowercase RFC 1123 subdomain"#), "{said}");
    let said = applied(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: odd}, spec: {selector: {matchLabels: {app: a}}, \
         template: {metadata: {labels: {app: b}}, spec: {containers: [{name: c, image: i}]}}}}",
    );
    assert!(said.contains(r#"The Deployment "odd" is invalid: spec.template.metadata.labels: Invalid value: {"app":"b"}: `selector` does not match template `labels`"#), "{said}");
    let said = applied("{apiVersion: v1, kind: Pod, metadata: {name: odd}, spec: {containers: [{name: c}]}}");
    assert!(said.contains(r#"The Pod "odd" is invalid: spec.containers[0].image: Required value"#), "{said}");
    let said = cluster.fails("kubectl create configmap page");
    assert_eq!(said, r#"error: failed to create configmap: configmaps "page" already exists"#);
    let said = cluster.fails("kubectl get pod nobody");
    assert_eq!(said, r#"Error from server (NotFound): pods "nobody" not found"#);
    let said = cluster.fails("kubectl get ships");
    assert_eq!(said, r#"error: the server doesn't have a resource type "ships""#);
}

pub fn an_image_that_does_not_exist_is_told(cluster: &mut Cluster) {
    let events = is_not_pulled(cluster, "ghost", "$REGISTRY/ghost:1");
    assert!(events.contains("not found"), "{events}");
}

pub fn a_registry_that_is_not_there_is_told(cluster: &mut Cluster) {
    let events = is_not_pulled(cluster, "lost", "127.0.0.1:1/lost:1");
    assert!(events.to_lowercase().contains("connection refused"), "{events}");
}

/// The pod's image is tried, and tried again later, in upstream's words; its events.
#[track_caller]
fn is_not_pulled(cluster: &Cluster, name: &str, image: &str) -> String {
    cluster.sh(&format!("kubectl run {name} --image={image}"));
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    for expected in ["ErrImagePull", "ImagePullBackOff"] {
        cluster.sh(&format!("kubectl wait --for=jsonpath='{reason}'={expected} pod/{name} --timeout=60s"));
    }
    let events = cluster.sh(&format!("kubectl events --for pod/{name}"));
    assert!(events.contains("Failed to pull image") && events.contains("Error: ErrImagePull"), "{events}");
    cluster.reaches(&format!("kubectl events --for pod/{name}"), "Back-off pulling image");
    let logs = cluster.fails(&format!("kubectl logs {name}"));
    let waiting =
        format!(r#"container "{name}" in pod "{name}" is waiting to start: trying and failing to pull image"#);
    assert!(logs.contains(&waiting), "{logs}");
    cluster.sh(&format!("kubectl delete pod {name} --timeout=60s"));
    events
}

pub fn an_image_that_cannot_be_named_or_may_not_be_pulled_is_told(cluster: &mut Cluster) {
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    let container = "spec: {containers: [{name: c, image: UPPER/Case}]}";
    super::pods::apply(cluster, &format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: nameless}}\n{container}"));
    cluster.sh("kubectl run never --image=$REGISTRY/ghost:1 --image-pull-policy=Never");
    cluster.sh(&format!("kubectl wait --for=jsonpath='{reason}'=InvalidImageName pod/nameless --timeout=30s"));
    cluster.sh(&format!("kubectl wait --for=jsonpath='{reason}'=ErrImageNeverPull pod/never --timeout=30s"));
    cluster.sh("kubectl delete pod nameless never --timeout=60s");
}
