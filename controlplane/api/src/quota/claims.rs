//! Volume claims against quotas: how many and how much, in all and by storage class.
//!
//! Must not know: other kinds, or who provisions.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ScopedResourceSelectorRequirement};

use super::{one, selected};
use crate::quantity::Quantity;
use crate::resources::Amounts;

const COUNT: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

pub fn concerns(name: &str) -> bool {
    let by_class = |what: &str| name.strip_suffix(what).is_some_and(|class| class.ends_with(BY_CLASS));
    matches!(name, "count/persistentvolumeclaims" | COUNT | STORAGE) || by_class(COUNT) || by_class(STORAGE)
}

pub fn usage(claim: &PersistentVolumeClaim) -> Amounts {
    let mut used = Amounts::from([(COUNT.to_owned(), one()), (format!("count/{COUNT}"), one())]);
    let class = class(claim);
    if !class.is_empty() {
        used.insert(format!("{class}{BY_CLASS}{COUNT}"), one());
    }
    if let Some(storage) = storage(claim) {
        used.insert(STORAGE.to_owned(), storage);
        if !class.is_empty() {
            used.insert(format!("{class}{BY_CLASS}{STORAGE}"), storage);
        }
    }
    used
}

/// The annotation of old, then the field.
fn class(claim: &PersistentVolumeClaim) -> &str {
    const ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
    let annotated = claim.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION)).map(String::as_str);
    let named = || claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotated.or_else(named).unwrap_or_default()
}

/// What is asked for, or what was allocated on the way to it where that is more.
fn storage(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let asked = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?;
    let asked = Quantity::try_from(asked).ok()?;
    let allocated = claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref()?.get("storage"));
    let allocated = allocated.and_then(|allocated| Quantity::try_from(allocated).ok());
    Some(allocated.filter(|allocated| *allocated > asked).unwrap_or(asked))
}

pub fn is_in_scope(claim: &PersistentVolumeClaim, scope: &ScopedResourceSelectorRequirement) -> bool {
    if scope.scope_name != "VolumeAttributesClass" {
        return false;
    }
    let names = attributes_classes(claim);
    match names.as_slice() {
        [] => selected(scope, None),
        names => names.iter().any(|name| selected(scope, Some(name))),
    }
}

/// The classes that the claim asks for, has, or is on its way to.
fn attributes_classes(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
    let asked = spec.and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = target.and_then(|modify| modify.target_volume_attributes_class_name.as_deref());
    [asked, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}
