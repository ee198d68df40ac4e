//! The EndpointSlice and Endpoints controllers: which pods a Service leads to.
//!
//! Must not know: how packets get there.

mod facts;
pub mod mirror;
mod slices;
mod subsets;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use pintle_client::events::{Recorder, reference};
use pintle_client::{Change, ObjectKey};

use crate::api;
use crate::context::{Caches, Context};
use crate::ledger::Ledger;
use crate::pod_control::said;
use crate::work::{Outcome, Queue};

/// Looks again this soon after the caches were found to lag, or a node to be missing.
const LAG: Duration = Duration::from_secs(1);

/// Puts every Service into `queue` that itself changed or whose pods did.
fn feed_services(context: &Context, queue: &Queue<ObjectKey>) {
    let caches = context.caches.clone();
    context.feed(&caches.services, queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let services = caches.clone();
    context.feed(&caches.pods, queue, move |change| services_of(&services, change));
}

fn services_of(caches: &Caches, change: &Change<Pod>) -> Vec<ObjectKey> {
    let (old, new) = match change {
        Change::Modified { old, new } if facts::is_same(old, new) => return Vec::new(),
        Change::Modified { old, new } => (Some(old), new),
        Change::Added(new) | Change::Deleted(new) => (None, new),
    };
    let services = caches.services.list_namespace(new.metadata.namespace.as_deref().unwrap_or_default());
    let concerned = |service: &Service| [Some(new), old].into_iter().flatten().any(|pod| facts::selects(service, pod));
    services.iter().filter(|service| concerned(service)).map(|service| ObjectKey::of(service.as_ref())).collect()
}

fn pods_of(caches: &Caches, service: &Service) -> Vec<Arc<Pod>> {
    let mut pods = caches.pods.list_namespace(service.metadata.namespace.as_deref().unwrap_or_default());
    pods.retain(|pod| facts::selects(service, pod));
    pods.sort_by_key(|pod| pod.metadata.uid.clone());
    pods
}

/// The EndpointSlice controller.
pub mod slice_controller {
    use super::*;

    const NAME: &str = "endpointslice-controller";
    const COMPONENT: &str = "endpoint-slice-controller";
    const ZONE: &str = "topology.kubernetes.io/zone";

    struct Controller {
        context: Context,
        client: Client,
        recorder: Recorder,
        ledger: Ledger,
    }

    pub async fn run(context: Context) {
        let caches = context.caches.clone();
        tokio::join!(
            caches.services.synced(),
            caches.pods.synced(),
            caches.endpoint_slices.synced(),
            caches.nodes.synced()
        );
        let queue = context.queue("endpoint_slice");
        feed_services(&context, &queue);
        context.feed(&caches.endpoint_slices, &queue, |change| {
            let slice = change.object();
            let own = slice.labels().get(slices::MANAGED_BY).is_some_and(|manager| manager == slices::MANAGER);
            let service = slice.labels().get(slices::SERVICE_NAME).filter(|_| own);
            service.map(|service| ObjectKey::new(slice.namespace().unwrap_or_default(), service)).into_iter().collect()
        });
        let client = context.client(NAME);
        let recorder = context.recorder(&client, COMPONENT);
        let cancel = context.cancel.clone();
        let controller = Arc::new(Controller { context, client, recorder, ledger: Ledger::default() });
        queue.run(5, cancel, |key| controller.clone().sync(key)).await;
    }

    impl Controller {
        async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
            let Some(service) = self.context.caches.services.get(&key.namespace, &key.name) else { return Ok(None) };
            if facts::selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
                return Ok(None);
            }
            let uid = service.metadata.uid.clone().unwrap_or_default();
            if self.ledger.is_behind(&uid, &self.context.caches.endpoint_slices) {
                return Ok(Some(LAG));
            }
            let (plan, missing_node) = self.plan(&service, &uid);
            if let Err(error) = self.apply(&service, &uid, plan).await {
                let what = format!("Error updating Endpoint Slices for Service {key}: {}", said(&error));
                self.recorder.warning(&reference(service.as_ref()), "FailedToUpdateEndpointSlices", what);
                return Err(error).context("updating EndpointSlices");
            }
            Ok(missing_node.then_some(LAG))
        }

        fn plan(&self, service: &Service, uid: &str) -> (slices::Plan, bool) {
            let caches = &self.context.caches;
            let mut slices =
                caches.endpoint_slices.list_namespace(service.metadata.namespace.as_deref().unwrap_or_default());
            let name = service.metadata.name.as_ref();
            slices.retain(|slice| {
                let labels = slice.labels();
                labels.get(slices::SERVICE_NAME) == name
                    && labels.get(slices::MANAGED_BY).is_some_and(|manager| manager == slices::MANAGER)
                    && slice.metadata.deletion_timestamp.is_none()
            });
            slices.sort_by_key(|slice| slice.metadata.name.clone());
            let present: HashSet<&str> = slices.iter().filter_map(|slice| slice.metadata.uid.as_deref()).collect();
            let deleting = self.ledger.still_deleting(uid, &present);
            slices.retain(|slice| !slice.metadata.uid.as_ref().is_some_and(|uid| deleting.contains(uid)));
            let mut zones = HashMap::new();
            caches.nodes.for_each(|node| {
                zones.insert(node.name_any(), node.labels().get(ZONE).cloned());
            });
            let plan = slices::plan(&slices::Seen { service, pods: pods_of(caches, service), slices, zones: &zones });
            let missing_node = plan.missing_node;
            (plan, missing_node)
        }

        async fn apply(&self, service: &Service, uid: &str, plan: slices::Plan) -> Result<(), kube::Error> {
            let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
            let slices: Api<EndpointSlice> = api::namespaced(&self.client, namespace);
            for slice in plan.create {
                match slices.create(&PostParams::default(), &slice).await {
                    Err(error) if api::is_namespace_terminating(&error) => return Ok(()),
                    created => self.ledger.wrote(uid, &created?),
                }
            }
            for slice in plan.update {
                let written = slices.replace(&slice.name_any(), &PostParams::default(), &slice).await?;
                self.ledger.wrote(uid, &written);
            }
            for slice in plan.delete {
                let params = api::delete_uid(slice.metadata.uid.as_ref());
                api::ignore_not_found(slices.delete(&slice.name_any(), &params).await)?;
                self.ledger.deleted(uid, slice.metadata.uid.as_deref().unwrap_or_default());
            }
            Ok(())
        }
    }
}

