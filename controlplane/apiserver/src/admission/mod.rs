//! Admission: the plugins every write passes, in upstream's order. Some change the object, all may refuse it.
//!
//! Must not know: how a verb is carried out.

mod escalation;
mod namespace_lifecycle;
mod nodes;
mod priority;
mod service_account;
mod storage_class;
mod tolerations;

use std::sync::Arc;

use pintle_api::kinds::Kind;
use pintle_api::status::Status;
use serde_json::Value;

use crate::auth::UserInfo;
use crate::call::Warnings;
use crate::server::ApiServer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What is about to be done.
pub struct Attributes<'a> {
    pub operation: Operation,
    pub kind: &'a Kind,
    pub subresource: &'a str,
    /// Of a namespace, its own name.
    pub namespace: &'a str,
    pub name: &'a str,
    pub user: &'a UserInfo,
    /// As it is, where it is.
    pub old: Option<&'a Value>,
    pub warnings: &'a Warnings,
    pub dry_run: bool,
}

impl Attributes<'_> {
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.kind.group == group && self.kind.plural == plural
    }

    /// 403, as `admission.NewForbidden` words it.
    pub fn forbidden(&self, why: &str) -> Status {
        let name = if self.name.is_empty() { "Unknown" } else { self.name };
        Status::forbidden(self.kind.plural, self.kind.group, name, why)
    }
}

/// Lets the plugins change what is about to be written.
pub async fn mutate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    namespace_lifecycle::admit(server, attributes)?;
    if !attributes.subresource.is_empty() {
        return Ok(());
    }
    let creates = attributes.operation == Operation::Create;
    match (attributes.kind.group, attributes.kind.plural) {
        ("", "pods") => {
            service_account::admit(server, attributes, object).await?;
            tolerations::admit(object);
            priority::admit(server, attributes, object)
        }
        ("", "nodes") if creates => {
            nodes::admit(object);
            Ok(())
        }
        ("", "persistentvolumeclaims") if creates => storage_class::admit(server, object),
        _ => Ok(()),
    }
}

/// Lets the plugins refuse what is about to be written; `object` is null for a deletion.
pub async fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    if attributes.operation == Operation::Delete {
        return namespace_lifecycle::admit(server, attributes);
    }
    match (attributes.kind.group, attributes.kind.plural) {
        ("rbac.authorization.k8s.io", _) => escalation::validate(server, attributes, object),
        ("scheduling.k8s.io", "priorityclasses") => priority::check_class(server, attributes, object),
        _ => Ok(()),
    }
}
