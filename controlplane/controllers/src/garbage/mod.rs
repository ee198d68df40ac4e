//! The garbage collector: deletes what lost its last owner, and lets owners go after (foreground) or without (orphan)
//! their dependents. The graph says what to look at; every decision is made on the live object.
//!
//! Must not know: any kind; what there is, discovery says.

mod graph;
mod monitors;

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde_json::json;

use crate::api;
use crate::context::Context;
use crate::discovery::Served;
use crate::work::Outcome;
use graph::{FOREGROUND, Kind, Node, ORPHAN};
use monitors::Monitors;

const NAME: &str = "generic-garbage-collector";

struct Controller {
    client: Client,
    monitors: Monitors,
}

/// Keys are UIDs.
pub async fn run(context: Context) {
    let client = context.client(NAME);
    let queue = context.queue("garbage_collector_attempt_to_delete");
    let monitors = Monitors::new(context.clone(), client.clone(), queue.clone());
    if context.cancel.run_until_cancelled(monitors.start()).await.is_none() {
        return;
    }
    let controller = Arc::new(Controller { client, monitors });
    let collecting = queue.run(20, context.cancel.clone(), |uid| controller.clone().sync(uid));
    tokio::join!(collecting, controller.monitors.follow());
}

/// What a live object's owner references are worth.
#[derive(Default, Debug, PartialEq)]
struct Owners {
    /// They exist.
    solid: Vec<OwnerReference>,
    /// They are gone.
    dangling: Vec<OwnerReference>,
    /// They wait for their dependents to go first.
    waiting: Vec<OwnerReference>,
}

impl Controller {
    async fn sync(self: Arc<Self>, uid: String) -> Outcome {
        let Some(node) = self.monitors.graph.lock().get(&uid) else { return Ok(None) };
        if node.deleting && node.orphan {
            self.orphan(&node).await.context("orphaning dependents")?;
        } else if !node.deleting || node.foreground {
            self.collect(&node).await.with_context(|| format!("collecting {}/{}", node.namespace, node.name))?;
        }
        Ok(None)
    }

    fn served(&self, kind: &Kind) -> anyhow::Result<Arc<Served>> {
        match kind {
            Kind::Served(served) => Ok(served.clone()),
            Kind::Named { api_version, kind } => {
                self.monitors.kind(api_version, kind).with_context(|| format!("{api_version} {kind} is not served"))
            }
        }
    }

    fn objects(&self, kind: &Served, namespace: &str) -> Api<PartialObjectMeta<DynamicObject>> {
        if kind.namespaced && !namespace.is_empty() {
            Api::namespaced_with(self.client.clone(), namespace, &kind.resource)
        } else {
            Api::all_with(self.client.clone(), &kind.resource)
        }
    }

    /// The object as it is now, if it is still that one.
    async fn live(&self, kind: &Served, namespace: &str, name: &str, uid: &str) -> anyhow::Result<Option<ObjectMeta>> {
        let live = self.objects(kind, namespace).get_opt(name).await.context("looking at the object")?;
        Ok(live.map(|object| object.metadata).filter(|meta| meta.uid.as_deref() == Some(uid)))
    }

    fn gone(&self, uid: &str) {
        let look = self.monitors.graph.lock().remove(uid);
        look.into_iter().for_each(|uid| self.monitors.queue.add(uid));
    }

    async fn collect(&self, node: &Node) -> anyhow::Result<()> {
        let kind = self.served(&node.kind)?;
        let Some(live) = self.live(&kind, &node.namespace, &node.name, &node.uid).await? else {
            self.gone(&node.uid);
            return Ok(());
        };
        if node.waits_for_dependents() {
            return self.finish_foreground(node, &kind, &live).await;
        }
        let references = live.owner_references.clone().unwrap_or_default();
        if references.is_empty() || live.deletion_timestamp.is_some() {
            return Ok(());
        }
        let owners = self.classify(references, &kind, &node.namespace).await?;
        self.decide(node, &kind, &live, owners).await
    }

    async fn classify(
        &self,
        references: Vec<OwnerReference>,
        kind: &Served,
        namespace: &str,
    ) -> anyhow::Result<Owners> {
        let mut owners = Owners::default();
        for reference in references {
            if self.monitors.graph.lock().is_absent(&reference.uid) {
                owners.dangling.push(reference);
                continue;
            }
            let named = Kind::Named { api_version: reference.api_version.clone(), kind: reference.kind.clone() };
            let owner_kind = self.served(&named)?;
            if owner_kind.namespaced && !kind.namespaced {
                // cannot be right, and cannot be looked up: nothing is deleted for it
                owners.solid.push(reference);
                continue;
            }
            match self.live(&owner_kind, namespace, &reference.name, &reference.uid).await? {
                None => {
                    self.monitors.graph.lock().note_absent(&reference.uid);
                    owners.dangling.push(reference);
                }
                Some(owner) if owner.deletion_timestamp.is_some() && has_finalizer(&owner, FOREGROUND) => {
                    owners.waiting.push(reference);
                }
                Some(_) => owners.solid.push(reference),
            }
        }
        Ok(owners)
    }

