//! The verbs as a client in the process sees them: a real server over a real store.
//!
//! Must not know: anything but the server's public interface.

mod server;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use server::Running;

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() }, ..Default::default() }
}

fn api_error(result: kube::Error) -> (u16, String, String) {
    match result {
        kube::Error::Api(status) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("no answer of the API: {other}"),
    }
}

#[tokio::test]
async fn what_is_created_is_there_until_it_is_deleted() {
    let running = Running::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(running.admin(), "default");
    let made = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_some());
    assert_eq!(maps.get("a").await.unwrap().metadata.uid, made.metadata.uid);
    let (code, reason, message) = api_error(maps.create(&PostParams::default(), &config_map("a")).await.unwrap_err());
    assert_eq!((code, reason.as_str(), message.as_str()), (409, "AlreadyExists", "configmaps \"a\" already exists"));
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let (code, _, message) = api_error(maps.get("a").await.unwrap_err());
    assert_eq!((code, message.as_str()), (404, "configmaps \"a\" not found"));
}

#[tokio::test]
async fn a_change_on_top_of_an_old_version_is_a_conflict() {
    let running = Running::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(running.admin(), "default");
    let mut first = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let stale = first.clone();
    first.data = Some([("k".to_owned(), "v".to_owned())].into());
    let second = maps.replace("a", &PostParams::default(), &first).await.unwrap();
    assert_ne!(second.metadata.resource_version, stale.metadata.resource_version);
    let (code, reason, message) = api_error(maps.replace("a", &PostParams::default(), &stale).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("the object has been modified; please apply your changes to the latest version"));
    let same = maps.replace("a", &PostParams::default(), &second).await.unwrap();
    assert_eq!(same.metadata.resource_version, second.metadata.resource_version, "nothing to write");
}

#[tokio::test]
async fn a_watch_tells_of_changes_in_order_and_of_those_that_begin_to_match() {
    let running = Running::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(running.admin(), "default");
    let list = maps.list(&ListParams::default()).await.unwrap();
    let version = list.metadata.resource_version.unwrap();
    let events = maps.watch(&WatchParams::default().labels("app=x"), &version).await.unwrap();
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    for app in ["x", "x", "y"] {
        let patch = json!({"metadata": {"labels": {"app": app}}, "data": {"n": app}});
        maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
    let seen: Vec<&str> = events
        .take(2)
        .map_ok(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            _ => "other",
        })
        .try_collect()
        .await
        .unwrap();
    assert_eq!(seen, ["added", "deleted"]);
}

#[tokio::test]
async fn a_list_in_pages_is_the_list_at_one_moment() {
    let running = Running::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(running.admin(), "default");
    for index in 0..5 {
        maps.create(&PostParams::default(), &config_map(&format!("m{index}"))).await.unwrap();
    }
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    maps.delete("m3", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = maps.list(&ListParams::default().continue_token(&token)).await.unwrap();
    let names: Vec<_> = rest.items.iter().filter_map(|m| m.metadata.name.as_deref()).collect();
    assert_eq!(names, ["m2", "m3", "m4"]);
}

#[tokio::test]
async fn a_namespace_that_is_not_there_takes_nothing_and_the_first_ones_stay() {
    let running = Running::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(running.admin(), "nowhere");
    let (code, _, message) = api_error(maps.create(&PostParams::default(), &config_map("a")).await.unwrap_err());
    assert_eq!((code, message.as_str()), (404, "namespaces \"nowhere\" not found"));
    let namespaces: Api<Namespace> = Api::all(running.admin());
    let refused = namespaces.delete("default", &DeleteParams::default()).await.unwrap_err();
    assert_eq!(api_error(refused).0, 403);
}

#[tokio::test]
async fn a_pod_without_its_service_account_is_refused() {
    let running = Running::start().await;
    let pods: Api<Pod> = Api::namespaced(running.admin(), "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "serviceAccountName": "nobody", "containers": [{"name": "c", "image": "i"}]}});
    let refused = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap_err();
    assert_eq!(
        api_error(refused).2,
        "pods \"p\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
}

#[tokio::test]
async fn services_are_given_addresses_and_give_them_back() {
    let running = Running::start().await;
    let services: Api<Service> = Api::namespaced(running.admin(), "default");
    let service = |address: Option<&str>| -> Service {
        let mut spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
        if let Some(address) = address {
            spec["clusterIP"] = address.into();
        }
        serde_json::from_value(json!({"metadata": {"generateName": "s-"}, "spec": spec})).unwrap()
    };
    let made = services.create(&PostParams::default(), &service(None)).await.unwrap();
    let spec = made.spec.unwrap();
    let address = spec.cluster_ip.unwrap();
    assert!(spec.ports.unwrap()[0].node_port.is_some());
    let taken = services.create(&PostParams::default(), &service(Some(&address))).await.unwrap_err();
    assert_eq!(api_error(taken).0, 422);
    services.delete(made.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    services.create(&PostParams::default(), &service(Some(&address))).await.unwrap();
}

#[tokio::test]
async fn server_side_apply_creates_changes_and_refuses_what_others_manage() {
    let running = Running::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(running.admin(), "default");
    let config =
        |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}});
    maps.patch("a", &PatchParams::apply("one"), &Patch::Apply(config("1"))).await.unwrap();
    let changed = maps.patch("a", &PatchParams::apply("one"), &Patch::Apply(config("2"))).await.unwrap();
    assert_eq!(changed.data.unwrap()["k"], "2");
    let refused = maps.patch("a", &PatchParams::apply("two"), &Patch::Apply(config("3"))).await.unwrap_err();
    assert_eq!(api_error(refused).0, 409);
    maps.patch("a", &PatchParams::apply("two").force(), &Patch::Apply(config("3"))).await.unwrap();
}

#[tokio::test]
async fn the_server_is_an_endpoint_of_its_own_service() {
    let running = Running::start().await;
    let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> = Api::namespaced(running.admin(), "default");
    let slice = slices.get("kubernetes").await.unwrap();
    assert_eq!(slice.endpoints.unwrap()[0].addresses, ["192.0.2.1"]);
}

#[tokio::test]
async fn what_runs_nowhere_has_no_logs_and_cannot_be_entered() {
    let running = Running::start().await;
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(running.admin(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(running.admin(), "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    assert_eq!(pods.logs("p", &Default::default()).await.unwrap(), "");
    let request = http::Request::get("/api/v1/namespaces/default/pods/p/exec?command=sh&stdout=true");
    let refused = running.admin().connect(request.body(Vec::new()).unwrap()).await.err().unwrap();
    assert_eq!(api_error(refused).2, "pod p does not have a host assigned");
}

/// A kubelet that sees the mark takes the pod away before its deletion is finished.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_deletion_that_a_kubelet_finishes_first_has_succeeded() {
    let running = Running::start().await;
    let service_accounts: Api<ServiceAccount> = Api::namespaced(running.admin(), "default");
    let account = json!({"metadata": {"name": "default"}});
    service_accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(running.admin(), "default");
    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    let (kubelet, forced) = (pods.clone(), at_once.clone());
    tokio::spawn(async move {
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Modified(pod) = event {
                let name = pod.metadata.name.unwrap();
                // either comes first
                let _ = kubelet.delete(&name, &forced).await;
            }
        }
    });
    for round in 0..100 {
        let name = format!("p{round}");
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        pods.delete(&name, &at_once).await.unwrap();
    }
}
