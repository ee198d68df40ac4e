//! DefaultPreemption: which pods of less priority go, so that a pod that fits nowhere fits somewhere.
//!
//! Source: `pkg/scheduler/framework/plugins/defaultpreemption` and `framework/preemption`.
//!
//! Must not know: clients, clocks, or how pods are made to go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use pintle_api::selector::LabelSelector;

use super::node::Table;
use super::pod::PodInfo;
use super::{Cycle, Rejection, Unschedulable, filter, histogram};

/// More nodes than a tenth of all are not looked at, but at least so many.
const CANDIDATES: usize = 100;

/// How many of some pods may still be disrupted.
#[derive(Debug, Clone)]
pub struct Budget {
    namespace: String,
    selector: LabelSelector,
    allowed: i64,
    /// Names of pods that the budget has let go already.
    disrupted: BTreeSet<String>,
}

impl Budget {
    pub fn of(budget: &PodDisruptionBudget) -> Self {
        let (spec, status) = (budget.spec.as_ref(), budget.status.as_ref());
        let selector = LabelSelector::from_metav1(spec.and_then(|spec| spec.selector.as_ref()));
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        Self {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            selector: selector.unwrap_or(LabelSelector::NOTHING),
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0).into(),
            disrupted: disrupted.into_iter().flat_map(|pods| pods.keys().cloned()).collect(),
        }
    }

    fn covers(&self, pod: &PodInfo) -> bool {
        self.namespace == pod.namespace
            && !pod.labels.is_empty()
            && !self.selector.is_everything()
            && self.selector.matches(&pod.labels)
            && !self.disrupted.contains(&pod.name)
    }
}

/// Who has to go, the most important first, and from where.
#[derive(Debug, Clone, PartialEq)]
pub struct Victims {
    pub node: String,
    pub pods: Vec<Arc<PodInfo>>,
    /// How many of them a budget would keep.
    violations: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Preempt(Victims),
    /// Nobody goes, for this reason; `waits`: who was made to go before is still on the way out.
    Nobody {
        why: String,
        waits: bool,
    },
}

/// Decides for a pod that `why` says fits nowhere. The table is as it was when this returns.
pub fn plan(pod: &PodInfo, table: &mut Table, budgets: &[Budget], why: &Unschedulable, turn: usize) -> Outcome {
    let nobody = |why: &str, waits| Outcome::Nobody { why: why.to_owned(), waits };
    if !pod.preempts {
        return nobody("not eligible due to preemptionPolicy=Never.", false);
    }
    if waits(pod, table, why) {
        return nobody("not eligible due to a terminating pod on the nominated node.", true);
    }
    let candidates: Vec<&str> =
        why.rejections.iter().filter(|(_, rejection)| rejection.resolvable).map(|(node, _)| node.as_str()).collect();
    let enough = (table.nodes().len() / 10).max(CANDIDATES);
    let (mut found, mut reasons) = (Vec::new(), BTreeMap::<String, usize>::new());
    let count =
        |reasons: &mut BTreeMap<String, usize>, reason: &str| *reasons.entry(reason.to_owned()).or_default() += 1;
    for node in candidates.iter().cycle().skip(turn % candidates.len().max(1)).take(candidates.len()) {
        match victims(pod, table, budgets, node) {
            Ok(victims) => found.push(victims),
            Err(rejected) => rejected.iter().for_each(|reason| count(&mut reasons, reason)),
        }
        if found.len() >= enough {
            break;
        }
    }
    if let Some(best) = best(found) {
        return Outcome::Preempt(best);
    }
    for _ in why.rejections.iter().filter(|(_, rejection)| !rejection.resolvable) {
        count(&mut reasons, "Preemption is not helpful for scheduling");
    }
    let all = table.nodes().len();
    nobody(&format!("0/{all} nodes are available: {}.", histogram(&reasons)), false)
}

