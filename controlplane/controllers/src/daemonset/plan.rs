//! Which nodes lack a DaemonSet's pod, which pods are too many or out of date, and its status.
//!
//! Must not know: the API, clocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::jiff::Timestamp;

use super::pod::{self, tolerations};
use crate::deployment::scale;
use crate::history::HASH;
use crate::{pods, taints};

pub struct Seen<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    /// The set's pods, without those that it has deleted already.
    pub pods: &'a [Arc<Pod>],
    /// The hash of the revision that new pods get.
    pub hash: &'a str,
    pub now: Timestamp,
}

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Nodes to create a pod for.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Ended pods, each on its node: deleted with a back-off, since a kubelet may refuse the next one as well.
    pub replace: Vec<(String, Arc<Pod>)>,
}

/// Whether a node should run the pod, and whether one that runs there may stay.
fn should_run(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return (false, false) };
    let named = spec.node_name.as_ref().is_none_or(|name| name.is_empty() || Some(name) == node.metadata.name.as_ref());
    if !named || !taints::allows(spec, node) {
        return (false, false);
    }
    let tolerations: Vec<Toleration> = tolerations(spec);
    let repels = |effects: &[&str], taint: &Taint| {
        effects.contains(&taint.effect.as_str()) && !taints::is_tolerated(&tolerations, taint)
    };
    let all = taints::taints(node);
    let may_start = !all.iter().any(|taint| repels(&["NoSchedule", "NoExecute"], taint));
    let may_stay = !all.iter().any(|taint| repels(&["NoExecute"], taint));
    (may_start, may_stay)
}

/// The pods by the node they run on or are meant for; oldest first.
fn by_node<'a>(seen: &Seen<'a>) -> BTreeMap<&'a str, Vec<&'a Arc<Pod>>> {
    let mut nodes: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in seen.pods {
        if let Some(node) = pod::target_node(pod) {
            nodes.entry(node).or_default().push(pod);
        }
    }
    for pods in nodes.values_mut() {
        pods.sort_by_key(|pod| {
            (pods::node_name(pod).is_empty(), pod.metadata.creation_timestamp.clone(), pod.metadata.uid.clone())
        });
    }
    nodes
}

pub fn plan(seen: &Seen<'_>) -> Plan {
    let mut plan = Plan::default();
    let nodes = by_node(seen);
    for node in seen.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let own = nodes.get(name).map(Vec::as_slice).unwrap_or_default();
        match should_run(seen.set, node) {
            (true, _) if own.is_empty() => plan.create.push(name.to_owned()),
            (start, true) => keep_one(seen, name, own, start, &mut plan),
            (_, false) => {
                plan.delete.extend(own.iter().filter(|pod| !pods::is_terminating(pod)).map(|pod| (*pod).clone()))
            }
        }
    }
    if plan == Plan::default() {
        update(seen, &nodes, &mut plan);
    }
    plan
}

/// Ended pods are replaced; of several that run, the oldest stays, or while surging one of each revision.
fn keep_one(seen: &Seen<'_>, node: &str, own: &[&Arc<Pod>], start: bool, plan: &mut Plan) {
    let here = own.iter().filter(|pod| !pods::is_terminating(pod));
    let (ended, running): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = here.copied().partition(|pod| pods::is_terminal(pod));
    plan.replace.extend(ended.into_iter().map(|pod| (node.to_owned(), pod.clone())));
    if max_surge(seen) == 0 {
        plan.delete.extend(running.into_iter().skip(1).cloned());
        return;
    }
    if running.is_empty() && start {
        plan.create.push(node.to_owned());
    }
    let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = running.into_iter().partition(|pod| is_new(seen, pod));
    plan.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).map(|pod| (*pod).clone()));
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!pods::is_ready(old) || is_available(seen, new))
    {
        plan.delete.push((*old).clone());
    }
}

fn is_new(seen: &Seen<'_>, pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).map(String::as_str) == Some(seen.hash)
}

