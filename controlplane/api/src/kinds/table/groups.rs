//! Rows of the kind table: the named groups, in the order upstream serves them.
//!
//! Must not know: how a verb is carried out.

use super::row::{SCALE, row, status, subresource};
use crate::kinds::Kind;

pub(super) const APIREGISTRATION: &[Kind] = &[Kind {
    namespaced: false,
    categories: &["api-extensions"],
    subresources: &[status("apiregistration.k8s.io", "v1", "APIService")],
    ..row("apiregistration.k8s.io", "v1", "APIService", "apiservices", "apiservice")
}];

pub(super) const APPS: &[Kind] = &[
    row("apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision"),
    Kind {
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[status("apps", "v1", "DaemonSet")],
        ..row("apps", "v1", "DaemonSet", "daemonsets", "daemonset")
    },
    Kind {
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[SCALE, status("apps", "v1", "Deployment")],
        ..row("apps", "v1", "Deployment", "deployments", "deployment")
    },
    Kind {
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[SCALE, status("apps", "v1", "ReplicaSet")],
        ..row("apps", "v1", "ReplicaSet", "replicasets", "replicaset")
    },
    Kind {
        short_names: &["sts"],
        categories: &["all"],
        subresources: &[SCALE, status("apps", "v1", "StatefulSet")],
        ..row("apps", "v1", "StatefulSet", "statefulsets", "statefulset")
    },
];

pub(super) const EVENTS: &[Kind] = &[Kind {
    short_names: &["ev"],
    storage: ("", "v1", "events"),
    ..row("events.k8s.io", "v1", "Event", "events", "event")
}];

