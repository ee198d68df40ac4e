//! Finding the pods of an owner, adopting and releasing on the way.
//!
//! Must not know: what the owner wants of its pods.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use pintle_client::Reflector;
use serde::de::DeserializeOwned;

use crate::owner::{self, Claim};
use crate::pod_control::PodControl;
use crate::{api, pods};

/// What can own pods.
pub trait Owner: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned> Owner for K {}

/// Every pod of the owner, ended ones included. Ended pods are not adopted.
pub async fn pods_of<K: Owner>(
    owner: &K,
    selector: Option<&LabelSelector>,
    cache: &Reflector<Pod>,
    control: &PodControl,
) -> anyhow::Result<Vec<Arc<Pod>>> {
    let meta = owner.meta();
    let uid = meta.uid.as_deref().unwrap_or_default();
    // an empty selector would take every pod there is; the API refuses them
    let selector = selector.filter(|selector| **selector != LabelSelector::default());
    let Some(selector) = owner::selector(selector) else { return Ok(Vec::new()) };
    let mut own = Vec::new();
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    // its own, and those that nobody controls and it may adopt
    for pod in cache.list_owned(namespace, name).into_iter().chain(cache.list_owned(namespace, "")) {
        match owner::claim(meta, &selector, &pod.metadata) {
            Claim::Keep => own.push(pod),
            Claim::Adopt if !pods::is_terminal(&pod) => {
                ensure_alive(owner, control).await?;
                let reference = owner::controller_reference(owner);
                control.set_owner(&pod, uid, Some(reference)).await.context("adopting a pod")?;
                own.push(pod);
            }
            Claim::Release => control.set_owner(&pod, uid, None).await.context("releasing a pod")?,
            Claim::Adopt | Claim::Ignore => {}
        }
    }
    Ok(own)
}

/// Nothing is adopted by what is going away; the cache may not know yet.
async fn ensure_alive<K: Owner>(owner: &K, control: &PodControl) -> anyhow::Result<()> {
    let meta = owner.meta();
    let owners = api::namespaced::<K>(&control.client, meta.namespace.as_deref().unwrap_or_default());
    let fresh =
        owners.get(meta.name.as_deref().unwrap_or_default()).await.context("looking whether the owner lives")?;
    let alive = fresh.meta().uid == meta.uid && fresh.meta().deletion_timestamp.is_none();
    anyhow::ensure!(alive, "the owner is being deleted: it adopts nothing");
    Ok(())
}
