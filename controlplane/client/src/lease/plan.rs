//! Who may lead, from what the Lease says and since when it has said so. Clocks of other machines are not trusted: a
//! lease has expired when it did not change for its duration on our own clock (as upstream, client-go leaderelection).
//!
//! Must not know: the API, clocks.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

/// What a candidate writes into a lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    pub identity: String,
    /// Whole seconds.
    pub lease_duration: Duration,
}

/// A lease's content and when this candidate first saw it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    /// Somebody else holds it.
    Wait,
    Create(Lease),
    /// Take it or keep it.
    Update(Lease),
}

pub(super) fn observe(before: Option<Observed>, lease: Option<&Lease>, now: Instant) -> Option<Observed> {
    let spec = lease.map(|lease| lease.spec.clone().unwrap_or_default())?;
    match before {
        Some(before) if before.spec == spec => Some(before),
        _ => Some(Observed { spec, since: now }),
    }
}

pub(super) fn decide(
    terms: &Terms,
    lease: Option<Lease>,
    observed: Option<&Observed>,
    wall: Timestamp,
    now: Instant,
) -> Decision {
    let Some(mut lease) = lease else {
        return Decision::Create(Lease { spec: Some(held(terms, None, wall)), ..Lease::default() });
    };
    let old = lease.spec.take().unwrap_or_default();
    let holder = old.holder_identity.as_deref().unwrap_or_default();
    if !holder.is_empty() && holder != terms.identity && valid(&old, observed, now) {
        return Decision::Wait;
    }
    lease.spec = Some(held(terms, Some(old), wall));
    Decision::Update(lease)
}

/// The lease without a holder, if it is ours.
pub(super) fn release(terms: &Terms, mut lease: Lease, wall: Timestamp) -> Option<Lease> {
    let spec = lease.spec.as_mut()?;
    if spec.holder_identity.as_ref() != Some(&terms.identity) {
        return None;
    }
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(wall));
    spec.acquire_time = Some(MicroTime(wall));
    Some(lease)
}

fn valid(spec: &LeaseSpec, observed: Option<&Observed>, now: Instant) -> bool {
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    observed.is_some_and(|observed| now < observed.since + Duration::from_secs(seconds))
}

fn held(terms: &Terms, old: Option<LeaseSpec>, wall: Timestamp) -> LeaseSpec {
    let old_transitions = old.as_ref().and_then(|old| old.lease_transitions).unwrap_or(0);
    let kept = old.as_ref().filter(|old| old.holder_identity.as_ref() == Some(&terms.identity));
    let acquired = kept.and_then(|old| old.acquire_time.clone());
    let transitions = if old.is_some() && kept.is_none() { old_transitions + 1 } else { old_transitions };
    LeaseSpec {
        holder_identity: Some(terms.identity.clone()),
        lease_duration_seconds: i32::try_from(terms.lease_duration.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or(MicroTime(wall))),
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(transitions),
        ..old.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(identity: &str) -> Terms {
        Terms { identity: identity.into(), lease_duration: Duration::from_secs(15) }
    }

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn step(who: &Terms, lease: Option<Lease>, seen: &mut Option<Observed>, wall: Timestamp, now: Instant) -> Decision {
        *seen = observe(seen.take(), lease.as_ref(), now);
        decide(who, lease, seen.as_ref(), wall, now)
    }

    #[test]
    fn a_held_lease_is_taken_only_when_it_has_not_changed_for_its_duration() {
        let (a, b) = (terms("a"), terms("b"));
        let start = Instant::now();
        let Decision::Create(lease) = step(&a, None, &mut None, wall(100), start) else { panic!("creates it") };
        let mut seen = None;
        assert_eq!(step(&b, Some(lease.clone()), &mut seen, wall(100), start), Decision::Wait);
        let renewed = start + Duration::from_secs(14);
        let Decision::Update(lease) = step(&a, Some(lease), &mut None, wall(114), renewed) else { panic!("renews it") };
        assert_eq!(
            step(&b, Some(lease.clone()), &mut seen, wall(116), start + Duration::from_secs(16)),
            Decision::Wait
        );
        let late = start + Duration::from_secs(32);
        let Decision::Update(lease) = step(&b, Some(lease), &mut seen, wall(132), late) else { panic!("takes it") };
        let spec = lease.spec.unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(1)));
        assert_eq!(spec.acquire_time, Some(MicroTime(wall(132))));
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let (a, b, now) = (terms("a"), terms("b"), Instant::now());
        let Decision::Create(lease) = step(&a, None, &mut None, wall(100), now) else { panic!("creates it") };
        assert_eq!(release(&b, lease.clone(), wall(101)), None);
        let released = release(&a, lease, wall(101));
        assert!(matches!(step(&b, released, &mut None, wall(101), now), Decision::Update(_)));
    }
}
