//! The resource quota controller: writes down what every quota limits, and counts again what is used when something
//! goes (what comes, admission counts).
//!
//! Must not know: who is refused.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_api::quantity::Quantity;
use pintle_api::quota::{self, Counted, pods};
use pintle_api::resources::{self, Amounts, amounts, written};
use pintle_client::{Change, ObjectKey, Reflector};
use tokio::sync::broadcast::error::RecvError;

use crate::api;
use crate::context::{Context, Deletion};
use crate::discovery::{self, Served};
use crate::work::{Outcome, Queue};

const NAME: &str = "resourcequota-controller";
/// Everything is counted again this often, as upstream's `--resource-quota-sync-period`.
const RESYNC: Duration = Duration::from_secs(300);

struct Controller {
    context: Context,
    client: Client,
    /// As discovery showed them last.
    kinds: Mutex<Arc<Vec<Served>>>,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(
        caches.resource_quotas.synced(),
        caches.pods.synced(),
        caches.services.synced(),
        caches.claims.synced()
    );
    let queue = context.queue("resourcequota_primary");
    context.feed(&caches.resource_quotas, &queue, |change| match change {
        Change::Added(quota) => vec![ObjectKey::of(quota.as_ref())],
        Change::Modified { old, new } if old.spec != new.spec => vec![ObjectKey::of(new.as_ref())],
        _ => Vec::new(),
    });
    feed_freed(&context, &queue);
    let client = context.client(NAME);
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context: context.clone(), client, kinds: Mutex::default() });
    let counting = queue.run(5, cancel, |key| controller.clone().sync(key));
    tokio::join!(counting, follow(&context, &queue));
}

/// What uses less than before, or may.
fn feed_freed(context: &Context, queue: &Queue<ObjectKey>) {
    let caches = &context.caches;
    let quotas = caches.resource_quotas.clone();
    context.feed(&caches.pods, queue, move |change| match frees(change) {
        true => concerned(&quotas, &change.object().metadata.namespace, "", "pods"),
        false => Vec::new(),
    });
    let quotas = caches.resource_quotas.clone();
    context.feed(&caches.services, queue, move |change| match change {
        Change::Modified { old, new } if old.spec == new.spec => Vec::new(),
        Change::Added(_) => Vec::new(),
        other => concerned(&quotas, &other.object().metadata.namespace, "", "services"),
    });
    let quotas = caches.resource_quotas.clone();
    context.feed(&caches.claims, queue, move |change| match change {
        Change::Added(_) => Vec::new(),
        other => concerned(&quotas, &other.object().metadata.namespace, "", "persistentvolumeclaims"),
    });
}

fn frees(change: &Change<Pod>) -> bool {
    let now = Timestamp::now();
    match change {
        Change::Added(_) => false,
        Change::Deleted(_) => true,
        Change::Modified { old, new } => {
            pods::is_counted(old, now) && !pods::is_counted(new, now)
                || pods::has_deadline(old) != pods::has_deadline(new)
        }
    }
}

/// The quotas of the namespace that count the kind.
fn concerned(
    quotas: &Reflector<ResourceQuota>,
    namespace: &Option<String>,
    group: &str,
    plural: &str,
) -> Vec<ObjectKey> {
    let all = quotas.list_namespace(namespace.as_deref().unwrap_or_default());
    let counts = |quota: &ResourceQuota| quota::hard(quota).keys().any(|name| quota::concerns(group, plural, name));
    all.iter().filter(|quota| counts(quota)).map(|quota| ObjectKey::of(quota.as_ref())).collect()
}

