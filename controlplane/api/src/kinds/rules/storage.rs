//! Storage classes, CSI drivers, priority classes and disruption budgets.
//!
//! Must not know: volumes of pods.

use k8s_openapi::api::{policy::v1 as policy, scheduling::v1 as scheduling, storage::v1 as storage};

use super::fill;
use crate::field::Errors;
use crate::kinds::{Rules, StatusRule};
use crate::validation::policies;

pub(super) struct StorageClass;

impl Rules for StorageClass {
    type Object = storage::StorageClass;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(class: &mut storage::StorageClass) {
        fill::value(&mut class.reclaim_policy, "Delete".to_owned());
        fill::value(&mut class.volume_binding_mode, "Immediate".to_owned());
    }

    fn validate(object: &storage::StorageClass, errors: &mut Errors) {
        policies::storage_class(object, errors);
    }

    fn validate_update(
        new: &storage::StorageClass,
        old: &storage::StorageClass,
        _subresource: &str,
        errors: &mut Errors,
    ) {
        policies::storage_class_update(new, old, errors);
    }
}

pub(super) struct CSIDriver;

impl Rules for CSIDriver {
    type Object = storage::CSIDriver;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(driver: &mut storage::CSIDriver) {
        let spec = &mut driver.spec;
        fill::value(&mut spec.attach_required, true);
        fill::value(&mut spec.pod_info_on_mount, false);
        fill::value(&mut spec.storage_capacity, false);
        fill::value(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType".to_owned());
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
        fill::value(&mut spec.requires_republish, false);
        fill::value(&mut spec.se_linux_mount, false);
    }
}

pub(super) struct PriorityClass;

impl Rules for PriorityClass {
    type Object = scheduling::PriorityClass;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(class: &mut scheduling::PriorityClass) {
        fill::value(&mut class.preemption_policy, "PreemptLowerPriority".to_owned());
    }

    fn validate(object: &scheduling::PriorityClass, errors: &mut Errors) {
        policies::priority_class(object, errors);
    }

    fn validate_update(
        new: &scheduling::PriorityClass,
        old: &scheduling::PriorityClass,
        _subresource: &str,
        errors: &mut Errors,
    ) {
        policies::priority_class_update(new, old, errors);
    }
}

pub(super) struct PodDisruptionBudget;

impl Rules for PodDisruptionBudget {
    type Object = policy::PodDisruptionBudget;
    const DEFAULTS: bool = false;

    fn validate(object: &policy::PodDisruptionBudget, errors: &mut Errors) {
        policies::disruption_budget(object, errors);
    }
}