/// Whether somebody of less priority is already leaving the node that the pod was promised.
fn waits(pod: &PodInfo, table: &Table, why: &Unschedulable) -> bool {
    let Some(nominated) = pod.nominated.as_deref() else { return false };
    let hopeless = why.rejections.iter().any(|(node, rejection)| node == nominated && !rejection.resolvable);
    let leaving = |other: &Arc<PodInfo>| other.terminating && other.priority < pod.priority;
    !hopeless && table.node(nominated).is_some_and(|node| node.pods.values().any(leaving))
}

/// Whose going from the node lets the pod in: of those of less priority all but whom it fits beside.
fn victims(pod: &PodInfo, table: &mut Table, budgets: &[Budget], node: &str) -> Result<Victims, Vec<String>> {
    let there = table.node(node).into_iter().flat_map(|node| node.pods.values());
    let mut potential: Vec<Arc<PodInfo>> = there.filter(|other| other.priority < pod.priority).cloned().collect();
    if potential.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    for other in &potential {
        table.remove_pod(&other.uid);
    }
    potential.sort_by_key(importance);
    let chosen = fits(pod, table, node).map(|()| reprieve(pod, table, budgets, node, &potential));
    potential.into_iter().for_each(|other| table.put_pod(other));
    let (mut pods, violations) = chosen.map_err(|rejection| rejection.reasons)?;
    pods.sort_by_key(importance);
    Ok(Victims { node: node.to_owned(), pods, violations })
}

/// Higher priority first, then who has run longer; who does not run yet is last.
fn importance(pod: &Arc<PodInfo>) -> (Reverse<i32>, i64) {
    (Reverse(pod.priority), pod.started.unwrap_or(i64::MAX))
}

fn fits(pod: &PodInfo, table: &Table, node: &str) -> Result<(), Rejection> {
    let Some(found) = table.node(node) else { return Ok(()) };
    filter(&Cycle::new(pod, table), found)
}

/// Puts back whom the pod fits beside, those first whom a budget protects. Who has to go, and how many of them are
/// protected.
fn reprieve(
    pod: &PodInfo,
    table: &mut Table,
    budgets: &[Budget],
    node: &str,
    potential: &[Arc<PodInfo>],
) -> (Vec<Arc<PodInfo>>, usize) {
    let (protected, others) = by_protection(potential, budgets);
    let mut pods = Vec::new();
    let mut violations = 0;
    let protected = protected.into_iter().map(|other| (other, true));
    for (other, is_protected) in protected.chain(others.into_iter().map(|other| (other, false))) {
        table.put_pod(other.clone());
        if fits(pod, table, node).is_err() {
            table.remove_pod(&other.uid);
            violations += usize::from(is_protected);
            pods.push(other);
        }
    }
    (pods, violations)
}

/// Those whose going would break a budget, and those whose would not.
fn by_protection(pods: &[Arc<PodInfo>], budgets: &[Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut left: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.iter().cloned().partition(|pod| {
        let mut broken = false;
        for (budget, left) in budgets.iter().zip(&mut left).filter(|(budget, _)| budget.covers(pod)) {
            *left -= 1;
            broken |= *left < 0 && !budget.disrupted.contains(&pod.name);
        }
        broken
    })
}

/// Fewest broken budgets; then the least important victim at the top, the least in all, the fewest, and the youngest.
fn best(found: Vec<Victims>) -> Option<Victims> {
    found.into_iter().min_by_key(|victims| {
        let highest = victims.pods.first().map_or(i32::MIN, |pod| pod.priority);
        let sum: i64 = victims.pods.iter().map(|pod| i64::from(pod.priority) + (1 << 31)).sum();
        let top = victims.pods.iter().filter(|pod| pod.priority == highest);
        let earliest = top.map(|pod| pod.started.unwrap_or(i64::MAX)).min().unwrap_or(i64::MAX);
        (victims.violations, highest, sum, victims.pods.len(), Reverse(earliest))
    })
}
