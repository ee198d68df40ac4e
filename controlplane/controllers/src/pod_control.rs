//! Creating and deleting pods for an owner, with upstream's events; many at a time, starting slowly.
//!
//! Must not know: how many pods an owner wants.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Client, Error};
use pintle_client::events::Recorder;
use serde_json::json;

use crate::{api, owner};

/// The first batch of creations; each that succeeds doubles the next.
const FIRST_BATCH: usize = 1;

/// A pod of the template, owned by `owner`. Its name is generated from `owner_name`.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, owner_name: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name: Some(format!("{owner_name}-")),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Acts on pods in the name of one controller.
pub struct PodControl {
    pub client: Client,
    pub recorder: Recorder,
    /// The finalizer that pods have as long as they are the owner's, where it has one.
    pub finalizer: Option<&'static str>,
}

impl PodControl {
    /// Creates the pod. None: its namespace is going away, which is no error of the owner's.
    pub async fn create(&self, pod: &Pod, owner: &ObjectReference) -> Result<Option<Pod>, Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let created = api::namespaced::<Pod>(&self.client, namespace).create(&PostParams::default(), pod).await;
        match &created {
            Ok(pod) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                self.recorder.normal(owner, "SuccessfulCreate", format!("Created pod: {name}"));
            }
            Err(error) if api::is_namespace_terminating(error) => return Ok(None),
            Err(error) => self.recorder.warning(owner, "FailedCreate", format!("Error creating: {}", said(error))),
        }
        created.map(Some)
    }

    /// Deletes that very pod; one that is gone already is fine.
    pub async fn delete(&self, pod: &Pod, owner: &ObjectReference) -> Result<(), Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let params = api::delete_uid(pod.metadata.uid.as_ref());
        match api::namespaced::<Pod>(&self.client, namespace).delete(name, &params).await {
            Err(error) if api::is_not_found(&error) => Ok(()),
            Err(error) => {
                self.recorder.warning(owner, "FailedDelete", format!("Error deleting: {}", said(&error)));
                Err(error)
            }
            Ok(_) => {
                self.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}"));
                Ok(())
            }
        }
    }

    /// Sets (`adopter`) or removes (None) the owner's reference on that very pod.
    pub async fn set_owner(&self, pod: &Pod, owner_uid: &str, adopter: Option<OwnerReference>) -> Result<(), Error> {
        let meta = &pod.metadata;
        let finalizers = self.finalizer.map(|mark| owner::finalizers_after(meta, mark, adopter.is_some()));
        let references = owner::references_after(meta, owner_uid, adopter);
        let mut patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version,
            "ownerReferences": references}});
        if let Some(finalizers) = finalizers {
            patch["metadata"]["finalizers"] = json!(finalizers);
        }
        let pods = api::namespaced::<Pod>(&self.client, meta.namespace.as_deref().unwrap_or_default());
        let name = meta.name.as_deref().unwrap_or_default();
        api::ignore_not_found(pods.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)
    }
}

/// What the server said, or why it could not be asked: without the client's decoration, as events show it.
pub fn said(error: &Error) -> String {
    match error {
        Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Does `count` things in batches of 1, 2, 4, …; stops after the first batch in which one failed. The number that
/// succeeded, and the first error.
pub async fn slow_start<F, E>(count: usize, act: impl Fn(usize) -> F) -> (usize, Option<E>)
where
    F: Future<Output = Result<(), E>>,
{
    let (mut done, mut batch) = (0, FIRST_BATCH.min(count));
    while batch > 0 {
        let results = futures::future::join_all((done..done + batch).map(&act)).await;
        let failed: Vec<E> = results.into_iter().filter_map(Result::err).collect();
        done += batch - failed.len();
        if let Some(error) = failed.into_iter().next() {
            return (done, Some(error));
        }
        batch = (batch * 2).min(count - done);
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn creations_start_slowly_and_stop_after_a_batch_with_a_failure() {
        let tried = RefCell::new(0);
        let result = slow_start(100, |n| {
            *tried.borrow_mut() += 1;
            async move { if n == 5 { Err("quota") } else { Ok(()) } }
        })
        .await;
        assert_eq!(result, (6, Some("quota")));
        assert_eq!(*tried.borrow(), 1 + 2 + 4);
        assert_eq!(slow_start(10, |_| async { Ok::<(), ()>(()) }).await, (10, None));
    }
}