    async fn decide(&self, node: &Node, kind: &Served, live: &ObjectMeta, owners: Owners) -> anyhow::Result<()> {
        if !owners.solid.is_empty() {
            if owners.dangling.is_empty() && owners.waiting.is_empty() {
                return Ok(());
            }
            return self.set_owners(kind, live, owners.solid).await;
        }
        let policy = if !owners.waiting.is_empty() && !node.dependents.is_empty() {
            self.break_circles(node, kind, live).await?;
            PropagationPolicy::Foreground
        } else if has_finalizer(live, ORPHAN) {
            PropagationPolicy::Orphan
        } else if has_finalizer(live, FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        self.delete(kind, live, policy).await
    }

    /// If one of the object's dependents waits for its own dependents, this object may be one of those: it must not
    /// hold its owners up any longer.
    async fn break_circles(&self, node: &Node, kind: &Served, live: &ObjectMeta) -> anyhow::Result<()> {
        let circular = {
            let graph = self.monitors.graph.lock();
            node.dependents.iter().filter_map(|uid| graph.get(uid)).any(|dependent| dependent.waits_for_dependents())
        };
        if circular {
            let references = live.owner_references.iter().flatten().cloned();
            let unblocked =
                references.map(|reference| OwnerReference { block_owner_deletion: Some(false), ..reference });
            let unversioned = ObjectMeta { resource_version: None, ..live.clone() };
            self.set_owners(kind, &unversioned, unblocked.collect()).await?;
        }
        Ok(())
    }

    async fn delete(&self, kind: &Served, live: &ObjectMeta, policy: PropagationPolicy) -> anyhow::Result<()> {
        // had the owners changed meanwhile, the version would have, too; a foreground deletion may follow our own patch
        let version = live.resource_version.clone().filter(|_| policy != PropagationPolicy::Foreground);
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions { uid: live.uid.clone(), resource_version: version }),
            ..DeleteParams::default()
        };
        let objects = self.objects(kind, live.namespace.as_deref().unwrap_or_default());
        let deleted = objects.delete(live.name.as_deref().unwrap_or_default(), &params).await;
        api::ignore_not_found(deleted).context("deleting a dependent")
    }

    /// Lets an owner go whose dependents are gone, or sees to those that are not.
    async fn finish_foreground(&self, node: &Node, kind: &Served, live: &ObjectMeta) -> anyhow::Result<()> {
        let blocking = self.monitors.graph.lock().blocking(&node.uid);
        if blocking.is_empty() {
            return self.remove_finalizer(kind, live, FOREGROUND).await;
        }
        let idle = blocking.into_iter().filter(|dependent| !dependent.waits_for_dependents());
        idle.for_each(|dependent| self.monitors.queue.add(dependent.uid));
        Ok(())
    }

    async fn orphan(&self, node: &Node) -> anyhow::Result<()> {
        for uid in &node.dependents {
            let Some(dependent) = self.monitors.graph.lock().get(uid) else { continue };
            let kind = self.served(&dependent.kind)?;
            let live = self.live(&kind, &dependent.namespace, &dependent.name, uid).await?;
            let Some(live) = live else { continue };
            let others = live.owner_references.iter().flatten().filter(|reference| reference.uid != node.uid);
            self.set_owners(&kind, &live, others.cloned().collect()).await?;
        }
        let kind = self.served(&node.kind)?;
        match self.live(&kind, &node.namespace, &node.name, &node.uid).await? {
            Some(live) => self.remove_finalizer(&kind, &live, ORPHAN).await,
            None => Ok(()),
        }
    }

    async fn remove_finalizer(&self, kind: &Served, live: &ObjectMeta, finalizer: &str) -> anyhow::Result<()> {
        let left = live.finalizers.iter().flatten().filter(|own| *own != finalizer);
        let left: Vec<&String> = left.collect();
        self.patch(kind, live, json!({"finalizers": left})).await
    }

    async fn set_owners(&self, kind: &Served, live: &ObjectMeta, owners: Vec<OwnerReference>) -> anyhow::Result<()> {
        self.patch(kind, live, json!({"ownerReferences": owners})).await
    }

    async fn patch(&self, kind: &Served, live: &ObjectMeta, mut metadata: serde_json::Value) -> anyhow::Result<()> {
        metadata["uid"] = json!(live.uid);
        if let Some(version) = &live.resource_version {
            metadata["resourceVersion"] = json!(version);
        }
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let objects = self.objects(kind, live.namespace.as_deref().unwrap_or_default());
        let name = live.name.as_deref().unwrap_or_default();
        let patched = objects.patch(name, &PatchParams::default(), &patch).await;
        api::ignore_not_found(patched).context("changing an object's metadata")
    }
}

fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|own| own == finalizer)
}
