//! What every namespace gets: the service account `default` and the ConfigMap `kube-root-ca.crt`.
//!
//! Must not know: tokens, how namespaces end.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Client, Error};
use pintle_client::{Change, ObjectKey};

use crate::api;
use crate::context::Context;
use crate::work::Outcome;

const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}

/// Creation may meet an object that the cache does not show yet, or a namespace that has begun to go.
fn created<K>(result: Result<K, Error>) -> Result<(), Error> {
    match result {
        Err(error) if api::is_already_exists(&error) || api::is_namespace_terminating(&error) => Ok(()),
        // the namespace went away in the meantime
        Err(error) if api::is_not_found(&error) => Ok(()),
        other => other.map(drop),
    }
}

/// Keys are the namespaces' names.
pub async fn run_service_accounts(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.namespaces.synced(), caches.service_accounts.synced());
    let queue = context.queue("serviceaccount");
    context.feed(&caches.namespaces, &queue, |change| vec![ObjectKey::of(change.object().as_ref()).name]);
    context.feed(&caches.service_accounts, &queue, |change| match change {
        Change::Deleted(account) => account.metadata.namespace.iter().cloned().collect(),
        _ => Vec::new(),
    });
    let client = context.client("service-account-controller");
    let cancel = context.cancel.clone();
    queue
        .run(1, cancel, move |namespace| {
            let (caches, client) = (caches.clone(), client.clone());
            async move {
                let active = caches.namespaces.get("", &namespace).is_some_and(|namespace| is_active(&namespace));
                if active && caches.service_accounts.get(&namespace, "default").is_none() {
                    create_account(&client, &namespace).await.context("creating the default service account")?;
                }
                Ok(None)
            }
        })
        .await;
}

async fn create_account(client: &Client, namespace: &str) -> Result<(), Error> {
    let metadata =
        ObjectMeta { name: Some("default".into()), namespace: Some(namespace.into()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    let accounts = api::namespaced::<ServiceAccount>(client, namespace);
    created(accounts.create(&PostParams::default(), &account).await)
}

struct Publisher {
    context: Context,
    client: Client,
}

/// Keys are the namespaces' names.
pub async fn run_root_ca(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.namespaces.synced(), caches.root_ca_maps.synced());
    let queue = context.queue("root_ca_cert_publisher");
    context.feed(&caches.namespaces, &queue, |change| vec![ObjectKey::of(change.object().as_ref()).name]);
    context.feed(&caches.root_ca_maps, &queue, |change| change.object().metadata.namespace.iter().cloned().collect());
    let client = context.client("root-ca-cert-publisher");
    let cancel = context.cancel.clone();
    let publisher = Arc::new(Publisher { context, client });
    queue.run(1, cancel, |namespace| publisher.clone().sync(namespace)).await;
}

impl Publisher {
    async fn sync(self: Arc<Self>, namespace: String) -> Outcome {
        let caches = &self.context.caches;
        if !caches.namespaces.get("", &namespace).is_some_and(|namespace| is_active(&namespace)) {
            return Ok(None);
        }
        let present = caches.root_ca_maps.get(&namespace, ROOT_CA);
        let Some(wanted) = plan(&namespace, present.as_deref(), &self.context.config.root_ca) else { return Ok(None) };
        let maps = api::namespaced::<ConfigMap>(&self.client, &namespace);
        match present {
            Some(_) => api::ignore_not_found(maps.replace(ROOT_CA, &PostParams::default(), &wanted).await),
            None => created(maps.create(&PostParams::default(), &wanted).await),
        }
        .context("publishing the root certificate")?;
        Ok(None)
    }
}

/// The ConfigMap wanted; None: it is right as it is.
fn plan(namespace: &str, present: Option<&ConfigMap>, root_ca: &str) -> Option<ConfigMap> {
    let data = Some([("ca.crt".to_owned(), root_ca.to_owned())].into());
    let new = || ObjectMeta {
        name: Some(ROOT_CA.into()),
        namespace: Some(namespace.into()),
        annotations: Some([("kubernetes.io/description".to_owned(), DESCRIPTION.to_owned())].into()),
        ..ObjectMeta::default()
    };
    match present {
        Some(present) if present.data == data => None,
        Some(present) => Some(ConfigMap { data, ..present.clone() }),
        None => Some(ConfigMap { metadata: new(), data, ..ConfigMap::default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_certificate_is_created_and_put_right_but_left_alone_otherwise() {
        let first = plan("default", None, "PEM").unwrap();
        assert_eq!(first.data.as_ref().unwrap()["ca.crt"], "PEM");
        assert_eq!(plan("default", Some(&first), "PEM"), None);
        let tampered = ConfigMap { data: None, ..first.clone() };
        assert_eq!(plan("default", Some(&tampered), "PEM"), Some(first));
    }
}
