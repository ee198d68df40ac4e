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
    cluster.sh("kubectl run ghost --image=$REGISTRY/ghost:1");
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    cluster.sh(&format!("kubectl wait --for=jsonpath='{reason}'=ErrImagePull pod/ghost --timeout=30s"));
    cluster.sh(&format!("kubectl wait --for=jsonpath='{reason}'=ImagePullBackOff pod/ghost --timeout=60s"));
    let events = cluster.sh("kubectl events --for pod/ghost");
    assert!(events.contains("Failed to pull image") && events.contains("Error: ErrImagePull"), "{events}");
    let logs = cluster.fails("kubectl logs ghost");
    assert!(
        logs.contains(r#"container "ghost" in pod "ghost" is waiting to start: trying and failing to pull image"#),
        "{logs}"
    );
    cluster.sh("kubectl delete pod ghost --timeout=60s");
}
