//! Who may approve and sign certificate requests, and what may not be asked for
//! (`plugin/pkg/admission/certificates/{approval,signing,subjectrestriction}`).
//!
//! Must not know: how certificates are signed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintle_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::auth;
use crate::server::ApiServer;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

pub fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, request: &Value) -> Result<(), Status> {
    let signer = |value: &Value| value["spec"]["signerName"].as_str().unwrap_or_default().to_owned();
    match (attributes.operation, attributes.subresource, attributes.old) {
        (Operation::Create, "", _) if signer(request) == CLIENT => check_subject(attributes, request),
        (Operation::Update, "approval", Some(old)) => may(server, attributes, "approve", &signer(old)),
        (Operation::Update, "status", Some(old)) => {
            let same = |field: &str| old["status"][field] == request["status"][field];
            if same("certificate") && same("conditions") {
                return Ok(());
            }
            may(server, attributes, "sign", &signer(old))
        }
        _ => Ok(()),
    }
}

/// Whether the user may do `verb` for the signer, or for all of its domain.
fn may(server: &Arc<ApiServer>, attributes: &Attributes<'_>, verb: &str, signer: &str) -> Result<(), Status> {
    let all = signer.split_once('/').map(|(domain, _)| format!("{domain}/*")).unwrap_or_default();
    let allowed = |name: &str| {
        let asked = auth::Attributes {
            user: attributes.user,
            verb,
            namespace: "",
            group: "certificates.k8s.io",
            version: "*",
            resource: "signers",
            subresource: "",
            name,
            path: "",
            is_resource: true,
        };
        server.authorizer.authorize(&asked).is_ok()
    };
    if allowed(signer) || (!all.is_empty() && allowed(&all)) {
        return Ok(());
    }
    Err(attributes.forbidden(&format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

/// Nobody becomes a master by a certificate.
fn check_subject(attributes: &Attributes<'_>, request: &Value) -> Result<(), Status> {
    let pem = STANDARD.decode(request["spec"]["request"].as_str().unwrap_or_default()).unwrap_or_default();
    let asked = pintle_pki::request::Asked::read(&pem)
        .map_err(|error| attributes.forbidden(&format!("failed to parse CSR: {error:#}")))?;
    if asked.organizations.iter().any(|group| group == auth::user::MASTERS) {
        let why = format!("use of {CLIENT} signer with system:masters group is not allowed");
        return Err(attributes.forbidden(&why));
    }
    Ok(())
}
