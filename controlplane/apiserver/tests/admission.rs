//! Admission as a client sees it: ranges, quotas, classes.
//!
//! Must not know: anything but the server's public interface.

mod server;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use pintle_apiserver::auth::UserInfo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use server::Running;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn message<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> String {
    match result {
        Err(kube::Error::Api(status)) => status.message.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

/// A server with the default account of `default`, which no controller makes here.
async fn start() -> (Running, Api<Pod>) {
    let running = Running::start().await;
    let accounts = Api::<ServiceAccount>::namespaced(running.admin(), "default");
    accounts.create(&PostParams::default(), &object(json!({"metadata": {"name": "default"}}))).await.unwrap();
    let pods = Api::namespaced(running.admin(), "default");
    (running, pods)
}

fn pod(name: &str, resources: Value) -> Pod {
    object(
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}}),
    )
}

#[tokio::test]
async fn a_limit_range_gives_and_bounds() {
    let (running, pods) = start().await;
    let ranges = Api::<LimitRange>::namespaced(running.admin(), "default");
    let limits = json!([{ "type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"} }]);
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": limits}});
    ranges.create(&PostParams::default(), &object(range)).await.unwrap();
    let made = pods.create(&PostParams::default(), &pod("a", json!({}))).await.unwrap();
    let resources = made.spec.unwrap().containers[0].resources.clone().unwrap();
    assert_eq!(
        (&resources.limits.unwrap()["cpu"].0, &resources.requests.unwrap()["cpu"].0),
        (&"500m".to_owned(), &"100m".to_owned())
    );
    let refused = message(pods.create(&PostParams::default(), &pod("b", json!({"limits": {"cpu": "2"}}))).await);
    assert_eq!(refused, "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2");
}

#[tokio::test]
async fn a_quota_counts_what_comes_and_refuses_what_does_not_fit() {
    let (running, pods) = start().await;
    let quotas = Api::<ResourceQuota>::namespaced(running.admin(), "default");
    let hard = json!({"pods": "1", "configmaps": "5"});
    let quota = quotas
        .create(&PostParams::default(), &object(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})))
        .await
        .unwrap();
    assert!(quota.status.is_none_or(|status| status.used.is_none()));
    pods.create(&PostParams::default(), &pod("early", json!({}))).await.unwrap();
    let counted = json!({"status": {"hard": hard, "used": {"pods": "0", "configmaps": "0"}}});
    quotas.patch_status("q", &PatchParams::default(), &Patch::Merge(counted)).await.unwrap();
    pods.create(&PostParams::default(), &pod("a", json!({}))).await.unwrap();
    assert_eq!(quotas.get("q").await.unwrap().status.unwrap().used.unwrap()["pods"].0, "1");
    let refused = message(pods.create(&PostParams::default(), &pod("b", json!({}))).await);
    assert_eq!(refused, "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1");
}

#[tokio::test]
async fn many_at_once_fit_a_quota_exactly() {
    let (running, pods) = start().await;
    let quotas = Api::<ResourceQuota>::namespaced(running.admin(), "default");
    let hard = json!({"pods": "10"});
    quotas
        .create(&PostParams::default(), &object(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})))
        .await
        .unwrap();
    let counted = json!({"status": {"hard": hard, "used": {"pods": "0"}}});
    quotas.patch_status("q", &PatchParams::default(), &Patch::Merge(counted)).await.unwrap();
    let tries = (0..20).map(|number| {
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &pod(&format!("p{number}"), json!({}))).await.is_ok() }
    });
    let made = futures::future::join_all(tries).await.into_iter().filter(|made| *made).count();
    assert_eq!(made, 10);
    assert_eq!(quotas.get("q").await.unwrap().status.unwrap().used.unwrap()["pods"].0, "10");
}

#[tokio::test]
async fn a_runtime_class_must_exist_and_overhead_be_its_own() {
    let (_running, pods) = start().await;
    let with = |field: &str, value: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        spec[field] = value;
        object::<Pod>(json!({"metadata": {"name": "p"}, "spec": spec}))
    };
    let refused = message(pods.create(&PostParams::default(), &with("runtimeClassName", json!("kata"))).await);
    assert_eq!(refused, "pods \"p\" is forbidden: pod rejected: RuntimeClass \"kata\" not found");
    let refused = message(pods.create(&PostParams::default(), &with("overhead", json!({"cpu": "1"}))).await);
    assert!(refused.ends_with("Pod Overhead set without corresponding RuntimeClass defined Overhead"), "{refused}");
}

#[tokio::test]
async fn claims_are_protected_and_nodes_keep_to_themselves() {
    let (running, pods) = start().await;
    let claims = Api::<PersistentVolumeClaim>::namespaced(running.admin(), "default");
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let claim = claims.create(&PostParams::default(), &object(claim)).await.unwrap();
    assert_eq!(claim.metadata.finalizers.unwrap(), ["kubernetes.io/pvc-protection"]);
    pods.create(&PostParams::default(), &pod("p", json!({}))).await.unwrap();
    let node = running.server.client(UserInfo::new("system:node:n", &["system:nodes"]));
    let refused = message(Api::<Pod>::namespaced(node, "default").delete("p", &Default::default()).await);
    assert_eq!(refused, "pods \"p\" is forbidden: node \"n\" can only delete pods with spec.nodeName set to itself");
}

#[tokio::test]
async fn a_namespace_enforces_a_pod_security_standard() {
    let (running, pods) = start().await;
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(running.admin());
    let label =
        |level: &str| Patch::Merge(json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}}));
    let refused = message(namespaces.patch("default", &PatchParams::default(), &label("strict")).await);
    assert!(
        refused.contains("Invalid value: \"strict\": must be one of privileged, baseline, restricted"),
        "{refused}"
    );
    namespaces.patch("default", &PatchParams::default(), &label("baseline")).await.unwrap();
    pods.create(&PostParams::default(), &pod("plain", json!({}))).await.unwrap();
    let host =
        json!({"metadata": {"name": "p"}, "spec": {"hostPID": true, "containers": [{"name": "c", "image": "i"}]}});
    let refused = message(pods.create(&PostParams::default(), &object(host)).await);
    assert_eq!(
        refused,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
    );
}

/// A webhook that is not there, about `plural`, for namespaces with the label `watched`.
fn webhook(name: &str, operation: &str, plural: &str) -> ValidatingWebhookConfiguration {
    object(json!({"metadata": {"name": name}, "webhooks": [{
        "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "clientConfig": {"url": "https://127.0.0.1:1/"}, "namespaceSelector": {"matchLabels": {"watched": "yes"}},
        "rules": [{"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": [plural]}],
    }]}))
}

#[tokio::test]
async fn a_namespace_goes_past_webhooks_that_do_not_select_it() {
    let running = Running::start().await;
    let namespaces = Api::<Namespace>::all(running.admin());
    let webhooks = Api::<ValidatingWebhookConfiguration>::all(running.admin());
    webhooks.create(&PostParams::default(), &webhook("others", "CREATE", "pods")).await.unwrap();
    webhooks.create(&PostParams::default(), &webhook("its", "DELETE", "namespaces")).await.unwrap();
    for (name, labels) in [("plain", json!({})), ("seen", json!({"watched": "yes"}))] {
        let namespace = object(json!({"metadata": {"name": name, "labels": labels}}));
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }
    let going = namespaces.delete("plain", &Default::default()).await.unwrap();
    assert!(going.left().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()));
    let refused = message(namespaces.delete("seen", &Default::default()).await);
    assert!(refused.contains("failed calling webhook \"a.example.com\""), "{refused}");
}
