//! Nothing is created in a namespace that is not there or going, and the first ones stay
//! (`k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle`).
//!
//! Must not know: what is created.

use std::sync::Arc;

use pintle_api::status::Status;
use serde_json::json;

use super::{Attributes, Operation};
use crate::server::ApiServer;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What may be asked of a namespace that is not there: nothing is stored.
const ACCESS_REVIEW: &str = "localsubjectaccessreviews";

pub fn admit(server: &Arc<ApiServer>, attributes: &Attributes<'_>) -> Result<(), Status> {
    if attributes.is("", "namespaces") {
        let forbidden = attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name);
        return if forbidden { Err(attributes.forbidden("this namespace may not be deleted")) } else { Ok(()) };
    }
    let creates = attributes.operation == Operation::Create;
    if !creates || !attributes.kind.namespaced || attributes.kind.plural == ACCESS_REVIEW {
        return Ok(());
    }
    let namespaces = server.cache_of("", "namespaces")?;
    let found = namespaces.get("", attributes.namespace);
    let Some(found) = found else { return Err(Status::not_found("namespaces", "", attributes.namespace)) };
    if found.value()["status"]["phase"] != "Terminating" {
        return Ok(());
    }
    let why =
        format!("unable to create new content in namespace {} because it is being terminated", attributes.namespace);
    let mut status = attributes.forbidden(&why);
    status.details["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {} is being terminated", attributes.namespace),
        "field": "metadata.namespace",
    }]);
    Err(status)
}
