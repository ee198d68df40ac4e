//! The kind table: a kind is a row of facts plus a few hooks, and the verbs are generic over it.
//!
//! Must not know: how a verb is carried out.

pub mod convert;
pub mod hooks;
mod rules;
mod status;
mod table;

pub use hooks::{Hooks, Rules};
pub use rules::qos::class as pod_qos;
pub use status::{StatusRule, bumps_generation, has_generation, set_generation};
pub use table::{all, by_kind, find};

use crate::custom::Resource;

/// One served kind of one group and version.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// The resource's name in URLs: `deployments`.
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// `(group, version, plural)` of the row whose stored objects this one serves: its own, but for a second face
    /// of the same objects (`events.k8s.io/v1` and `v1` events, `autoscaling/v1` and `v2`).
    pub storage: (&'static str, &'static str, &'static str),
    pub hooks: Hooks,
    /// Given for what a CustomResourceDefinition defines.
    pub custom: Option<&'static Resource>,
}

/// `pods/status`, `deployments/scale`: `group`, `version` and `kind` are those of what it takes and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    pub name: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

impl Kind {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether the API server stores objects of this kind; the others (`bindings`, `tokenreviews`, …) are answered
    /// on the spot.
    pub fn stored(&self) -> bool {
        self.verbs.contains(&"watch")
    }

    /// The warning that every answer about a deprecated kind carries, in upstream's words.
    pub fn deprecation(&self) -> Option<&'static str> {
        if let Some(resource) = self.custom {
            return resource.deprecation.as_deref();
        }
        match (self.group, self.kind) {
            ("", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
            ("", "Endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
            _ => None,
        }
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}
