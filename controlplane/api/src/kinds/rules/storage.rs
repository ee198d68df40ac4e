//! Storage classes, CSI drivers and priority classes.
//!
//! Must not know: volumes of pods.

use k8s_openapi::api::{scheduling::v1 as scheduling, storage::v1 as storage};

use super::fill;
use crate::kinds::{Rules, StatusRule};

pub(super) struct StorageClass;

impl Rules for StorageClass {
    type Object = storage::StorageClass;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(class: &mut storage::StorageClass) {
        fill::value(&mut class.reclaim_policy, "Delete".to_owned());
        fill::value(&mut class.volume_binding_mode, "Immediate".to_owned());
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
}
