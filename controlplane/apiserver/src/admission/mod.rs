//! Admission: the plugins every write passes, in upstream's order. Some change the object, all may refuse it.
//!
//! Must not know: how a verb is carried out.

mod certificates;
mod escalation;
mod ingress_class;
mod limit_ranger;
mod made;
mod namespace_lifecycle;
pub(crate) mod node_restriction;
mod nodes;
mod pod_resize;
mod pod_security;
mod policies;
mod priority;
pub(crate) mod quota;
mod runtime_class;
mod service_account;
mod storage_class;
pub(crate) mod storage_protection;
mod tolerations;
pub(crate) mod webhooks;

use std::sync::Arc;

use pintle_api::kinds::Kind;
use pintle_api::status::Status;
use serde_json::Value;

use crate::auth::UserInfo;
use crate::call::Warnings;
use crate::server::ApiServer;
pub(crate) use made::Configured;

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
    pub kind: &'static Kind,
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

/// Lets the plugins change what is about to be written, webhooks last.
pub async fn mutate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    builtin(server, attributes, object).await?;
    policies::mutate(server, attributes, object)?;
    webhooks::mutate(server, attributes, object).await
}

/// The plugins that are part of the server; they may see an object twice.
async fn builtin(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    namespace_lifecycle::admit(server, attributes)?;
    node_restriction::admit(server, attributes, object)?;
    if attributes.is("certificates.k8s.io", "certificatesigningrequests") {
        certificates::admit(attributes, object);
    }
    if !attributes.subresource.is_empty() {
        return Ok(());
    }
    let creates = attributes.operation == Operation::Create;
    if creates && let Some(finalizer) = storage_protection::finalizer(attributes.kind.group, attributes.kind.plural) {
        storage_protection::admit(object, finalizer);
    }
    match (attributes.kind.group, attributes.kind.plural) {
        ("", "pods") => mutate_pod(server, attributes, object).await,
        ("", "nodes") if creates => {
            nodes::admit(object);
            Ok(())
        }
        ("", "persistentvolumeclaims") if creates => storage_class::admit(server, object),
        ("networking.k8s.io", "ingresses") if creates => ingress_class::admit(server, object),
        _ => Ok(()),
    }
}

async fn mutate_pod(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    limit_ranger::admit(server, attributes, pod)?;
    service_account::admit(server, attributes, pod).await?;
    tolerations::admit(pod);
    priority::admit(server, attributes, pod)?;
    runtime_class::admit(server, attributes, pod)
}

/// Lets the plugins refuse what is about to be written; `object` is null for a deletion.
pub async fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    if attributes.operation == Operation::Delete {
        node_restriction::admit(server, attributes, object)?;
        namespace_lifecycle::admit(server, attributes)?;
        policies::validate(server, attributes, object)?;
        return webhooks::admit(server, attributes, &mut Value::Null).await;
    }
    pod_security::validate(server, attributes, object)?;
    match (attributes.kind.group, attributes.kind.plural, attributes.subresource) {
        ("", "pods", "") => {
            limit_ranger::validate(server, attributes, object)?;
            runtime_class::validate(server, attributes, object)?;
        }
        ("", "pods", "resize") => {
            limit_ranger::validate(server, attributes, object)?;
            pod_resize::validate(server, attributes, object)?;
        }
        ("", "persistentvolumeclaims", "") => limit_ranger::validate(server, attributes, object)?,
        ("rbac.authorization.k8s.io", ..) => escalation::validate(server, attributes, object)?,
        ("scheduling.k8s.io", "priorityclasses", _) => priority::check_class(server, attributes, object)?,
        ("certificates.k8s.io", "certificatesigningrequests", _) => {
            certificates::validate(server, attributes, object)?;
        }
        _ => {}
    }
    policies::validate(server, attributes, object)?;
    webhooks::validate(server, attributes, object).await?;
    quota::charge(server, attributes, object).await
}
