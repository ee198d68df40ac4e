//! Which rules a kind has.
//!
//! Must not know: how a verb is carried out.

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod core;
mod devices;
mod fill;
mod flowcontrol;
mod match_keys;
mod networking;
mod pod_spec;
mod pods;
pub(super) mod qos;
mod rbac;
mod services;
mod storage;
mod volumes;

use super::{Hooks, Kind};

/// The hooks of a row: those of its rules; else, where it has a status, the status's; else none.
pub(super) fn of(kind: &Kind) -> Hooks {
    let found = match kind.group {
        "" => core_group(kind.kind),
        "apps" => apps_group(kind.kind),
        "batch" => batch_group(kind.kind),
        "autoscaling" if kind.version == "v1" => Some(Hooks::of::<autoscaling::HorizontalPodAutoscalerV1>()),
        "autoscaling" => Some(Hooks::of::<autoscaling::HorizontalPodAutoscaler>()),
        "admissionregistration.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io" => {
            extension_groups(kind.kind)
        }
        _ => other_groups(kind.kind),
    };
    let base = if kind.subresource("status").is_some() { Hooks::STATUS_ONLY } else { Hooks::NONE };
    found.unwrap_or(base)
}

fn core_group(kind: &str) -> Option<Hooks> {
    Some(match kind {
        "Pod" => Hooks::of::<pods::Pod>(),
        "PodTemplate" => Hooks::of::<core::PodTemplate>(),
        "ReplicationController" => Hooks::of::<apps::ReplicationController>(),
        "Service" => Hooks::of::<services::Service>(),
        "Endpoints" => Hooks::of::<core::Endpoints>(),
        "Namespace" => Hooks::of::<core::Namespace>(),
        "Node" => Hooks::of::<core::Node>(),
        "ConfigMap" => Hooks::of::<core::ConfigMap>(),
        "Secret" => Hooks::of::<core::Secret>(),
        "PersistentVolume" => Hooks::of::<core::PersistentVolume>(),
        "PersistentVolumeClaim" => Hooks::of::<core::PersistentVolumeClaim>(),
        "LimitRange" => Hooks::of::<core::LimitRange>(),
        "ResourceQuota" => Hooks::of::<core::ResourceQuota>(),
        _ => return None,
    })
}

fn apps_group(kind: &str) -> Option<Hooks> {
    Some(match kind {
        "Deployment" => Hooks::of::<apps::Deployment>(),
        "ReplicaSet" => Hooks::of::<apps::ReplicaSet>(),
        "StatefulSet" => Hooks::of::<apps::StatefulSet>(),
        "DaemonSet" => Hooks::of::<apps::DaemonSet>(),
        _ => return None,
    })
}

fn batch_group(kind: &str) -> Option<Hooks> {
    Some(match kind {
        "Job" => Hooks::of::<batch::Job>(),
        "CronJob" => Hooks::of::<batch::CronJob>(),
        _ => return None,
    })
}

fn extension_groups(kind: &str) -> Option<Hooks> {
    Some(match kind {
        "ValidatingWebhookConfiguration" => Hooks::of::<admission::ValidatingWebhookConfiguration>(),
        "MutatingWebhookConfiguration" => Hooks::of::<admission::MutatingWebhookConfiguration>(),
        "ValidatingAdmissionPolicy" => Hooks::of::<admission::ValidatingAdmissionPolicy>(),
        "ValidatingAdmissionPolicyBinding" => Hooks::of::<admission::ValidatingAdmissionPolicyBinding>(),
        "MutatingAdmissionPolicy" => Hooks::of::<admission::MutatingAdmissionPolicy>(),
        "MutatingAdmissionPolicyBinding" => Hooks::of::<admission::MutatingAdmissionPolicyBinding>(),
        "CustomResourceDefinition" => Hooks::of::<admission::CustomResourceDefinition>(),
        "APIService" => Hooks::of::<admission::APIService>(),
        _ => return None,
    })
}

fn other_groups(kind: &str) -> Option<Hooks> {
    Some(match kind {
        "Role" => Hooks::of::<rbac::Role>(),
        "ClusterRole" => Hooks::of::<rbac::ClusterRole>(),
        "RoleBinding" => Hooks::of::<rbac::RoleBinding>(),
        "ClusterRoleBinding" => Hooks::of::<rbac::ClusterRoleBinding>(),
        "NetworkPolicy" => Hooks::of::<networking::NetworkPolicy>(),
        "Ingress" => Hooks::of::<networking::Ingress>(),
        "IngressClass" => Hooks::of::<networking::IngressClass>(),
        "EndpointSlice" => Hooks::of::<networking::EndpointSlice>(),
        "StorageClass" => Hooks::of::<storage::StorageClass>(),
        "CSIDriver" => Hooks::of::<storage::CSIDriver>(),
        "PodDisruptionBudget" => Hooks::of::<storage::PodDisruptionBudget>(),
        "PriorityClass" => Hooks::of::<storage::PriorityClass>(),
        "ResourceClaim" => Hooks::of::<devices::ResourceClaim>(),
        "ResourceClaimTemplate" => Hooks::of::<devices::ResourceClaimTemplate>(),
        "FlowSchema" => Hooks::of::<flowcontrol::FlowSchema>(),
        "PriorityLevelConfiguration" => Hooks::of::<flowcontrol::PriorityLevelConfiguration>(),
        "CertificateSigningRequest" => Hooks::of::<certificates::CertificateSigningRequest>(),
        _ => return None,
    })
}