fn is_available(seen: &Seen<'_>, pod: &Pod) -> bool {
    let min_ready = seen.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    pods::is_available(pod, min_ready, seen.now)
}

fn desired(seen: &Seen<'_>) -> i32 {
    let count = seen.nodes.iter().filter(|node| should_run(seen.set, node).0).count();
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn max_surge(seen: &Seen<'_>) -> i32 {
    let strategy = seen.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let surge =
        strategy.and_then(|strategy| strategy.rolling_update.as_ref()).and_then(|rolling| rolling.max_surge.as_ref());
    surge.map_or(0, |surge| scale::scaled(Some(surge), desired(seen), true))
}

fn max_unavailable(seen: &Seen<'_>) -> i32 {
    let strategy = seen.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let value = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    let number = value.map_or(1, |value| scale::scaled(Some(value), desired(seen), true));
    // as upstream: neither may be zero when both are
    if number == 0 && max_surge(seen) == 0 { 1 } else { number }
}

/// Replaces pods of old revisions, as far as availability or the surge allows.
fn update(seen: &Seen<'_>, nodes: &BTreeMap<&str, Vec<&Arc<Pod>>>, plan: &mut Plan) {
    let strategy = seen.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return;
    }
    let (mut unavailable, mut surging) = (0, 0);
    let mut available: Vec<(&str, &Arc<Pod>)> = Vec::new();
    let mut broken: Vec<(&str, &Arc<Pod>)> = Vec::new();
    for (node, own) in nodes {
        let live = own.iter().filter(|pod| !pods::is_terminating(pod) && !pods::is_terminal(pod));
        let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = live.copied().partition(|pod| is_new(seen, pod));
        match (new.first(), old.first()) {
            (Some(_), Some(_)) => surging += 1,
            (Some(new), None) => unavailable += i32::from(!is_available(seen, new)),
            (None, Some(old)) if is_available(seen, old) => available.push((node, old)),
            (None, Some(old)) => {
                broken.push((node, old));
                unavailable += 1;
            }
            (None, None) => unavailable += 1,
        }
    }
    let surge = max_surge(seen);
    if surge > 0 {
        let room = usize::try_from(surge - surging).unwrap_or(0);
        let extra = available.iter().take(room).chain(&broken);
        plan.create.extend(extra.map(|(node, _)| (*node).to_owned()));
    } else {
        let room = usize::try_from(max_unavailable(seen) - unavailable).unwrap_or(0);
        let candidates = broken.iter().chain(available.iter().take(room));
        plan.delete.extend(candidates.map(|(_, pod)| (*pod).clone()));
    }
}

pub fn status(seen: &Seen<'_>) -> DaemonSetStatus {
    let nodes = by_node(seen);
    let mut status = seen.set.status.clone().unwrap_or_default();
    let (mut desired, mut current, mut misscheduled, mut ready, mut updated, mut available) = (0, 0, 0, 0, 0, 0);
    for node in seen.nodes {
        let (start, _) = should_run(seen.set, node);
        let own = nodes.get(node.metadata.name.as_deref().unwrap_or_default()).map(Vec::as_slice).unwrap_or_default();
        desired += i32::from(start);
        let Some(pod) = own.first() else { continue };
        if !start {
            misscheduled += 1;
            continue;
        }
        current += 1;
        ready += i32::from(pods::is_ready(pod));
        available += i32::from(is_available(seen, pod));
        // while surging, the newest pod is the one that counts as updated
        updated += i32::from(own.iter().any(|pod| is_new(seen, pod)));
    }
    let some = |number: i32| Some(number).filter(|number| *number > 0);
    status.desired_number_scheduled = desired;
    status.current_number_scheduled = current;
    status.number_misscheduled = misscheduled;
    status.number_ready = ready;
    status.updated_number_scheduled = some(updated);
    status.number_available = some(available);
    status.number_unavailable = some(desired - available);
    status.observed_generation = seen.set.metadata.generation;
    status
}
