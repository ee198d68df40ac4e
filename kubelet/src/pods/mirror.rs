//! Mirror pods: the API's reflection of static pods, made, found again and deleted with them.
//!
//! Must not know: workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_client::Change;
use pintle_client::error::chain;

use super::full_name;
use crate::plan::pod::{self, CONFIG_HASH, CONFIG_MIRROR};
use crate::report::Target;
use crate::sources::files::StaticPods;

/// How often a mirror that could not be made is tried again.
pub const RETRY: Duration = Duration::from_secs(2);

pub struct Mirrors {
    client: Client,
    node: String,
    known: HashMap<String, Arc<Pod>>,
    /// Names with a request under way.
    busy: Arc<Mutex<std::collections::HashSet<String>>>,
}

impl Mirrors {
    pub fn new(client: Client, node: String) -> Self {
        Self { client, node, known: HashMap::new(), busy: Arc::default() }
    }

    /// Takes note of what the API has.
    pub fn note(&mut self, change: &Change<Pod>) {
        let name = full_name(change.object());
        match change {
            Change::Deleted(gone) => {
                if self.known.get(&name).is_some_and(|known| pod::uid(known) == pod::uid(gone)) {
                    self.known.remove(&name);
                }
            }
            Change::Added(mirror) | Change::Modified { new: mirror, .. } => {
                drop(self.known.insert(name, mirror.clone()))
            }
        }
    }

    /// Where the static pod's status goes, and the last one that is there.
    pub fn target(&self, pod: &Pod) -> (Option<Target>, Option<PodStatus>) {
        match self.known.get(&full_name(pod)).filter(|mirror| reflects(mirror, pod)) {
            Some(mirror) => (Some(super::target(mirror)), mirror.status.clone()),
            None => (None, None),
        }
    }

    /// Makes missing mirrors, and deletes those without a static pod or of another one.
    pub fn reconcile(&self, statics: &StaticPods) {
        for pod in statics.values().filter(|pod| !self.known.contains_key(&full_name(pod))) {
            let (api, pod, node, nodes) =
                (self.api(pod), pod.clone(), self.node.clone(), Api::all(self.client.clone()));
            self.once(full_name(&pod), async move { create(&api, nodes, &node, &pod).await });
        }
        for mirror in self.known.values() {
            let wanted = statics.values().any(|pod| full_name(pod) == full_name(mirror) && reflects(mirror, pod));
            let ending = mirror.metadata.deletion_timestamp.is_some();
            if !wanted || ending {
                let (api, mirror) = (self.api(mirror), mirror.clone());
                self.once(full_name(&mirror), async move { delete(&api, &mirror).await });
            }
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod::namespace(pod))
    }

    /// One request per name at a time.
    fn once(&self, name: String, request: impl Future<Output = kube::Result<()>> + Send + 'static) {
        if !self.busy.lock().insert(name.clone()) {
            return;
        }
        let busy = self.busy.clone();
        tokio::spawn(async move {
            if let Err(error) = request.await {
                tracing::warn!(pod = name, "mirror pod: {}", chain(&error));
            }
            busy.lock().remove(&name);
        });
    }
}

fn reflects(mirror: &Pod, pod: &Pod) -> bool {
    let hash = pod::annotation(&pod.metadata, CONFIG_HASH);
    hash.is_some() && pod::annotation(&mirror.metadata, CONFIG_MIRROR) == hash
}

async fn create(api: &Api<Pod>, nodes: Api<Node>, node: &str, pod: &Pod) -> kube::Result<()> {
    let mut mirror = pod.clone();
    let metadata = &mut mirror.metadata;
    metadata.uid = None;
    let annotations = metadata.annotations.get_or_insert_default();
    let hash = annotations.get(CONFIG_HASH).cloned().unwrap_or_default();
    annotations.insert(CONFIG_MIRROR.into(), hash);
    // with its node, the mirror goes too; it is made once the node is registered
    let Some(node) = nodes.get_opt(node).await? else { return Ok(()) };
    metadata.owner_references = Some(vec![owner(&node)]);
    mirror.status = None;
    match api.create(&PostParams::default(), &mirror).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

fn owner(node: &Node) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

async fn delete(api: &Api<Pod>, mirror: &Pod) -> kube::Result<()> {
    let preconditions = Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None };
    let params =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(pod::name(mirror), &params).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}
