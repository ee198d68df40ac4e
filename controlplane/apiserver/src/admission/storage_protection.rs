//! Volumes and claims carry a finalizer, so that none goes while it is used
//! (`plugin/pkg/admission/storage/storageobjectinuseprotection`).
//!
//! Must not know: who removes the finalizer.

use pintle_api::object::metadata_mut;
use serde_json::{Value, json};

/// The finalizer of a kind, where it has one.
pub fn finalizer(group: &str, plural: &str) -> Option<&'static str> {
    match (group, plural) {
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        // a definition stays until its objects are gone
        ("apiextensions.k8s.io", "customresourcedefinitions") => Some(CLEANUP),
        _ => None,
    }
}

/// What keeps a CustomResourceDefinition while it has objects.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

pub fn admit(object: &mut Value, finalizer: &str) {
    match metadata_mut(object).get_mut("finalizers") {
        Some(Value::Array(all)) if all.iter().any(|one| one == finalizer) => {}
        Some(Value::Array(all)) => all.push(finalizer.into()),
        _ => drop(metadata_mut(object).insert("finalizers".to_owned(), json!([finalizer]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_claim_is_protected_once() {
        let mut claim = json!({ "metadata": { "name": "c" } });
        let name = finalizer("", "persistentvolumeclaims").unwrap();
        admit(&mut claim, name);
        admit(&mut claim, name);
        assert_eq!(claim["metadata"]["finalizers"], json!([name]));
    }
}
