//! Every pod runs as a service account and is handed its token (`plugin/pkg/admission/serviceaccount`).
//!
//! Must not know: how tokens are made or mounted.

use std::sync::Arc;
use std::time::Duration;

use pintle_api::object;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::rules::write::generated_name;
use crate::server::ApiServer;

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";

/// How long the controller is given to make a new namespace's default account.
const DEFAULT_ACCOUNT: Duration = Duration::from_secs(2);

/// Upstream's `WarnOnlyBoundTokenExpirationSeconds`: an hour, and what clients that never reload are forgiven.
const EXPIRES: u64 = 3607;

pub async fn admit(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    if !object::metadata_mut(pod).get("annotations").is_none_or(|a| a["kubernetes.io/config.mirror"].is_null()) {
        return check_mirror(attributes, pod);
    }
    if pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        pod["spec"]["serviceAccountName"] = "default".into();
    }
    let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    let account = find(server, attributes.namespace, &name).await?.ok_or_else(|| {
        let namespace = attributes.namespace;
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        attributes.forbidden(&why)
    })?;
    pod["spec"]["serviceAccount"] = name.into();
    if mounts_token(&account, pod) {
        mount_token(pod);
    }
    if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty) && !account["imagePullSecrets"].is_null() {
        pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    Ok(())
}

/// A pod that a kubelet runs from a file may not have what the API hands out.
fn check_mirror(attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if !pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        return Err(attributes.forbidden("a mirror pod may not reference service accounts"));
    }
    Ok(())
}

/// The account; the default one of a new namespace may be moments away.
async fn find(server: &Arc<ApiServer>, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
    let accounts = server.cache_of("", "serviceaccounts")?;
    if let Some(found) = accounts.get(namespace, name) {
        return Ok(Some(found.value()));
    }
    if name != "default" {
        return Ok(None);
    }
    let Ok(mut watcher) = accounts.watch(Some(namespace), crate::cache::Since::Now, 1000) else { return Ok(None) };
    let appears = async {
        while let Some(change) = watcher.next().await {
            if *change.object.name == *name {
                return Some(change.object.value());
            }
        }
        None
    };
    Ok(tokio::time::timeout(DEFAULT_ACCOUNT, appears).await.ok().flatten())
}

fn mounts_token(account: &Value, pod: &Value) -> bool {
    let of = |value: &Value| value["automountServiceAccountToken"].as_bool();
    of(&pod["spec"]).or_else(|| of(account)).unwrap_or(true)
}

fn mount_token(pod: &mut Value) {
    let existing = pod["spec"]["volumes"].as_array().into_iter().flatten().filter_map(|v| v["name"].as_str());
    let existing = existing.into_iter().find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| generated_name(VOLUME, rand::random()));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            needed |= mount(container, &name);
        }
    }
    if needed && existing.is_none() {
        push(&mut pod["spec"]["volumes"], json!({ "name": name, "projected": token_volume() }));
    }
}

/// Says whether the container had nothing there yet.
fn mount(container: &mut Value, volume: &str) -> bool {
    let taken = container["volumeMounts"].as_array().into_iter().flatten().any(|m| m["mountPath"] == MOUNT);
    if !taken {
        push(&mut container["volumeMounts"], json!({ "name": volume, "readOnly": true, "mountPath": MOUNT }));
    }
    !taken
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(all) => all.push(item),
        other => *other = json!([item]),
    }
}

fn token_volume() -> Value {
    json!({
        "defaultMode": 420,
        "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": EXPIRES } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [
                { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
            ] } },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_mounted_once_in_every_container_that_has_none() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "volumeMounts": [{"name": "mine", "mountPath": MOUNT}]}]}});
        mount_token(&mut pod);
        assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], MOUNT);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn the_pod_has_the_last_word_on_mounting() {
        let account = json!({"automountServiceAccountToken": false});
        assert!(!mounts_token(&account, &json!({"spec": {}})));
        assert!(mounts_token(&account, &json!({"spec": {"automountServiceAccountToken": true}})));
    }
}
