//! Role bindings.
//!
//! Must not know: authorization.

use k8s_openapi::api::rbac::v1 as rbac;

use super::fill;
use crate::kinds::{Rules, StatusRule};

const GROUP: &str = "rbac.authorization.k8s.io";

fn fill_binding(role: &mut rbac::RoleRef, subjects: &mut Option<Vec<rbac::Subject>>) {
    fill::text(&mut role.api_group, GROUP);
    for subject in fill::each(subjects).filter(|subject| matches!(subject.kind.as_str(), "User" | "Group")) {
        fill::text(&mut subject.api_group, GROUP);
    }
}

pub(super) struct RoleBinding;

impl Rules for RoleBinding {
    type Object = rbac::RoleBinding;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(binding: &mut rbac::RoleBinding) {
        fill_binding(&mut binding.role_ref, &mut binding.subjects);
    }
}

pub(super) struct ClusterRoleBinding;

impl Rules for ClusterRoleBinding {
    type Object = rbac::ClusterRoleBinding;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(binding: &mut rbac::ClusterRoleBinding) {
        fill_binding(&mut binding.role_ref, &mut binding.subjects);
    }
}
