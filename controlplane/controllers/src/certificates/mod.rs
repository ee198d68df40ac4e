//! Certificate requests: approved where their kind is known, signed where they are approved, cleaned up in the end.
//!
//! Must not know: keys; the authority signs.

pub mod approve;
pub mod clean;
mod plan;
pub mod sign;

use anyhow::Context as _;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pintle_client::ObjectKey;

use crate::api;
use crate::context::Context;
use crate::work::Queue;

/// Upstream runs all of them as this account.
const NAME: &str = "certificate-controller";

/// Every request that is not signed yet, as it changes.
fn feed(context: &Context, queue: &Queue<ObjectKey>) {
    context.feed(&context.caches.certificate_requests, queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
}

fn find<'a>(request: &'a CertificateSigningRequest, type_: &str) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn is_signed(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

/// `request` with one more condition.
fn with(request: &CertificateSigningRequest, type_: &str, reason: &str, message: &str) -> CertificateSigningRequest {
    let now = Some(Time(api::now()));
    let mut request = request.clone();
    let conditions = request.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: now.clone(),
        last_transition_time: now,
    });
    request
}

/// What the request asks for.
fn asked(request: &CertificateSigningRequest) -> anyhow::Result<pintle_pki::request::Asked> {
    pintle_pki::request::Asked::read(&request.spec.request.0).context("reading the certificate request")
}
