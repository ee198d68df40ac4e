//! `AdmissionReview`: what a webhook is asked, and what its answer means. Pure.
//! Sources: `admission/plugin/webhook/{request,errors}` of `k8s.io/apiserver`.
//!
//! Must not know: how webhooks are called.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintle_api::status::{Status, reason};
use serde_json::{Value, json};

use crate::auth::UserInfo;

/// A resource and the kind of what is written to it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Of the resource.
    pub group: &'a str,
    pub version: &'a str,
    pub plural: &'a str,
    /// `(group, version, kind)` of the object.
    pub kind: (&'a str, &'a str, &'a str),
}

/// What a review says of the request.
pub struct Question<'a> {
    pub subject: Subject<'a>,
    /// As the client named it, where `subject` is another version of the same.
    pub requested: Subject<'a>,
    pub subresource: &'a str,
    pub name: &'a str,
    pub namespace: &'a str,
    pub operation: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    pub object: &'a Value,
    pub old: &'a Value,
}

impl Question<'_> {
    /// The `request`, as webhooks and CEL expressions see it.
    pub fn request(&self, uid: &str) -> Value {
        let mut request = json!({
            "uid": uid,
            "kind": kind(self.subject), "resource": resource(self.subject),
            "requestKind": kind(self.requested), "requestResource": resource(self.requested),
            "operation": self.operation, "userInfo": user(self.user),
            "object": self.object, "oldObject": self.old, "dryRun": self.dry_run, "options": self.options(),
        });
        let texts = [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", self.name),
            ("namespace", self.namespace),
        ];
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            request[field] = text.into();
        }
        request
    }

    pub fn review(&self, uid: &str, version: &str) -> Value {
        let api = format!("admission.k8s.io/{version}");
        json!({ "kind": "AdmissionReview", "apiVersion": api, "request": self.request(uid) })
    }

    fn options(&self) -> Value {
        let kind = match self.operation {
            "CREATE" => "CreateOptions",
            "UPDATE" => "UpdateOptions",
            "DELETE" => "DeleteOptions",
            _ => return Value::Null,
        };
        let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options
    }
}

fn kind(subject: Subject<'_>) -> Value {
    let (group, version, kind) = subject.kind;
    json!({ "group": group, "version": version, "kind": kind })
}

fn resource(subject: Subject<'_>) -> Value {
    json!({ "group": subject.group, "version": subject.version, "resource": subject.plural })
}

fn user(user: &UserInfo) -> Value {
    let mut value = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        value["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

/// What a webhook answered.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    pub allowed: bool,
    /// A JSON patch; null where there is none.
    pub patch: Value,
    pub warnings: Vec<String>,
    /// `metav1.Status`, or null.
    result: Value,
}

/// Reads the answer to the review `uid` of `version`; the error says what is wrong with it, in upstream's words.
pub fn verdict(review: &Value, uid: &str, version: &str, mutating: bool) -> Result<Verdict, String> {
    let response = &review["response"];
    if response.is_null() {
        return Err("webhook response was absent".to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if version == "v1" {
        check_named(review, uid, version)?;
        check_patch(response, mutating)?;
    }
    let patch = text(&response["patch"]);
    let patch = if patch.is_empty() || !mutating { Value::Null } else { decoded(&patch)? };
    Ok(Verdict {
        allowed: response["allowed"] == true,
        patch,
        warnings: response["warnings"].as_array().into_iter().flatten().map(text).collect(),
        result: response["status"].clone(),
    })
}

fn check_named(review: &Value, uid: &str, version: &str) -> Result<(), String> {
    let found = review["response"]["uid"].as_str().unwrap_or_default();
    if found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let (api, kind) = (review["apiVersion"].as_str().unwrap_or_default(), review["kind"].as_str().unwrap_or_default());
    if (api, kind) == (format!("admission.k8s.io/{version}").as_str(), "AdmissionReview") {
        return Ok(());
    }
    Err(format!(
        "expected webhook response of admission.k8s.io/{version}, Kind=AdmissionReview, got {api}, Kind={kind}"
    ))
}

fn check_patch(response: &Value, mutating: bool) -> Result<(), String> {
    let there = |field: &str| response[field].as_str().is_some_and(|text| !text.is_empty());
    let says = |text: &str| Err(text.to_owned());
    match (there("patch"), there("patchType"), mutating) {
        (true, _, false) => says("validating webhook may not return response.patch"),
        (_, true, false) => says("validating webhook may not return response.patchType"),
        (true, false, true) => says("webhook returned response.patch but not response.patchType"),
        (false, true, true) => says("webhook returned response.patchType but not response.patch"),
        (true, true, true) if response["patchType"] != "JSONPatch" => {
            Err(format!("unsupported patch type {}", response["patchType"]))
        }
        _ => Ok(()),
    }
}

fn decoded(patch: &str) -> Result<Value, String> {
    let undecodable = |why: String| format!("received undecodable patch in webhook response: {why}");
    let bytes = STANDARD.decode(patch).map_err(|error| undecodable(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))
}

impl Verdict {
    /// What the client reads of a refusal.
    pub fn refusal(&self, webhook: &str) -> Status {
        let denied = format!("admission webhook {webhook:?} denied the request");
        let said = |field: &str| self.result[field].as_str().filter(|text| !text.is_empty());
        let message = match said("message").or_else(|| said("reason")) {
            Some(why) => format!("{denied}: {why}"),
            None => format!("{denied} without explanation"),
        };
        let code = self.result["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
        let mut status = Status::new(code, reason(said("reason").unwrap_or_default()), message);
        status.details = self.result["details"].clone();
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    }

    #[test]
    fn a_patch_is_read() {
        let patch = STANDARD.encode(r#"[{"op":"remove","path":"/a"}]"#);
        let answer = answer(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"}));
        let verdict = verdict(&answer, "u", "v1", true).unwrap();
        assert_eq!(verdict.patch, json!([{"op": "remove", "path": "/a"}]));
    }

    #[test]
    fn an_answer_to_something_else_is_no_answer() {
        let other = answer(json!({"uid": "x", "allowed": true}));
        assert_eq!(verdict(&other, "u", "v1", false).unwrap_err(), "expected response.uid=\"u\", got \"x\"");
        assert_eq!(verdict(&json!({}), "u", "v1", false).unwrap_err(), "webhook response was absent");
        let patched = answer(json!({"uid": "u", "patch": "W10="}));
        let error = verdict(&patched, "u", "v1", false).unwrap_err();
        assert_eq!(error, "validating webhook may not return response.patch");
    }

    #[test]
    fn a_refusal_is_the_clients_to_read() {
        let said = answer(json!({"uid": "u", "allowed": false, "status": {"message": "no", "code": 200}}));
        let status = verdict(&said, "u", "v1", false).unwrap().refusal("a.b.c");
        assert_eq!((status.code, status.message.as_str()), (400, "admission webhook \"a.b.c\" denied the request: no"));
        let silent = answer(json!({"uid": "u", "allowed": false}));
        let status = verdict(&silent, "u", "v1", false).unwrap().refusal("a.b.c");
        assert_eq!(status.message, "admission webhook \"a.b.c\" denied the request without explanation");
    }
}
