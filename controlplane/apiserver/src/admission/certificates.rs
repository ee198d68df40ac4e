//! Who may approve and sign certificate requests, and what may not be asked for
//! (`plugin/pkg/admission/certificates/{approval,signing,subjectrestriction}`).
//!
//! Must not know: how certificates are signed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::auth::{self, UserInfo};
use crate::rules::delete::rfc3339;
use crate::server::ApiServer;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Writes down who asks, whatever the request says, and when conditions changed
/// (`pkg/registry/certificates/certificates/strategy.go`).
pub fn admit(attributes: &Attributes<'_>, request: &mut Value) {
    match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => asked_by(attributes.user, request),
        (Operation::Update, "approval" | "status") => {
            let null = Value::Null;
            let old = attributes.old.map_or(&null, |old| &old["status"]["conditions"]).clone();
            stamp(request, &old, &rfc3339(Timestamp::now()));
        }
        _ => {}
    }
}

fn asked_by(user: &UserInfo, request: &mut Value) {
    request["spec"]["username"] = user.name.as_str().into();
    request["spec"]["groups"] = json!(user.groups);
    let uid = (!user.uid.is_empty()).then_some(user.uid.as_str());
    let extra = (!user.extra.is_empty()).then_some(&user.extra);
    for (field, value) in [("uid", json!(uid)), ("extra", json!(extra))] {
        match (&mut request["spec"], value) {
            (Value::Object(spec), Value::Null) => drop(spec.remove(field)),
            (spec, value) => spec[field] = value,
        }
    }
}

fn stamp(request: &mut Value, old: &Value, now: &str) {
    for condition in request["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.into();
        }
        if condition["lastTransitionTime"].is_null() {
            let mut before = old.as_array().into_iter().flatten();
            let same = before.find(|was| was["type"] == condition["type"] && was["status"] == condition["status"]);
            let since = same.map(|was| was["lastTransitionTime"].clone()).filter(|since| !since.is_null());
            condition["lastTransitionTime"] = since.unwrap_or_else(|| now.into());
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_written_down_whatever_the_request_says() {
        let mut request = json!({ "spec": { "username": "root", "uid": "1", "extra": { "a": ["b"] } } });
        asked_by(&UserInfo::new("ann", &["devs"]), &mut request);
        assert_eq!(request["spec"], json!({ "username": "ann", "groups": ["devs", "system:authenticated"] }));
    }

    #[test]
    fn a_condition_knows_since_when_it_holds() {
        let old = json!([{ "type": "Approved", "status": "True", "lastTransitionTime": "then" }]);
        let mut request = json!({ "status": { "conditions": [
            { "type": "Approved", "status": "True" }, { "type": "Failed", "status": "True", "lastUpdateTime": "said" }] } });
        stamp(&mut request, &old, "now");
        assert_eq!(
            request["status"]["conditions"],
            json!([
                { "type": "Approved", "status": "True", "lastUpdateTime": "now", "lastTransitionTime": "then" },
                { "type": "Failed", "status": "True", "lastUpdateTime": "said", "lastTransitionTime": "now" },
            ])
        );
    }
}
