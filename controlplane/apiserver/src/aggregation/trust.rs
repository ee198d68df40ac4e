//! The ConfigMap `kube-system/extension-apiserver-authentication`: how other servers know this one and its clients. Kept as
//! long as the server runs. Source: `pkg/controlplane/controller/clusterauthenticationtrust`.
//!
//! Must not know: who reads it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use pintle_api::kinds;
use pintle_api::status::Status;
use pintle_daemon::backoff::Backoff;
use serde_json::{Map, Value, json};

use super::news::from_now_on;
use crate::cache::Cache;
use crate::call::Call;
use crate::config::FrontProxy;
use crate::request::WriteOptions;
use crate::server::ApiServer;
use crate::verbs::{Source, change, create_object};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Writes it, and keeps it from here.
pub async fn start(server: &Arc<ApiServer>) -> anyhow::Result<()> {
    let Some(front_proxy) = server.config.front_proxy.clone() else { return Ok(()) };
    let data = data(&front_proxy);
    write(server, &data).await.with_context(|| format!("writing the ConfigMap {NAME}"))?;
    let maps = server.cache_of("", "configmaps")?;
    tokio::spawn(keep(Arc::downgrade(server), maps, data));
    Ok(())
}

async fn keep(server: Weak<ApiServer>, maps: Arc<Cache>, data: Map<String, Value>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let Some(up) = server.upgrade() else { return };
        let cancel = up.cancel.clone();
        // from before the look: what changes meanwhile is looked at again
        let watcher = from_now_on(&maps, NAMESPACE);
        let written = write(&up, &data).await;
        drop(up);
        let work = async {
            match written.and(watcher) {
                Ok(mut watcher) => {
                    backoff.reset();
                    while watcher.next().await.is_some_and(|change| *change.object.name != *NAME) {}
                }
                Err(error) => {
                    tracing::warn!(%error, "the ConfigMap {NAME} was not written");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        };
        if cancel.run_until_cancelled(work).await.is_none() {
            return;
        }
    }
}

/// What it is to say, each entry as text.
fn data(front_proxy: &FrontProxy) -> Map<String, Value> {
    let list = |only: &str| json!(json!([only]).to_string());
    let entries = [
        ("client-ca-file", json!(front_proxy.client_authority)),
        ("requestheader-allowed-names", list(&front_proxy.name)),
        ("requestheader-client-ca-file", json!(front_proxy.authority)),
        ("requestheader-extra-headers-prefix", list("X-Remote-Extra-")),
        ("requestheader-group-headers", list("X-Remote-Group")),
        ("requestheader-uid-headers", list("X-Remote-Uid")),
        ("requestheader-username-headers", list("X-Remote-User")),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

async fn write(server: &Arc<ApiServer>, data: &Map<String, Value>) -> Result<(), Status> {
    let kind = kinds::find("", "v1", "configmaps").ok_or_else(|| Status::internal("no ConfigMaps"))?;
    let options = WriteOptions { field_manager: "kube-apiserver".to_owned(), ..WriteOptions::default() };
    let Some(current) = server.cache(kind)?.get(NAMESPACE, NAME) else {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": NAME, "namespace": NAMESPACE }, "data": data,
        });
        let call = Call::internal(kind, "create", NAMESPACE, "");
        return match create_object(server, &call, object, &options).await {
            Err(status) if status.code != 409 => Err(status),
            _ => Ok(()),
        };
    };
    if current.value()["data"].as_object() == Some(data) {
        return Ok(());
    }
    let make = |old: &Value| {
        let mut new = old.clone();
        new["data"] = data.clone().into();
        Ok(new)
    };
    let call = Call::internal(kind, "update", NAMESPACE, NAME);
    match change(server, &call, &options, Source::Made(&make)).await {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}
