//! Questions that are asked by creating an object and answered in it: who a token is, and who may do what.
//!
//! Must not know: how either is decided.

use std::collections::BTreeMap;
use std::sync::Arc;

use pintle_api::status::Status;
use serde_json::{Map, Value, json};

use crate::auth::{Attributes, UserInfo};
use crate::body::RequestBody;
use crate::call::{Call, Reply};
use crate::request::WriteOptions;
use crate::server::ApiServer;

/// Whether creating an object of `kind` asks a question rather than keeps it.
pub fn is_review(kind: &str) -> bool {
    kind.ends_with("Review")
}

pub async fn carry_out(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let mut review = super::read_object(call, body, options.field_validation).await?;
    review["status"] = match call.kind.kind {
        "TokenReview" => token(server, &review["spec"]),
        "SelfSubjectReview" => json!({ "userInfo": shown(&call.user) }),
        "SelfSubjectRulesReview" => rules(server, &call.user, &review["spec"])?,
        "SelfSubjectAccessReview" => access(server, &call.user, &review["spec"])?,
        "LocalSubjectAccessReview" => {
            let asked = review["spec"]["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
            if asked != call.info.namespace {
                return Err(Status::bad_request(
                    "spec.resourceAttributes.namespace must match the request's namespace",
                ));
            }
            access(server, &subject(&review["spec"])?, &review["spec"])?
        }
        _ => access(server, &subject(&review["spec"])?, &review["spec"])?,
    };
    Ok(Reply::Value { code: 201, value: review })
}

fn token(server: &ApiServer, spec: &Value) -> Value {
    let wanted = strings(&spec["audiences"]);
    let token = spec["token"].as_str().unwrap_or_default();
    match server.authenticator.tokens.authenticate(&server.caches, token, &wanted) {
        Ok((user, audiences)) => json!({ "authenticated": true, "user": shown(&user), "audiences": audiences }),
        Err(status) => json!({ "user": {}, "error": format!("[invalid bearer token, {}]", status.message) }),
    }
}

fn shown(user: &UserInfo) -> Value {
    let mut shown = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        shown["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        shown["extra"] = json!(user.extra);
    }
    shown
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whom a SubjectAccessReview asks about.
fn subject(spec: &Value) -> Result<UserInfo, Status> {
    let name = spec["user"].as_str().unwrap_or_default().to_owned();
    let groups = strings(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        return Err(Status::bad_request("spec.user: at least one of user or group must be specified"));
    }
    let extra = spec["extra"].as_object().into_iter().flatten();
    let extra: BTreeMap<_, _> = extra.map(|(key, values)| (key.clone(), strings(values))).collect();
    Ok(UserInfo { name, groups, uid: spec["uid"].as_str().unwrap_or_default().to_owned(), extra })
}

fn access(server: &ApiServer, user: &UserInfo, spec: &Value) -> Result<Value, Status> {
    let attributes = match (spec["resourceAttributes"].as_object(), spec["nonResourceAttributes"].as_object()) {
        (Some(resource), None) => resource_attributes(user, resource),
        (None, Some(path)) => {
            Attributes { is_resource: false, path: text(path, "path"), ..resource_attributes(user, path) }
        }
        _ => {
            return Err(Status::bad_request(
                "spec.resourceAttributes: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    let mut status = json!({ "allowed": true });
    if let Err(reason) = server.authorizer.authorize(&attributes) {
        status["allowed"] = false.into();
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
    }
    Ok(status)
}

fn text<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn resource_attributes<'a>(user: &'a UserInfo, asked: &'a Map<String, Value>) -> Attributes<'a> {
    Attributes {
        user,
        verb: text(asked, "verb"),
        namespace: text(asked, "namespace"),
        group: text(asked, "group"),
        version: text(asked, "version"),
        resource: text(asked, "resource"),
        subresource: text(asked, "subresource"),
        name: text(asked, "name"),
        path: "",
        is_resource: true,
    }
}

fn rules(server: &ApiServer, user: &UserInfo, spec: &Value) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (mut resources, mut urls) = (Vec::new(), Vec::new());
    for rule in server.authorizer.rules_for(user, namespace) {
        if rule.urls.is_empty() { resources.push(rule.to_value()) } else { urls.push(rule.to_value()) }
    }
    Ok(json!({ "resourceRules": resources, "nonResourceRules": urls, "incomplete": false }))
}
