//! Who may do what, asked of a whole server through clients with identities of their own.

mod server;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use pintle_apiserver::auth::UserInfo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use server::Running;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of its kind")
}

fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> String {
    match result {
        Err(kube::Error::Api(status)) if status.code == 403 => status.message,
        other => panic!("not refused: {other:?}"),
    }
}

/// Binds `role` to the user ann in the namespace default.
async fn bind(admin: &kube::Client, role: &str) {
    let binding = json!({ "metadata": { "name": format!("ann-{role}") },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann" }] });
    let bindings = Api::<RoleBinding>::namespaced(admin.clone(), "default");
    bindings.create(&PostParams::default(), &object(binding)).await.unwrap();
}

/// The index of roles follows by watch, as upstream's does: asks until it has.
async fn until_allowed(ann: &kube::Client, verb: &str, resource: &str) {
    let review =
        json!({ "spec": { "resourceAttributes": { "namespace": "default", "verb": verb, "resource": resource } } });
    let reviews = Api::<SelfSubjectAccessReview>::all(ann.clone());
    for _ in 0..500 {
        let answer = reviews.create(&PostParams::default(), &object(review.clone())).await.unwrap();
        if answer.status.unwrap().allowed {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("ann may not {verb} {resource}");
}

#[tokio::test]
async fn a_stranger_may_only_discover() {
    let running = Running::start().await;
    let ann = running.server.client(UserInfo::new("ann", &[]));
    assert_eq!(ann.apiserver_version().await.unwrap().minor, "36");
    let message = refused(Api::<Secret>::namespaced(ann, "default").list(&ListParams::default()).await);
    assert_eq!(
        message,
        r#"secrets is forbidden: User "ann" cannot list resource "secrets" in API group "" in the namespace "default""#
    );
}

#[tokio::test]
async fn a_viewer_reads_its_namespace_but_no_secrets_and_no_others() {
    let running = Running::start().await;
    bind(&running.admin(), "view").await;
    let ann = running.server.client(UserInfo::new("ann", &[]));
    until_allowed(&ann, "list", "configmaps").await;
    Api::<ConfigMap>::namespaced(ann.clone(), "default").list(&ListParams::default()).await.unwrap();
    refused(Api::<Secret>::namespaced(ann.clone(), "default").list(&ListParams::default()).await);
    refused(Api::<ConfigMap>::namespaced(ann.clone(), "kube-system").list(&ListParams::default()).await);
    refused(Api::<Namespace>::all(ann).list(&ListParams::default()).await);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let running = Running::start().await;
    bind(&running.admin(), "admin").await;
    let ann = running.server.client(UserInfo::new("ann", &[]));
    until_allowed(&ann, "create", "configmaps").await;
    let roles = Api::<Role>::namespaced(ann.clone(), "default");
    let role = |resource: &str| json!({ "metadata": { "name": resource }, "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": [resource] }] });
    roles.create(&PostParams::default(), &object(role("configmaps"))).await.unwrap();
    let message = refused(roles.create(&PostParams::default(), &object(role("nodes"))).await);
    assert!(message.contains("is attempting to grant RBAC permissions not currently held"), "{message}");
    assert!(message.contains(r#"{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}"#), "{message}");
}

#[tokio::test]
async fn an_apply_that_would_create_needs_the_right_to_create() {
    let running = Running::start().await;
    let role = json!({ "metadata": { "name": "patcher" },
        "rules": [{ "verbs": ["patch"], "apiGroups": [""], "resources": ["configmaps"] }] });
    let admin = running.admin();
    Api::<Role>::namespaced(admin.clone(), "default").create(&PostParams::default(), &object(role)).await.unwrap();
    let binding = json!({ "metadata": { "name": "patcher" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann" }] });
    let bindings = Api::<RoleBinding>::namespaced(admin, "default");
    bindings.create(&PostParams::default(), &object(binding)).await.unwrap();
    let ann = running.server.client(UserInfo::new("ann", &[]));
    until_allowed(&ann, "patch", "configmaps").await;
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "mine" } });
    let maps = Api::<ConfigMap>::namespaced(ann, "default");
    let message = refused(maps.patch("mine", &PatchParams::apply("test"), &Patch::Apply(&map)).await);
    assert!(message.contains(r#"cannot create resource "configmaps""#), "{message}");
}