/// The Endpoints controller.
pub mod endpoints_controller {
    use super::*;

    const NAME: &str = "endpoint-controller";

    struct Controller {
        context: Context,
        client: Client,
    }

    pub async fn run(context: Context) {
        let caches = context.caches.clone();
        tokio::join!(caches.services.synced(), caches.pods.synced(), caches.endpoints.synced());
        let queue = context.queue("endpoint");
        feed_services(&context, &queue);
        context.feed(&caches.endpoints, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
        let client = context.client(NAME);
        let cancel = context.cancel.clone();
        let controller = Arc::new(Controller { context, client });
        queue.run(5, cancel, |key| controller.clone().sync(key)).await;
    }

    impl Controller {
        async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
            let caches = &self.context.caches;
            let endpoints: Api<Endpoints> = api::namespaced(&self.client, &key.namespace);
            let present = caches.endpoints.get(&key.namespace, &key.name);
            let Some(service) = caches.services.get(&key.namespace, &key.name) else {
                if let Some(present) = present.filter(|present| is_own(present)) {
                    let params = api::delete_uid(present.metadata.uid.as_ref());
                    api::ignore_not_found(endpoints.delete(&key.name, &params).await).context("deleting Endpoints")?;
                }
                return Ok(None);
            };
            if facts::selector(&service).is_none() {
                return Ok(None);
            }
            let Some(wanted) = subsets::plan(&service, &pods_of(caches, &service), present.as_deref()) else {
                return Ok(None);
            };
            let written = match present {
                Some(_) => endpoints.replace(&key.name, &PostParams::default(), &wanted).await,
                None => endpoints.create(&PostParams::default(), &wanted).await,
            };
            match written {
                Err(error) if api::is_namespace_terminating(&error) => Ok(None),
                // the cache lags: its next event brings this key back
                Err(error) if api::is_already_exists(&error) => Ok(Some(LAG)),
                other => other.map(|_| None).context("writing Endpoints"),
            }
        }
    }

    /// Endpoints outlive a Service only if somebody else made them.
    fn is_own(endpoints: &Endpoints) -> bool {
        endpoints.labels().get("endpoints.kubernetes.io/managed-by").is_some_and(|manager| manager == NAME)
    }
}
