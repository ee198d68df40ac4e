//! Changing what runs: scaling, rolling out and back, patching, deleting.
//!
//! Must not know: how controllers decide.

use crate::cluster::Cluster;

pub fn a_deployment_is_scaled(cluster: &mut Cluster) {
    cluster.sh("kubectl scale deployment web --replicas=5 && kubectl rollout status deployment/web --timeout=60s");
    assert_eq!(cluster.sh("kubectl get deployment web -o jsonpath='{.status.readyReplicas}'"), "5");
    cluster.sh("kubectl scale deployment web --replicas=2");
    cluster.sh("kubectl wait --for=jsonpath='{.status.replicas}'=2 deployment/web --timeout=60s");
    let conflict = cluster.fails("kubectl scale deployment web --current-replicas=9 --replicas=1");
    assert!(conflict.contains("Expected replicas to be 9, was 2"), "{conflict}");
    cluster.sh("kubectl scale deployment web --replicas=3 && kubectl rollout status deployment/web --timeout=60s");
}

pub fn a_new_image_is_rolled_out_and_back(cluster: &mut Cluster) {
    let address = cluster.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'");
    let page = format!("curl -s --max-time 5 http://{address}/");
    cluster.sh("kubectl set image deployment/web web=$WEB2 && kubectl rollout status deployment/web --timeout=80s");
    cluster.reaches(&page, "web 2");
    let history = cluster.sh("kubectl rollout history deployment/web");
    assert!(history.contains("REVISION") && history.contains("\n2 "), "{history}");
    cluster.sh("kubectl rollout undo deployment/web && kubectl rollout status deployment/web --timeout=80s");
    cluster.reaches(&page, "web 1");
    assert_eq!(cluster.sh("kubectl get replicasets -l app=web --no-headers | wc -l"), "2");
    let revision =
        r"kubectl get deployment web -o jsonpath='{.metadata.annotations.deployment\.kubernetes\.io/revision}'";
    assert_eq!(cluster.sh(revision), "3");
}

pub fn objects_are_labelled_patched_and_edited(cluster: &mut Cluster) {
    let field = |path: &str| cluster.sh(&format!("kubectl get configmap page -o jsonpath='{path}'"));
    cluster.sh("kubectl label configmap page tier=front && kubectl annotate configmap page note=fragile");
    assert_eq!(cluster.sh("kubectl get configmaps -l tier=front -o name"), "configmap/page");
    assert!(cluster.fails("kubectl label configmap page tier=back").contains("'tier' already has a value (front)"));
    cluster.sh("kubectl label configmap page tier-");
    assert_eq!(cluster.sh("kubectl get configmaps -l tier -o name"), "");
    cluster.sh(r#"kubectl patch configmap page --type=merge -p '{"data":{"greeting":"ahoy"}}'"#);
    assert_eq!(field("{.data.greeting}"), "ahoy");
    cluster.sh(
        r#"kubectl patch configmap page --type=json -p '[{"op":"replace","path":"/data/greeting","value":"aye"}]'"#,
    );
    assert_eq!(field("{.data.greeting}"), "aye");
    cluster.sh("KUBE_EDITOR='sed -i s/aye/hello/' kubectl edit configmap page");
    assert_eq!(field("{.data.greeting}"), "hello");
    let env = r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"EXTRA","value":"1"}]}]}}}}"#;
    cluster.sh(&format!("kubectl patch deployment web --dry-run=server -o yaml -p '{env}' | grep -A1 EXTRA"));
    assert_eq!(cluster.sh("kubectl get deployment web -o yaml | grep -c EXTRA || true"), "0", "it was a dry run");
    cluster.sh("kubectl exec client -- sh -c 'until wget -qO- http://web >/dev/null; do sleep 0.1; done'");
}

pub fn apply_shows_and_makes_the_difference(cluster: &mut Cluster) {
    cluster.sh("kubectl diff -f web.yaml");
    cluster.sh("sed 's/welcome aboard/mind your step/' web.yaml > changed.yaml");
    let diff = cluster.fails("kubectl diff -f changed.yaml");
    assert!(diff.contains("-    welcome aboard") && diff.contains("+    mind your step"), "{diff}");
    cluster.sh("kubectl apply --server-side --force-conflicts --field-manager=stories -f changed.yaml");
    let managers = cluster
        .sh("kubectl get configmap page --show-managed-fields -o jsonpath='{.metadata.managedFields[*].manager}'");
    assert!(managers.contains("stories"), "{managers}");
    let motd = cluster.sh("kubectl get configmap page -o jsonpath='{.data.motd}'");
    assert_eq!(motd, "mind your step");
    // what a volume holds follows its ConfigMap
    cluster.sh("kubectl rollout status deployment/web --timeout=60s");
}

pub fn what_is_deleted_goes_with_all_it_owns(cluster: &mut Cluster) {
    cluster.sh("kubectl delete -f web.yaml --timeout=60s");
    cluster.sh("kubectl wait --for=delete pod -l app=web --timeout=60s");
    cluster.sh("kubectl wait --for=delete replicaset -l app=web --timeout=60s");
    let gone = cluster.fails("kubectl get deployment web");
    assert_eq!(gone, r#"Error from server (NotFound): deployments.apps "web" not found"#);
    cluster.sh("kubectl create namespace hold && kubectl create deployment web -n hold --image=$WEB1");
    cluster.sh("kubectl rollout status -n hold deployment/web --timeout=60s");
    cluster.sh("kubectl delete namespace hold --timeout=60s");
    assert_eq!(cluster.sh("kubectl get all -n hold 2>&1"), "No resources found in hold namespace.");
}
