//! Approves the kubelets' requests for client certificates, where who asks may have them.
//!
//! Must not know: how they are signed.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::{Api, Client};
use pintle_client::ObjectKey;

use super::plan::{self, KUBELET_CLIENT};
use super::{NAME, asked, feed, find, is_signed, with};
use crate::context::Context;
use crate::work::Outcome;

struct Controller {
    context: Context,
    client: Client,
}

pub async fn run(context: Context) {
    context.caches.certificate_requests.synced().await;
    let queue = context.queue("certificate-csrapproving");
    feed(&context, &queue);
    let client = context.client(NAME);
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client });
    queue.run(1, cancel, |key| controller.clone().sync(key)).await;
}

/// The permission that a request needs, and what its approval says; the most special first.
fn permissions(request: &CertificateSigningRequest, common_name: &str) -> Vec<(&'static str, &'static str)> {
    let own = request.spec.username.as_deref() == Some(common_name);
    let own =
        own.then_some(("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."));
    let any = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
    own.into_iter().chain([any]).collect()
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let Some(request) = self.context.caches.certificate_requests.get("", &key.name) else { return Ok(None) };
        let decided = find(&request, "Approved").or_else(|| find(&request, "Denied")).is_some();
        if decided || is_signed(&request) || request.spec.signer_name != KUBELET_CLIENT {
            return Ok(None);
        }
        let asked = asked(&request)?;
        if plan::check(KUBELET_CLIENT, &asked, request.spec.usages.as_deref().unwrap_or_default()).is_err() {
            return Ok(None);
        }
        for (subresource, message) in permissions(&request, &asked.common_name) {
            if self.may(&request, subresource).await? {
                let approved = with(&request, "Approved", "AutoApproved", message);
                let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
                let result =
                    requests.replace_subresource("approval", &key.name, &PostParams::default(), &approved).await;
                result.context("approving a certificate request")?;
                return Ok(None);
            }
        }
        tracing::debug!(request = %key.name, "recognized, but who asks may not have it");
        Ok(None)
    }

    async fn may(&self, request: &CertificateSigningRequest, subresource: &str) -> anyhow::Result<bool> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    verb: Some("create".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    version: Some("*".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await.context("asking whether it may")?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}
