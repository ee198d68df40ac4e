//! What a namespace that is going away says about what is left of it.
//!
//! Must not know: the API, clocks.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// What a round of deleting met.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Round {
    pub discovery_errors: Vec<String>,
    pub deletion_errors: Vec<String>,
    /// Instances left, by resource (`pods.`, `deployments.apps`).
    pub left: BTreeMap<String, usize>,
    /// Instances left with this finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Round {
    pub fn is_clean(&self) -> bool {
        self.discovery_errors.is_empty() && self.deletion_errors.is_empty() && self.left.is_empty()
    }
}

/// The status to report; None: it is right as it is.
pub fn status(namespace: &Namespace, round: &Round, now: Timestamp) -> Option<NamespaceStatus> {
    let old = namespace.status.clone().unwrap_or_default();
    let mut new = NamespaceStatus { phase: Some("Terminating".into()), ..old.clone() };
    for (type_, failure, (good_reason, good_message)) in findings(round) {
        let (status, reason, message) = match failure {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", good_reason, good_message.to_owned()),
        };
        set(&mut new, type_, status, reason, message, now);
    }
    (new != old).then_some(new)
}

type Finding = (&'static str, Option<(&'static str, String)>, (&'static str, &'static str));

fn findings(round: &Round) -> [Finding; 5] {
    let list = |counts: &BTreeMap<String, usize>, what: fn(&str, usize) -> String| {
        counts.iter().map(|(name, count)| what(name, *count)).collect::<Vec<_>>().join(", ")
    };
    let some = |is: bool, reason, message: String| is.then_some((reason, message));
    let discovery = format!(
        "Discovery failed for some groups, {} failing: {}",
        round.discovery_errors.len(),
        round.discovery_errors.join(", ")
    );
    let deletion = format!(
        "Failed to delete all resource types, {} remaining: {}",
        round.deletion_errors.len(),
        round.deletion_errors.join(", ")
    );
    let left = list(&round.left, |name, count| format!("{name} has {count} resource instances"));
    let finalizers = list(&round.finalizers, |name, count| format!("{name} in {count} resource instances"));
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            some(!round.discovery_errors.is_empty(), "DiscoveryFailed", discovery),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            some(!round.deletion_errors.is_empty(), "ContentDeletionFailed", deletion),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            some(!round.left.is_empty(), "SomeResourcesRemain", format!("Some resources are remaining: {left}")),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            some(
                !round.finalizers.is_empty(),
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {finalizers}"),
            ),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

fn set(status: &mut NamespaceStatus, type_: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let new = NamespaceCondition {
        type_: type_.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(old) if old.status == new.status && old.reason == new.reason && old.message == new.message => {}
        Some(old) => {
            let since = if old.status == new.status {
                old.last_transition_time.clone()
            } else {
                new.last_transition_time.clone()
            };
            *old = NamespaceCondition { last_transition_time: since, ..new };
        }
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_says_what_is_left_and_why() {
        let namespace = Namespace::default();
        let mut round = Round::default();
        round.left.insert("pods.".into(), 2);
        round.finalizers.insert("example.com/keep".into(), 1);
        let status = status(&namespace, &round, Timestamp::UNIX_EPOCH).unwrap();
        let conditions = status.conditions.clone().unwrap();
        let lines: Vec<String> = conditions
            .iter()
            .map(|c| {
                format!("{}={} {}: {}", c.type_, c.status, c.reason.as_ref().unwrap(), c.message.as_ref().unwrap())
            })
            .collect();
        assert_eq!(
            lines,
            [
                "NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered",
                "NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed",
                "NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization",
                "NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: pods. has 2 resource instances",
                "NamespaceFinalizersRemaining=True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances",
            ]
        );
        let again = Namespace { status: Some(status), ..namespace };
        assert_eq!(super::status(&again, &round, Timestamp::from_second(100).unwrap()), None);
    }
}
