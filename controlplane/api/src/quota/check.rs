//! Whether an object fits the quotas of its namespace, and what they have used with it.
//!
//! Source: `CheckRequest` of `apiserver/pkg/admission/plugin/resourcequota`.
//!
//! Must not know: where quotas are kept.

use k8s_openapi::api::core::v1::ResourceQuota;

use super::{Counted, masked, pods};
use crate::quantity::Quantity;
use crate::resources::{self, Amounts, amounts, written};

/// What is about to be written.
pub struct Request<'a> {
    pub new: Counted<'a>,
    /// What it replaces.
    pub old: Option<Counted<'a>>,
}

/// `quota` with what it has used once `request` is carried out; `None` where the request is nothing to it. The error
/// is upstream's reason for refusing.
pub fn charge(quota: &ResourceQuota, request: &Request<'_>) -> Result<Option<ResourceQuota>, String> {
    let status = quota.status.clone().unwrap_or_default();
    let (hard, used) = (amounts(status.hard.as_ref()), amounts(status.used.as_ref()));
    let restricted = request.new.restricted(&hard);
    if restricted.is_empty() || !request.new.is_in_scopes(quota) {
        return Ok(None);
    }
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    if let Counted::Pod(pod, _) = request.new {
        pods::constraints(pod, &restricted).map_err(|why| format!("failed quota: {name}: {why}"))?;
    }
    if restricted.iter().any(|resource| !used.contains_key(*resource)) {
        return Err(format!("status unknown for quota: {name}, resources: {}", restricted.join(",")));
    }
    let delta = masked(&delta(quota, request), &hard);
    if delta.is_empty() {
        return Ok(None);
    }
    let mut after = used.clone();
    resources::add(&mut after, &delta);
    let exceeded = |resource: &&String| after.get(*resource) > hard.get(*resource);
    let exceeded: Vec<&String> = delta.keys().filter(exceeded).collect();
    if !exceeded.is_empty() {
        let of = |list: &Amounts| listed(&exceeded, list);
        let (requested, used, limited) = (of(&delta), of(&used), of(&hard));
        return Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"));
    }
    let mut charged = quota.clone();
    charged.status.get_or_insert_default().used = Some(written(&after));
    Ok(Some(charged))
}

/// What the request uses more than before; of what the quota did not count before, all of it.
fn delta(quota: &ResourceQuota, request: &Request<'_>) -> Amounts {
    let before = request.old.as_ref().filter(|old| old.is_in_scopes(quota)).map(Counted::usage).unwrap_or_default();
    let more = |(name, amount): (String, Quantity)| {
        let rest = amount.minus(before.get(&name).unwrap_or(&Quantity::ZERO));
        (rest.sign() > 0).then_some((name, rest))
    };
    request.new.usage().into_iter().filter_map(more).collect()
}

fn listed(names: &[&String], amounts: &Amounts) -> String {
    let shown = |name: &&String| Some(format!("{name}={}", amounts.get(*name)?));
    names.iter().filter_map(shown).collect::<Vec<_>>().join(",")
}
