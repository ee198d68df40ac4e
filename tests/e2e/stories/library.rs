//! A program of a client library's (kube-rs) against the cluster: it deploys, watches, changes and reaches in.
//!
//! Must not know: kubectl.

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, Secret, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{
    Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy, WatchEvent, WatchParams,
};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cluster::Cluster;

/// An object as its documentation writes it.
fn object<K: DeserializeOwned>(written: serde_json::Value) -> anyhow::Result<K> {
    Ok(serde_json::from_value(written)?)
}

pub fn a_program_deploys_and_reaches_a_web_server(cluster: &mut Cluster) {
    let image = cluster.images.web1.clone();
    let address = cluster.program(async |client| {
        let (deployments, services) = (Api::<Deployment>::default_namespaced(client.clone()), Api::default_namespaced(client.clone()));
        let labels = json!({ "app": "raft" });
        let deployment = object(json!({
            "metadata": { "name": "raft" },
            "spec": { "replicas": 2, "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "web", "image": image, "readinessProbe": { "httpGet": { "port": 80 }, "periodSeconds": 1 } }] },
            }},
        }))?;
        let service = object(json!({ "metadata": { "name": "raft" }, "spec": { "selector": labels, "ports": [{ "port": 80 }] } }))?;
        deployments.create(&PostParams::default(), &deployment).await?;
        let service: Service = services.create(&PostParams::default(), &service).await?;
        let ready = |found: Option<&Deployment>| {
            found.and_then(|it| it.status.as_ref()).is_some_and(|status| status.ready_replicas == Some(2))
        };
        await_condition(deployments, "raft", ready).await?;
        service.spec.and_then(|spec| spec.cluster_ip).context("no address")
    });
    cluster.reaches(&format!("curl -s --max-time 5 http://{address}/"), "web 1");
}

pub fn a_program_reaches_into_a_container(cluster: &mut Cluster) {
    cluster.program(async |client| {
        let pods = Api::<Pod>::default_namespaced(client);
        let found = pods.list(&ListParams::default().labels("app=raft")).await?;
        let name = found.items.first().context("no pod")?.name_any();
        let log = pods.logs(&name, &LogParams { tail_lines: Some(100), ..Default::default() }).await?;
        ensure!(log.contains("serving"), "{log}");

        let attach = AttachParams::default().stdin(true).stderr(false);
        let mut exec = pods.exec(&name, ["sh", "-c", "read line; echo $line twice; exit 3"], &attach).await?;
        let (mut to, mut from) = (exec.stdin().context("stdin")?, exec.stdout().context("stdout")?);
        let status = exec.take_status().context("status")?;
        to.write_all(b"aye\n").await?;
        let mut said = String::new();
        from.read_to_string(&mut said).await?;
        ensure!(said == "aye twice\n", "{said:?}");
        let status = status.await.context("no status")?;
        ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");

        let mut forwarder = pods.portforward(&name, &[80]).await?;
        let mut port = forwarder.take_stream(80).context("a port")?;
        port.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut page = String::new();
        port.read_to_string(&mut page).await?;
        ensure!(page.ends_with("web 1\n"), "{page}");
        Ok(())
    });
}

pub fn a_program_changes_objects_safely(cluster: &mut Cluster) {
    cluster.program(async |client| {
        let maps = Api::<ConfigMap>::default_namespaced(client.clone());
        pages_follow_one_another(&maps).await?;
        writers_do_not_overwrite_each_other(&maps).await?;
        maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("crate=yes")).await?;
        what_is_deleted_goes_with_all_it_owns(client).await
    });
}

async fn pages_follow_one_another(maps: &Api<ConfigMap>) -> anyhow::Result<()> {
    for n in 0..5 {
        let map = json!({ "metadata": { "name": format!("crate-{n}"), "labels": { "crate": "yes" } } });
        maps.create(&PostParams::default(), &object(map)?).await?;
    }
    let mut names = Vec::new();
    let mut page = ListParams::default().labels("crate=yes").limit(2);
    loop {
        let found = maps.list(&page).await?;
        names.extend(found.items.iter().map(kube::ResourceExt::name_any));
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    ensure!(names == ["crate-0", "crate-1", "crate-2", "crate-3", "crate-4"], "{names:?}");
    Ok(())
}

async fn writers_do_not_overwrite_each_other(maps: &Api<ConfigMap>) -> anyhow::Result<()> {
    let seen = maps.get("crate-0").await?;
    let version = seen.resource_version().context("no version")?;
    let mut events = maps.watch(&WatchParams::default().fields("metadata.name=crate-0"), &version).await?.boxed();
    let mine = Patch::Apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "hold": "full" } }));
    let patched = maps.patch("crate-0", &PatchParams::apply("purser"), &mine).await?;
    match events.try_next().await?.context("no event")? {
        WatchEvent::Modified(map) => ensure!(map.resource_version() == patched.resource_version(), "{map:?}"),
        other => anyhow::bail!("{other:?}"),
    }
    let theirs = Patch::Apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "hold": "empty" } }));
    let conflict = maps.patch("crate-0", &PatchParams::apply("thief"), &theirs).await;
    ensure!(is(&conflict, 409) && format!("{conflict:?}").contains("purser"), "{conflict:?}");
    let stale = maps.replace("crate-0", &PostParams::default(), &seen).await;
    ensure!(is(&stale, 409), "{stale:?}");
    let stale = Preconditions { resource_version: Some(version), uid: None };
    let kept = maps.delete("crate-0", &DeleteParams { preconditions: Some(stale), ..Default::default() }).await;
    ensure!(is(&kept, 409), "{kept:?}");
    Ok(())
}

async fn what_is_deleted_goes_with_all_it_owns(client: Client) -> anyhow::Result<()> {
    let (deployments, pods) =
        (Api::<Deployment>::default_namespaced(client.clone()), Api::<Pod>::default_namespaced(client.clone()));
    let owned = pods.list(&ListParams::default().labels("app=raft")).await?.items;
    ensure!(owned.len() == 2, "{} pods", owned.len());
    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    deployments.delete("raft", &foreground).await?;
    for pod in owned {
        await_condition(pods.clone(), &pod.name_any(), conditions::is_deleted(&pod.uid().context("no UID")?)).await?;
    }
    Api::<Service>::default_namespaced(client).delete("raft", &DeleteParams::default()).await?;
    Ok(())
}

pub fn a_quota_gets_back_what_goes_as_fast_as_it_came(cluster: &mut Cluster) {
    cluster.program(async |client| {
        let (quotas, secrets) =
            (Api::<ResourceQuota>::default_namespaced(client.clone()), Api::<Secret>::default_namespaced(client));
        let quota = json!({ "metadata": { "name": "hold" }, "spec": { "hard": { "secrets": "50" } } });
        quotas.create(&PostParams::default(), &object(quota)?).await?;
        let unused = |found: Option<&ResourceQuota>| {
            let used = found.and_then(|quota| quota.status.as_ref()?.used.as_ref()?.get("secrets"));
            used == Some(&Quantity("0".into()))
        };
        await_condition(quotas.clone(), "hold", unused).await?;
        for n in 0..20 {
            let name = format!("barrel-{n}");
            secrets.create(&PostParams::default(), &object(json!({ "metadata": { "name": name } }))?).await?;
            secrets.delete(&name, &DeleteParams::default()).await?;
        }
        await_condition(quotas.clone(), "hold", unused).await?;
        quotas.delete("hold", &DeleteParams::default()).await?;
        Ok(())
    });
}

/// Whether the API refused with this code.
fn is<T>(answer: &kube::Result<T>, code: u16) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.code == code)
}
