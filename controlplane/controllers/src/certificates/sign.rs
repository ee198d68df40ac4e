//! Signs what is approved, for the signers of `kubernetes.io`.
//!
//! Must not know: who approves.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::{Api, Client};
use pintle_client::ObjectKey;
use pintle_pki::Authority;

use super::{NAME, asked, feed, find, is_signed, plan, with};
use crate::api;
use crate::context::Context;
use crate::work::Outcome;

/// What a certificate lasts that does not ask for less (`--cluster-signing-duration`), and the least.
const LONGEST: i64 = 365 * 86_400;
const SHORTEST: i64 = 600;

struct Controller {
    context: Context,
    client: Client,
    authority: Arc<Authority>,
}

pub async fn run(context: Context) {
    let Some(signer) = context.config.signer.clone() else { return context.cancel.cancelled().await };
    context.caches.certificate_requests.synced().await;
    let queue = context.queue("certificate-csrsigning");
    feed(&context, &queue);
    let client = context.client(NAME);
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client, authority: signer.0 });
    queue.run(1, cancel, |key| controller.clone().sync(key)).await;
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let Some(request) = self.context.caches.certificate_requests.get("", &key.name) else { return Ok(None) };
        let refused = find(&request, "Denied").or_else(|| find(&request, "Failed")).is_some();
        let approved = find(&request, "Approved").is_some();
        if refused || !approved || is_signed(&request) || !plan::is_ours(&request.spec.signer_name) {
            return Ok(None);
        }
        let answered = self.answer(&request);
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let written = requests.replace_status(&key.name, &PostParams::default(), &answered).await;
        api::ignore_not_found(written).context("writing a signed certificate")?;
        Ok(None)
    }

    /// The request with its certificate, or with why there is none.
    fn answer(&self, request: &CertificateSigningRequest) -> CertificateSigningRequest {
        let usages = request.spec.usages.as_deref().unwrap_or_default();
        let checked = match asked(request) {
            Ok(asked) => plan::check(&request.spec.signer_name, &asked, usages),
            Err(error) => Err(format!("unable to parse csr {:?}: {error:#}", request.metadata.name)),
        };
        if let Err(why) = checked {
            return with(request, "Failed", "SignerValidationFailure", &why);
        }
        match self.sign(request) {
            Ok(certificate) => {
                let mut signed = request.clone();
                signed.status.get_or_insert_default().certificate = Some(ByteString(certificate.into_bytes()));
                signed
            }
            Err(error) => with(request, "Failed", "SigningFailure", &format!("{error:#}")),
        }
    }

    fn sign(&self, request: &CertificateSigningRequest) -> anyhow::Result<String> {
        let pem = std::str::from_utf8(&request.spec.request.0).context("the request is no text")?;
        let seconds = request.spec.expiration_seconds.map_or(LONGEST, i64::from).clamp(SHORTEST, LONGEST);
        self.authority.sign_request(pem, plan::usage(request.spec.usages.as_deref().unwrap_or_default()), seconds)
    }
}
