//! Requests, limits and quantities.
//!
//! Must not know: nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::names;
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;

type List = BTreeMap<String, Written>;

pub(crate) fn requirements(requirements: &core::ResourceRequirements, path: &Path, errors: &mut Errors) {
    let empty = List::new();
    let limits = requirements.limits.as_ref().unwrap_or(&empty);
    let requests = requirements.requests.as_ref().unwrap_or(&empty);
    list(limits, &path.child("limits"), container_resource, errors);
    list(requests, &path.child("requests"), container_resource, errors);
    for (name, request) in requests {
        request_within_limit(name, request, limits, path, errors);
    }
    let names = || limits.keys().chain(requests.keys()).map(String::as_str);
    if names().any(is_huge_page) && !names().any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
}

fn request_within_limit(name: &str, request: &Written, limits: &List, path: &Path, errors: &mut Errors) {
    let at = path.child("requests");
    let Some(limit) = limits.get(name) else {
        if !may_overcommit(name) {
            let detail = "Limit must be set for non overcommitable resources";
            errors.push(Error::required(&path.child("limits"), detail));
        }
        return;
    };
    let (Ok(wanted), Ok(most)) = (Quantity::try_from(request), Quantity::try_from(limit)) else { return };
    let must = match () {
        () if wanted != most && !may_overcommit(name) => "equal to",
        () if wanted > most => "less than or equal to",
        () => return,
    };
    errors.push(Error::invalid(&at, wanted.to_string(), format!("must be {must} {name} limit of {most}")));
}

/// Each name and each quantity of a list.
pub(crate) fn list(list: &List, path: &Path, name_rule: fn(&str, &Path, &mut Errors), errors: &mut Errors) {
    for (name, written) in list {
        let at = path.key(name);
        name_rule(name, &at, errors);
        amount(name, written, &at, errors);
    }
}

/// A quantity that is none, is negative, or is a fraction of what comes whole.
pub(crate) fn amount(name: &str, written: &Written, path: &Path, errors: &mut Errors) {
    match Quantity::try_from(written) {
        Err(error) => errors.push(Error::invalid(path, written.0.as_str(), error.to_string())),
        Ok(quantity) if quantity.sign() < 0 => {
            errors.push(Error::invalid(path, quantity.to_string(), "must be greater than or equal to 0"));
        }
        Ok(quantity) if comes_whole(name) && !quantity.is_whole() => {
            errors.push(Error::invalid(path, quantity.to_string(), "must be an integer"));
        }
        Ok(_) => {}
    }
}

/// What a container may ask for: a standard resource, or one with a domain.
fn container_resource(name: &str, path: &Path, errors: &mut Errors) {
    super::invalid(names::qualified_name(name), name, path, errors);
    if !name.contains('/') && !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
        errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
    }
}

/// Any name: capacities, quotas.
pub(crate) fn any_resource(name: &str, path: &Path, errors: &mut Errors) {
    super::invalid(names::qualified_name(name), name, path, errors);
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether more may be promised than there is (`IsOvercommitAllowed`).
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Extended resources and counts of objects come whole.
fn comes_whole(name: &str) -> bool {
    let counted =
        matches!(name, "pods" | "services" | "secrets" | "configmaps" | "resourcequotas" | "replicationcontrollers");
    counted || name.starts_with("count/") || !is_native(name)
}
