//! PodDisruptionBudgets: how many of the pods that a budget covers may be evicted now.
//!
//! Must not know: evictions; the API server refuses those that the status does not allow.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::PostParams;
use pintle_client::{Change, ObjectKey};

use crate::context::{Caches, Context};
use crate::deployment::scale;
use crate::work::Outcome;
use crate::{api, owner, pods};

/// An eviction that was allowed but has not deleted its pod after this long will not do so any more.
const DISRUPTION_TIMEOUT: i64 = 120;

struct Controller {
    context: Context,
    client: Client,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.disruption_budgets.synced(), caches.pods.synced(), caches.replica_sets.synced());
    let queue = context.queue("disruption");
    context.feed(&caches.disruption_budgets, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let budgets = caches.disruption_budgets.clone();
    context.feed(&caches.pods, &queue, move |change: &Change<Pod>| {
        let pod = change.object();
        let budgets = budgets.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default());
        let covering = budgets.iter().filter(|budget| covers(budget, pod));
        covering.map(|budget| ObjectKey::of(budget.as_ref())).collect()
    });
    let client = context.client("disruption-controller");
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client });
    queue.run(2, cancel, |key| controller.clone().sync(key)).await;
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = owner::selector(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
    selector.is_some_and(|selector| owner::matches(&selector, pod.metadata.labels.as_ref()))
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let caches = &self.context.caches;
        let Some(budget) = caches.disruption_budgets.get(&key.namespace, &key.name) else { return Ok(None) };
        let mut covered = caches.pods.list_namespace(&key.namespace);
        covered.retain(|pod| covers(&budget, pod));
        let owned = expected_by_owners(caches, &covered);
        let now = api::now();
        let status = status(&budget, &covered, owned, now);
        let again = (!status.disrupted_pods.as_ref().is_none_or(BTreeMap::is_empty))
            .then(|| Duration::from_secs(DISRUPTION_TIMEOUT.unsigned_abs()));
        if budget.status.as_ref() != Some(&status) {
            let budgets = api::namespaced::<PodDisruptionBudget>(&self.client, &key.namespace);
            let new = PodDisruptionBudget { status: Some(status), ..budget.as_ref().clone() };
            let written = budgets.replace_status(&key.name, &PostParams::default(), &new).await;
            api::ignore_not_found(written).context("writing the status")?;
        }
        Ok(again)
    }
}

/// How many pods the owners of these pods want together; each owner counts once.
fn expected_by_owners(caches: &Caches, covered: &[Arc<Pod>]) -> i32 {
    let mut wanted: HashMap<String, i32> = HashMap::new();
    for pod in covered {
        let Some(reference) = owner::controller_of(&pod.metadata) else { continue };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (uid, count) = match reference.kind.as_str() {
            "ReplicaSet" => replica_set_size(caches, namespace, &reference.name),
            "StatefulSet" => {
                let set = caches.stateful_sets.get(namespace, &reference.name);
                let count = set.and_then(|set| set.spec.as_ref().and_then(|spec| spec.replicas)).unwrap_or(0);
                (reference.uid.clone(), count)
            }
            _ => continue,
        };
        wanted.insert(uid, count);
    }
    wanted.values().sum()
}

/// A ReplicaSet of a Deployment counts as the Deployment.
fn replica_set_size(caches: &Caches, namespace: &str, name: &str) -> (String, i32) {
    let Some(set) = caches.replica_sets.get(namespace, name) else { return (name.to_owned(), 0) };
    let deployment = owner::controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment");
    let deployment = deployment.and_then(|owner| caches.deployments.get(namespace, &owner.name));
    match deployment {
        Some(deployment) => (deployment.metadata.uid.clone().unwrap_or_default(), scale::replicas(&deployment)),
        None => (set.metadata.uid.clone().unwrap_or_default(), scale::size(&set)),
    }
}

/// `owned`: how many pods the owners of the covered pods want.
fn status(budget: &PodDisruptionBudget, covered: &[Arc<Pod>], owned: i32, now: Timestamp) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let spec = budget.spec.clone().unwrap_or_default();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (owned, (owned - scale::scaled(Some(most), owned, true)).max(0)),
        (None, Some(IntOrString::Int(least))) => (count(covered.len()), *least),
        (None, Some(least)) => (owned, scale::scaled(Some(least), owned, true)),
        (None, None) => (owned, owned),
    };
    let disrupted = still_disrupted(&old, covered, now);
    let is_disrupted = |pod: &Pod| disrupted.contains_key(pods::name(pod));
    let healthy = covered.iter().filter(|pod| !pods::is_terminating(pod) && pods::is_ready(pod) && !is_disrupted(pod));
    let current = count(healthy.count());
    let allowed = if expected > 0 { (current - desired).max(0) } else { 0 };
    PodDisruptionBudgetStatus {
        current_healthy: Some(current),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        conditions: Some(vec![condition(&old, allowed > 0, budget.metadata.generation, now)]),
        disrupted_pods: Some(disrupted).filter(|disrupted| !disrupted.is_empty()),
        observed_generation: budget.metadata.generation,
    }
}

/// Pods whose eviction was allowed a moment ago and that are still there.
fn still_disrupted(old: &PodDisruptionBudgetStatus, covered: &[Arc<Pod>], now: Timestamp) -> BTreeMap<String, Time> {
    let all = old.disrupted_pods.iter().flatten();
    let recent = all.filter(|(_, since)| since.0 + SignedDuration::from_secs(DISRUPTION_TIMEOUT) > now);
    let present = |name: &str| covered.iter().any(|pod| pods::name(pod) == name && !pods::is_terminating(pod));
    recent.filter(|(name, _)| present(name)).map(|(name, since)| (name.clone(), since.clone())).collect()
}

fn condition(old: &PodDisruptionBudgetStatus, allowed: bool, generation: Option<i64>, now: Timestamp) -> Condition {
    let (status, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let before = old.conditions.iter().flatten().find(|condition| condition.type_ == "DisruptionAllowed");
    let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Condition {
        type_: "DisruptionAllowed".into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn allowed(spec: Value, ready: usize, total: usize, owned: i32) -> (i32, i32) {
        let budget: PodDisruptionBudget =
            serde_json::from_value(json!({"metadata": {"name": "b"}, "spec": spec})).unwrap();
        let pod = |number: usize| {
            let status = if number < ready { "True" } else { "False" };
            let pod = json!({"metadata": {"name": format!("p{number}")}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let pods: Vec<Arc<Pod>> = (0..total).map(pod).collect();
        let status = status(&budget, &pods, owned, Timestamp::UNIX_EPOCH);
        (status.desired_healthy.unwrap(), status.disruptions_allowed.unwrap())
    }

    #[test]
    fn a_budget_allows_what_exceeds_the_healthy_pods_it_wants() {
        assert_eq!(allowed(json!({"minAvailable": 2}), 3, 3, 3), (2, 1));
        assert_eq!(allowed(json!({"minAvailable": 2}), 1, 3, 3), (2, 0));
        assert_eq!(allowed(json!({"minAvailable": "50%"}), 5, 5, 5), (3, 2));
        assert_eq!(allowed(json!({"maxUnavailable": 1}), 3, 3, 3), (2, 1));
        assert_eq!(allowed(json!({"maxUnavailable": 1}), 2, 2, 3), (2, 0));
        assert_eq!(allowed(json!({"minAvailable": 0}), 0, 0, 0), (0, 0));
    }
}
