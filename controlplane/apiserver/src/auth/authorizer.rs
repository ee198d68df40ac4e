//! May this user do this: masters, then nodes, then RBAC.
//!
//! Must not know: how the user was authenticated.

use std::sync::Arc;

use pintle_api::status::Status;

use super::node::NodeAuthorizer;
use super::rbac::Rbac;
use super::rbac::rule::Rule;
use super::user::MASTERS;
use super::{Attributes, UserInfo};

pub struct Authorizer {
    pub rbac: Arc<Rbac>,
    pub nodes: NodeAuthorizer,
}

impl Authorizer {
    /// Allowed, or the reason why not where there is more to say than that no rule allows it.
    pub fn authorize(&self, asked: &Attributes<'_>) -> Result<(), String> {
        if asked.user.is_in(MASTERS) || self.rbac.index().allows(asked) {
            return Ok(());
        }
        match asked.user.node_name() {
            Some(node) => self.nodes.authorize(node, asked),
            None => Err(String::new()),
        }
    }

    /// Everything RBAC lets `user` do in `namespace`.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.rbac.index().rules_for(user, namespace)
    }
}

/// 403 in upstream's words.
pub fn forbidden(asked: &Attributes<'_>, reason: &str) -> Status {
    let user = &asked.user.name;
    let suffix = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if !asked.is_resource {
        let message = format!("forbidden: User {user:?} cannot {} path {:?}{suffix}", asked.verb, asked.path);
        let mut status = Status::new(403, "Forbidden", message);
        status.details = serde_json::json!({});
        return status;
    }
    let resource = if asked.subresource.is_empty() {
        asked.resource.to_owned()
    } else {
        format!("{}/{}", asked.resource, asked.subresource)
    };
    let scope = match asked.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let cannot = format!(
        "User {user:?} cannot {} resource {resource:?} in API group {:?} {scope}{suffix}",
        asked.verb, asked.group
    );
    Status::forbidden(asked.resource, asked.group, asked.name, &cannot)
}
