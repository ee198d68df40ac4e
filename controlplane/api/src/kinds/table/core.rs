//! Rows of the kind table: the core group.
//!
//! Must not know: how a verb is carried out.

use super::row::{SCALE, row, status, subresource};
use crate::kinds::Kind;

pub(super) const CORE: &[Kind] = &[
    Kind { verbs: &["create"], ..row("", "v1", "Binding", "bindings", "binding") },
    Kind {
        namespaced: false,
        short_names: &["cs"],
        verbs: &["get", "list"],
        ..row("", "v1", "ComponentStatus", "componentstatuses", "componentstatus")
    },
    Kind { short_names: &["cm"], ..row("", "v1", "ConfigMap", "configmaps", "configmap") },
    Kind { short_names: &["ep"], ..row("", "v1", "Endpoints", "endpoints", "endpoints") },
    Kind { short_names: &["ev"], ..row("", "v1", "Event", "events", "event") },
    Kind { short_names: &["limits"], ..row("", "v1", "LimitRange", "limitranges", "limitrange") },
    Kind {
        namespaced: false,
        short_names: &["ns"],
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        subresources: &[subresource("finalize", "", "v1", "Namespace", &["update"]), status("", "v1", "Namespace")],
        ..row("", "v1", "Namespace", "namespaces", "namespace")
    },
    Kind {
        namespaced: false,
        short_names: &["no"],
        subresources: &[
            subresource("proxy", "", "v1", "NodeProxyOptions", &["create", "delete", "get", "patch", "update"]),
            status("", "v1", "Node"),
        ],
        ..row("", "v1", "Node", "nodes", "node")
    },
    Kind {
        short_names: &["pvc"],
        subresources: &[status("", "v1", "PersistentVolumeClaim")],
        ..row("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim")
    },
    Kind {
        namespaced: false,
        short_names: &["pv"],
        subresources: &[status("", "v1", "PersistentVolume")],
        ..row("", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume")
    },
    Kind {
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            subresource("attach", "", "v1", "PodAttachOptions", &["create", "get"]),
            subresource("binding", "", "v1", "Binding", &["create"]),
            subresource("ephemeralcontainers", "", "v1", "Pod", &["get", "patch", "update"]),
            subresource("eviction", "policy", "v1", "Eviction", &["create"]),
            subresource("exec", "", "v1", "PodExecOptions", &["create", "get"]),
            subresource("log", "", "v1", "Pod", &["get"]),
            subresource("portforward", "", "v1", "PodPortForwardOptions", &["create", "get"]),
            subresource("proxy", "", "v1", "PodProxyOptions", &["create", "delete", "get", "patch", "update"]),
            subresource("resize", "", "v1", "Pod", &["get", "patch", "update"]),
            status("", "v1", "Pod"),
        ],
        ..row("", "v1", "Pod", "pods", "pod")
    },
    row("", "v1", "PodTemplate", "podtemplates", "podtemplate"),
    Kind {
        short_names: &["rc"],
        categories: &["all"],
        subresources: &[SCALE, status("", "v1", "ReplicationController")],
        ..row("", "v1", "ReplicationController", "replicationcontrollers", "replicationcontroller")
    },
    Kind {
        short_names: &["quota"],
        subresources: &[status("", "v1", "ResourceQuota")],
        ..row("", "v1", "ResourceQuota", "resourcequotas", "resourcequota")
    },
    row("", "v1", "Secret", "secrets", "secret"),
    Kind {
        short_names: &["sa"],
        subresources: &[subresource("token", "authentication.k8s.io", "v1", "TokenRequest", &["create"])],
        ..row("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount")
    },
    Kind {
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[
            subresource("proxy", "", "v1", "ServiceProxyOptions", &["create", "delete", "get", "patch", "update"]),
            status("", "v1", "Service"),
        ],
        ..row("", "v1", "Service", "services", "service")
    },
];
