//! What the API's answers mean to a controller.
//!
//! Must not know: any one controller.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Error, Resource};

/// The objects of one namespace.
pub fn namespaced<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), namespace)
}

/// The HTTP status that an API server answered with, if one answered.
pub fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

pub fn is_not_found(error: &Error) -> bool {
    code(error) == Some(404)
}

pub fn is_already_exists(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.reason == "AlreadyExists")
}

/// Creation failed because the namespace is going away: nothing to do, and nothing to try again.
pub fn is_namespace_terminating(error: &Error) -> bool {
    let Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether somewhere in the chain the API refused a write because the object had changed.
pub fn is_conflict(error: &anyhow::Error) -> bool {
    let api = error.chain().filter_map(|cause| cause.downcast_ref::<Error>());
    api.into_iter()
        .any(|error| matches!(error, Error::Api(status) if status.code == 409 && status.reason != "AlreadyExists"))
}

/// An object that is gone already was deleted well enough.
pub fn ignore_not_found<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if is_not_found(&error) => Ok(()),
        other => other.map(drop),
    }
}

/// Deletes only the object with this UID.
pub fn delete_uid(uid: Option<&String>) -> DeleteParams {
    let preconditions = uid.map(|uid| Preconditions { uid: Some(uid.clone()), resource_version: None });
    DeleteParams { preconditions, ..DeleteParams::default() }
}

/// As [`delete_uid`], naming what is to become of its dependents.
pub fn delete_uid_with(uid: Option<&String>, policy: PropagationPolicy) -> DeleteParams {
    DeleteParams { propagation_policy: Some(policy), ..delete_uid(uid) }
}

/// The time in whole seconds, as the API stores times.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
