//! How the strategies of upstream's registries differ from kind to kind, as tables
//! (`pkg/registry/*/*/strategy.go`, `storage/storage.go`).
//!
//! Must not know: stores, requests.

use pintle_api::kinds::Kind;

/// What an object without an explicit policy leaves behind when it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    Dependents,
    Orphan,
    /// The garbage collector never looks at it.
    Unsupported,
}

fn is(kind: &Kind, rows: &[(&str, &str)]) -> bool {
    rows.contains(&(kind.group, kind.plural))
}

/// A `PUT` of what is not there creates it.
pub fn creates_on_update(kind: &Kind) -> bool {
    let core = ["limitranges", "events", "services", "endpoints"];
    (kind.group.is_empty() && core.contains(&kind.plural))
        || matches!(kind.group, "rbac.authorization.k8s.io" | "events.k8s.io")
        || is(kind, &[("node.k8s.io", "runtimeclasses"), ("coordination.k8s.io", "leases")])
}

/// A `PUT` without a resourceVersion replaces whatever is there.
pub fn updates_unconditionally(kind: &Kind) -> bool {
    kind.custom.is_none()
        && !matches!(kind.group, "admissionregistration.k8s.io" | "coordination.k8s.io" | "apiextensions.k8s.io")
        && !is(
            kind,
            &[
                ("node.k8s.io", "runtimeclasses"),
                ("policy", "poddisruptionbudgets"),
                ("storage.k8s.io", "csidrivers"),
                ("storage.k8s.io", "csistoragecapacities"),
                ("storage.k8s.io", "volumeattachments"),
                ("storage.k8s.io", "csinodes"),
                ("apiregistration.k8s.io", "apiservices"),
            ],
        )
}

/// `DELETE` answers with the object and not with a Status.
pub fn delete_returns_object(kind: &Kind) -> bool {
    const CORE: [&str; 8] = [
        "namespaces",
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "podtemplates",
        "resourcequotas",
        "serviceaccounts",
        "services",
    ];
    (kind.group.is_empty() && CORE.contains(&kind.plural))
        || kind.group == "resource.k8s.io"
        || (kind.group == "storage.k8s.io" && kind.plural != "csistoragecapacities")
}

pub fn collection(kind: &Kind) -> Collection {
    match (kind.group, kind.plural) {
        ("" | "events.k8s.io", "events") => Collection::Unsupported,
        ("", "replicationcontrollers") | ("batch", "jobs") => Collection::Orphan,
        _ => Collection::Dependents,
    }
}

/// `metadata.generation` counts the changes of what is desired.
pub fn has_generation(kind: &Kind) -> bool {
    kind.custom.is_some()
        || matches!(
            kind.group,
            "apps" | "batch" | "admissionregistration.k8s.io" | "flowcontrol.apiserver.k8s.io" | "apiextensions.k8s.io"
        ) && kind.plural != "controllerrevisions"
        || is(
            kind,
            &[
                ("", "pods"),
                ("", "podtemplates"),
                ("", "replicationcontrollers"),
                ("discovery.k8s.io", "endpointslices"),
                ("networking.k8s.io", "ingressclasses"),
                ("networking.k8s.io", "ingresses"),
                ("networking.k8s.io", "networkpolicies"),
                ("policy", "poddisruptionbudgets"),
                ("resource.k8s.io", "deviceclasses"),
                ("resource.k8s.io", "resourceslices"),
                ("scheduling.k8s.io", "priorityclasses"),
            ],
        )
}

/// Deployments count changes of their annotations too.
pub fn annotations_count(kind: &Kind) -> bool {
    is(kind, &[("apps", "deployments")])
}
