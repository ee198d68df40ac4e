//! What objects count against ResourceQuotas: names, usage and scopes of every kind, for admission and for the
//! controller that counts again.
//!
//! Source: `pkg/quota/v1/evaluator/core`, `apiserver/pkg/quota/v1/generic`.
//!
//! Must not know: who is refused, or where usage is written.

pub mod check;
pub mod claims;
pub mod pods;
pub mod services;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, ResourceQuota, ScopedResourceSelectorRequirement, Service,
};
use k8s_openapi::jiff::Timestamp;

use crate::quantity::{Format, Quantity};
use crate::resources::{Amounts, amounts};

/// One object, as quotas see it.
#[derive(Clone, Copy)]
pub enum Counted<'a> {
    Pod(&'a Pod, Timestamp),
    Service(&'a Service),
    Claim(&'a PersistentVolumeClaim),
    /// Any other kind: every object counts one.
    Other {
        group: &'a str,
        plural: &'a str,
    },
}

/// Kinds that no quota counts: they are not stored, or were never counted.
pub fn is_ignored(group: &str, plural: &str) -> bool {
    matches!(
        (group, plural),
        ("", "bindings" | "componentstatuses" | "events")
            | ("events.k8s.io", "events")
            | ("authentication.k8s.io" | "authorization.k8s.io", _)
    )
}

/// `count/pods`, `count/deployments.apps`.
pub fn count_name(group: &str, plural: &str) -> String {
    format!("count/{}", crate::status::qualified(plural, group))
}

/// The name without `count/` that a few kinds had first.
fn alias(group: &str, plural: &str) -> Option<&'static str> {
    match (group, plural) {
        ("", "configmaps") => Some("configmaps"),
        ("", "resourcequotas") => Some("resourcequotas"),
        ("", "replicationcontrollers") => Some("replicationcontrollers"),
        ("", "secrets") => Some("secrets"),
        _ => None,
    }
}

/// Whether usage of the kind counts towards the resource `name` of a quota.
pub fn concerns(group: &str, plural: &str, name: &str) -> bool {
    match (group, plural) {
        ("", "pods") => pods::concerns(name),
        ("", "services") => services::concerns(name),
        ("", "persistentvolumeclaims") => claims::concerns(name),
        _ => name == count_name(group, plural) || alias(group, plural) == Some(name),
    }
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSI)
}

fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSI)
}

impl Counted<'_> {
    fn concerns(&self, name: &str) -> bool {
        match self {
            Self::Pod(..) => pods::concerns(name),
            Self::Service(_) => services::concerns(name),
            Self::Claim(_) => claims::concerns(name),
            Self::Other { group, plural } => concerns(group, plural, name),
        }
    }

    /// What the object uses, by every name that a quota may have for it.
    pub fn usage(&self) -> Amounts {
        match self {
            Self::Pod(pod, now) => pods::usage(pod, *now),
            Self::Service(service) => services::usage(service),
            Self::Claim(claim) => claims::usage(claim),
            Self::Other { group, plural } => {
                let names = alias(group, plural).map(str::to_owned).into_iter().chain([count_name(group, plural)]);
                names.map(|name| (name, one())).collect()
            }
        }
    }

    fn is_in_scope(&self, scope: &ScopedResourceSelectorRequirement) -> bool {
        match self {
            Self::Pod(pod, _) => pods::is_in_scope(pod, scope),
            Self::Claim(claim) => claims::is_in_scope(claim, scope),
            Self::Service(_) | Self::Other { .. } => false,
        }
    }

    /// Whether the object is in all scopes of the quota.
    pub fn is_in_scopes(&self, quota: &ResourceQuota) -> bool {
        scopes(quota).iter().all(|scope| self.is_in_scope(scope))
    }

    /// Of the names, those that the object's usage counts towards.
    fn restricted<'n>(&self, hard: &'n Amounts) -> Vec<&'n str> {
        hard.keys().map(String::as_str).filter(|name| self.concerns(name)).collect()
    }
}

/// The scopes of a quota in one form.
pub fn scopes(quota: &ResourceQuota) -> Vec<ScopedResourceSelectorRequirement> {
    let Some(spec) = &quota.spec else { return Vec::new() };
    let named = spec.scopes.iter().flatten().map(|name| ScopedResourceSelectorRequirement {
        scope_name: name.clone(),
        operator: "Exists".to_owned(),
        values: None,
    });
    let selected = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    named.chain(selected.cloned()).collect()
}

/// What the quota limits: by its spec, for the controller; its status says what admission enforces.
pub fn hard(quota: &ResourceQuota) -> Amounts {
    amounts(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()))
}

/// Only those amounts whose name `other` has too.
pub fn masked(of: &Amounts, other: &Amounts) -> Amounts {
    of.iter().filter(|(name, _)| other.contains_key(*name)).map(|(name, amount)| (name.clone(), *amount)).collect()
}

/// A selector on one label that a scope stands for.
fn selected(scope: &ScopedResourceSelectorRequirement, value: Option<&str>) -> bool {
    let among = || value.is_some_and(|value| scope.values.iter().flatten().any(|one| one == value));
    match scope.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}