pub(super) const AUTHENTICATION: &[Kind] = &[
    Kind {
        namespaced: false,
        verbs: &["create"],
        ..row("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview")
    },
    Kind {
        namespaced: false,
        verbs: &["create"],
        ..row("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "tokenreview")
    },
];

pub(super) const AUTHORIZATION: &[Kind] = &[
    Kind {
        verbs: &["create"],
        ..row(
            "authorization.k8s.io",
            "v1",
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
            "localsubjectaccessreview",
        )
    },
    Kind {
        namespaced: false,
        verbs: &["create"],
        ..row(
            "authorization.k8s.io",
            "v1",
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
            "selfsubjectaccessreview",
        )
    },
    Kind {
        namespaced: false,
        verbs: &["create"],
        ..row(
            "authorization.k8s.io",
            "v1",
            "SelfSubjectRulesReview",
            "selfsubjectrulesreviews",
            "selfsubjectrulesreview",
        )
    },
    Kind {
        namespaced: false,
        verbs: &["create"],
        ..row("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview")
    },
];

pub(super) const AUTOSCALING_V2: &[Kind] = &[Kind {
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[status("autoscaling", "v2", "HorizontalPodAutoscaler")],
    ..row("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler")
}];

pub(super) const AUTOSCALING_V1: &[Kind] = &[Kind {
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[status("autoscaling", "v1", "HorizontalPodAutoscaler")],
    storage: ("autoscaling", "v2", "horizontalpodautoscalers"),
    ..row("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler")
}];

pub(super) const BATCH: &[Kind] = &[
    Kind {
        short_names: &["cj"],
        categories: &["all"],
        subresources: &[status("batch", "v1", "CronJob")],
        ..row("batch", "v1", "CronJob", "cronjobs", "cronjob")
    },
    Kind {
        categories: &["all"],
        subresources: &[status("batch", "v1", "Job")],
        ..row("batch", "v1", "Job", "jobs", "job")
    },
];

pub(super) const CERTIFICATES: &[Kind] = &[Kind {
    namespaced: false,
    short_names: &["csr"],
    subresources: &[
        subresource("approval", "certificates.k8s.io", "v1", "CertificateSigningRequest", &["get", "patch", "update"]),
        status("certificates.k8s.io", "v1", "CertificateSigningRequest"),
    ],
    ..row(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        "certificatesigningrequest",
    )
}];

pub(super) const NETWORKING: &[Kind] = &[
    Kind { namespaced: false, ..row("networking.k8s.io", "v1", "IngressClass", "ingressclasses", "ingressclass") },
    Kind {
        short_names: &["ing"],
        subresources: &[status("networking.k8s.io", "v1", "Ingress")],
        ..row("networking.k8s.io", "v1", "Ingress", "ingresses", "ingress")
    },
    Kind {
        namespaced: false,
        short_names: &["ip"],
        ..row("networking.k8s.io", "v1", "IPAddress", "ipaddresses", "ipaddress")
    },
    Kind {
        short_names: &["netpol"],
        ..row("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "networkpolicy")
    },
    Kind {
        namespaced: false,
        subresources: &[status("networking.k8s.io", "v1", "ServiceCIDR")],
        ..row("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", "servicecidr")
    },
];

pub(super) const POLICY: &[Kind] = &[Kind {
    short_names: &["pdb"],
    subresources: &[status("policy", "v1", "PodDisruptionBudget")],
    ..row("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget")
}];

pub(super) const RBAC: &[Kind] = &[
    Kind {
        namespaced: false,
        ..row("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding")
    },
    Kind { namespaced: false, ..row("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "clusterrole") },
    row("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "rolebinding"),
    row("rbac.authorization.k8s.io", "v1", "Role", "roles", "role"),
];

pub(super) const STORAGE: &[Kind] = &[
    Kind { namespaced: false, ..row("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "csidriver") },
    Kind { namespaced: false, ..row("storage.k8s.io", "v1", "CSINode", "csinodes", "csinode") },
    row("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", "csistoragecapacity"),
    Kind {
        namespaced: false,
        short_names: &["sc"],
        ..row("storage.k8s.io", "v1", "StorageClass", "storageclasses", "storageclass")
    },
    Kind {
        namespaced: false,
        subresources: &[status("storage.k8s.io", "v1", "VolumeAttachment")],
        ..row("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "volumeattachment")
    },
    Kind {
        namespaced: false,
        short_names: &["vac"],
        ..row("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", "volumeattributesclass")
    },
];

pub(super) const ADMISSIONREGISTRATION: &[Kind] = &[
    Kind {
        namespaced: false,
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingAdmissionPolicy",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicy",
        )
    },
    Kind {
        namespaced: false,
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
            "mutatingadmissionpolicybinding",
        )
    },
    Kind {
        namespaced: false,
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            "mutatingwebhookconfiguration",
        )
    },
    Kind {
        namespaced: false,
        categories: &["api-extensions"],
        subresources: &[status("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy")],
        ..row(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            "validatingadmissionpolicy",
        )
    },
    Kind {
        namespaced: false,
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            "validatingadmissionpolicybinding",
        )
    },
    Kind {
        namespaced: false,
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            "validatingwebhookconfiguration",
        )
    },
];

pub(super) const APIEXTENSIONS: &[Kind] = &[Kind {
    namespaced: false,
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    subresources: &[status("apiextensions.k8s.io", "v1", "CustomResourceDefinition")],
    ..row(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "customresourcedefinition",
    )
}];

pub(super) const SCHEDULING: &[Kind] = &[Kind {
    namespaced: false,
    short_names: &["pc"],
    ..row("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass")
}];

pub(super) const COORDINATION: &[Kind] = &[row("coordination.k8s.io", "v1", "Lease", "leases", "lease")];

pub(super) const NODE: &[Kind] =
    &[Kind { namespaced: false, ..row("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass") }];

pub(super) const DISCOVERY: &[Kind] =
    &[row("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice")];

pub(super) const RESOURCE: &[Kind] = &[
    Kind { namespaced: false, ..row("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", "deviceclass") },
    Kind {
        subresources: &[status("resource.k8s.io", "v1", "ResourceClaim")],
        ..row("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", "resourceclaim")
    },
    row("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", "resourceclaimtemplate"),
    Kind { namespaced: false, ..row("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", "resourceslice") },
];

pub(super) const FLOWCONTROL: &[Kind] = &[
    Kind {
        namespaced: false,
        subresources: &[status("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema")],
        ..row("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas", "flowschema")
    },
    Kind {
        namespaced: false,
        subresources: &[status("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration")],
        ..row(
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
            "prioritylevelconfiguration",
        )
    },
];
