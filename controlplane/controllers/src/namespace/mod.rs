//! The namespace controller: empties a namespace that is being deleted, pods first, then lets it go.
//!
//! Must not know: any kind but Namespace; what there is, discovery says.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use pintle_client::ObjectKey;

use crate::context::Context;
use crate::discovery::{self, Served};
use crate::work::Outcome;
use crate::{api, pod_control::said};
use plan::Round;

/// The finalizer in a namespace's spec that this controller answers for.
const FINALIZER: &str = "kubernetes";
/// How soon a namespace that is not empty yet is looked at again: first, and later (pods take their grace period).
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_LATER: Duration = Duration::from_secs(5);
/// Instances listed at a time.
const PAGE: u32 = 500;

struct Controller {
    context: Context,
    client: Client,
}

/// Keys are the namespaces' names.
pub async fn run(context: Context) {
    let caches = context.caches.clone();
    caches.namespaces.synced().await;
    let queue = context.queue("namespace");
    context.feed(&caches.namespaces, &queue, |change| {
        let namespace = change.object();
        let going = namespace.metadata.deletion_timestamp.is_some();
        if going { vec![ObjectKey::of(namespace.as_ref()).name] } else { Vec::new() }
    });
    let client = context.client("namespace-controller");
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client });
    queue.run(10, cancel, |name| controller.clone().sync(name)).await;
}

impl Controller {
    async fn sync(self: Arc<Self>, name: String) -> Outcome {
        let Some(namespace) = self.context.caches.namespaces.get("", &name) else { return Ok(None) };
        let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        let ours = finalizers.into_iter().any(|finalizer| finalizer == FINALIZER);
        let Some(since) = namespace.metadata.deletion_timestamp.as_ref().filter(|_| ours) else { return Ok(None) };
        let round = self.empty(&name).await?;
        let fresh = self.report(&namespace, &round).await?;
        if round.is_clean() {
            self.finalize(fresh).await?;
            return Ok(None);
        }
        let long = api::now().duration_since(since.0).as_secs() > 5;
        Ok(Some(if long { AGAIN_LATER } else { AGAIN }))
    }

    /// One round of deleting everything; pods go first, the rest when no pod is left that might need it.
    async fn empty(&self, namespace: &str) -> anyhow::Result<Round> {
        let found = discovery::discover(&self.client).await?;
        let mut round = Round { discovery_errors: found.failed, ..Round::default() };
        let kinds = found.kinds.into_iter().filter(|kind| kind.namespaced && kind.can("delete"));
        let (pods, others): (Vec<Served>, Vec<Served>) =
            kinds.partition(|kind| kind.resource.plural == "pods" && kind.resource.group.is_empty());
        for kind in &pods {
            self.empty_kind(namespace, kind, &mut round).await;
        }
        if round.left.is_empty() && round.deletion_errors.is_empty() {
            for kind in &others {
                self.empty_kind(namespace, kind, &mut round).await;
            }
        }
        Ok(round)
    }

    async fn empty_kind(&self, namespace: &str, kind: &Served, round: &mut Round) {
        let name = format!("{}.{}", kind.resource.plural, kind.resource.group);
        match self.try_empty_kind(namespace, kind).await {
            Ok(left) if left.is_empty() => {}
            Ok(left) => {
                round.left.insert(name, left.len());
                let finalizers = left.iter().flat_map(|object| object.finalizers());
                finalizers.for_each(|finalizer| *round.finalizers.entry(finalizer.clone()).or_default() += 1);
            }
            // served no longer, or never listable
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => {}
            Err(error) => round.deletion_errors.push(format!("{name}: {}", said(&error))),
        }
    }

    /// Deletes every instance; those that are left.
    async fn try_empty_kind(
        &self,
        namespace: &str,
        kind: &Served,
    ) -> kube::Result<Vec<PartialObjectMeta<DynamicObject>>> {
        let objects: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        let present = list(&objects, kind).await?;
        if present.is_empty() {
            return Ok(present);
        }
        let params =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        if kind.can("deletecollection") {
            objects.delete_collection(&params, &ListParams::default()).await?;
        } else {
            for object in present {
                api::ignore_not_found(objects.delete(&object.name_any(), &params).await)?;
            }
        }
        list(&objects, kind).await
    }

    async fn report(&self, namespace: &Namespace, round: &Round) -> anyhow::Result<Namespace> {
        let Some(status) = plan::status(namespace, round, api::now()) else { return Ok(namespace.clone()) };
        let new = Namespace { status: Some(status), ..namespace.clone() };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let written = namespaces.replace_status(&namespace.name_any(), &PostParams::default(), &new).await;
        written.context("writing the status")
    }

    /// Takes this controller's finalizer out of the spec, through the subresource made for it.
    async fn finalize(&self, mut namespace: Namespace) -> anyhow::Result<()> {
        let name = namespace.name_any();
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        let body = serde_json::to_vec(&namespace).context("encoding a namespace")?;
        let request = Request::put(format!("/api/v1/namespaces/{name}/finalize"));
        let request = request.header("content-type", "application/json").body(body).context("building a request")?;
        let finalized = self.client.request::<Namespace>(request).await;
        api::ignore_not_found(finalized).context("finalizing a namespace")
    }
}

async fn list(objects: &Api<DynamicObject>, kind: &Served) -> kube::Result<Vec<PartialObjectMeta<DynamicObject>>> {
    let mut all = Vec::new();
    if !kind.can("list") {
        return Ok(all);
    }
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = objects.list_metadata(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}