/// Objects of other kinds that go.
async fn follow(context: &Context, queue: &Queue<ObjectKey>) {
    let mut deletions = context.deletions.subscribe();
    let quotas = &context.caches.resource_quotas;
    loop {
        let next = context.cancel.run_until_cancelled(deletions.recv()).await;
        match next {
            Some(Ok(Deletion { kind, namespace })) => {
                let resource = &kind.resource;
                let keys = concerned(quotas, &Some(namespace), &resource.group, &resource.plural);
                keys.into_iter().for_each(|key| queue.add(key));
            }
            Some(Err(RecvError::Lagged(_))) => {
                quotas.list().iter().for_each(|quota| queue.add(ObjectKey::of(quota.as_ref())));
            }
            Some(Err(RecvError::Closed)) | None => return,
        }
    }
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let Some(quota) = self.context.caches.resource_quotas.get(&key.namespace, &key.name) else { return Ok(None) };
        let hard = quota::hard(&quota);
        let before = amounts(quota.status.as_ref().and_then(|status| status.used.as_ref()));
        let mut used = quota::masked(&before, &hard);
        used.extend(self.count(&quota, &hard).await?);
        // what is as it was is written, too: where the cache is behind what admission wrote, that is a conflict, and told
        // from now on; where it is not, nothing changes
        let status = ResourceQuotaStatus { hard: Some(written(&hard)), used: Some(written(&used)) };
        let counted = ResourceQuota { status: Some(status), ..(*quota).clone() };
        let quotas = api::namespaced::<ResourceQuota>(&self.client, &key.namespace);
        let result = quotas.replace_status(&key.name, &PostParams::default(), &counted).await;
        api::ignore_not_found(result).context("writing what a quota's namespace uses")?;
        Ok(Some(RESYNC))
    }

    /// What is used now of everything that the quota limits and anybody counts.
    async fn count(&self, quota: &ResourceQuota, hard: &Amounts) -> anyhow::Result<Amounts> {
        let namespace = quota.metadata.namespace.as_deref().unwrap_or_default();
        let mut used = Amounts::new();
        let (caches, now) = (&self.context.caches, Timestamp::now());
        let wants = |plural: &str| hard.keys().any(|name| quota::concerns("", plural, name));
        if wants("pods") {
            let all = caches.pods.list_namespace(namespace);
            tally(&mut used, quota, "pods", all.iter().map(|pod: &Arc<Pod>| Counted::Pod(pod, now)));
        }
        if wants("services") {
            let all = caches.services.list_namespace(namespace);
            tally(&mut used, quota, "services", all.iter().map(|service: &Arc<Service>| Counted::Service(service)));
        }
        if wants("persistentvolumeclaims") {
            let all = caches.claims.list_namespace(namespace);
            let claims = all.iter().map(|claim: &Arc<PersistentVolumeClaim>| Counted::Claim(claim));
            tally(&mut used, quota, "persistentvolumeclaims", claims);
        }
        for name in hard.keys().filter(|name| !used.contains_key(*name)).cloned().collect::<Vec<_>>() {
            if let Some(kind) = self.kind(&name).await? {
                let count = if quota::scopes(quota).is_empty() { self.number(&kind, namespace).await? } else { 0 };
                used.insert(name, Quantity::new(count, pintle_api::quantity::Format::DecimalSI));
            }
        }
        Ok(used)
    }

    /// The kind whose objects a name counts, if it is one of those that are only counted.
    async fn kind(&self, name: &str) -> anyhow::Result<Option<Served>> {
        let counted = |kind: &&Served| {
            let (group, plural) = (&kind.resource.group, &kind.resource.plural);
            kind.namespaced
                && kind.can("list")
                && !quota::is_ignored(group, plural)
                && quota::concerns(group, plural, name)
        };
        let known = self.kinds.lock().clone();
        if let Some(found) = known.iter().find(counted) {
            return Ok(Some(found.clone()));
        }
        if !name.starts_with("count/") && !known.is_empty() {
            return Ok(None);
        }
        let fresh = Arc::new(discovery::discover(&self.client).await.context("looking for the kinds to count")?.kinds);
        *self.kinds.lock() = fresh.clone();
        Ok(fresh.iter().find(counted).cloned())
    }

    /// How many objects of the kind there are, without reading them.
    async fn number(&self, kind: &Served, namespace: &str) -> anyhow::Result<i64> {
        let objects: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        let page = objects.list_metadata(&ListParams::default().limit(1)).await.context("counting objects")?;
        let here = i64::try_from(page.items.len()).unwrap_or(0);
        Ok(here + page.metadata.remaining_item_count.unwrap_or(0))
    }
}

/// Adds up what the objects in the quota's scopes use; what none uses is zero.
fn tally<'a>(used: &mut Amounts, quota: &ResourceQuota, plural: &str, objects: impl Iterator<Item = Counted<'a>>) {
    let hard = quota::hard(quota);
    let names = hard.keys().filter(|name| quota::concerns("", plural, name));
    let mut sum: Amounts = names.map(|name| (name.clone(), Quantity::ZERO)).collect();
    for object in objects.filter(|object| object.is_in_scopes(quota)) {
        resources::add(&mut sum, &quota::masked(&object.usage(), &hard));
    }
    used.extend(sum);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_uses_is_zero_and_ended_pods_use_nothing() {
        let quota: ResourceQuota = serde_json::from_value(json!({ "metadata": { "name": "q" },
            "spec": { "hard": { "pods": "5", "requests.cpu": "1", "services": "3" } } }))
        .unwrap();
        let pod = |phase: &str| -> Pod {
            serde_json::from_value(json!({ "status": { "phase": phase }, "spec": { "containers": [
                { "name": "c", "resources": { "requests": { "cpu": "100m" } } }] } }))
            .unwrap()
        };
        let (running, ended) = (pod("Running"), pod("Failed"));
        let now = Timestamp::UNIX_EPOCH;
        let mut used = Amounts::new();
        tally(&mut used, &quota, "pods", [&running, &ended, &running].into_iter().map(|pod| Counted::Pod(pod, now)));
        tally(&mut used, &quota, "services", [].into_iter());
        let shown: Vec<String> = used.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        assert_eq!(shown, ["pods=2", "requests.cpu=200m", "services=0"]);
    }
}
