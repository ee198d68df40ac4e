//! Role bindings.
//!
//! Must not know: authorization.

use k8s_openapi::api::rbac::v1 as rbac;

use super::fill;
use crate::field::Errors;
use crate::kinds::{Rules, StatusRule};
use crate::validation::cluster;

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

    fn validate(binding: &rbac::RoleBinding, errors: &mut Errors) {
        cluster::binding(&binding.role_ref, binding.subjects.as_deref().unwrap_or_default(), true, errors);
    }

    fn validate_update(new: &rbac::RoleBinding, old: &rbac::RoleBinding, _subresource: &str, errors: &mut Errors) {
        cluster::binding_update(&new.role_ref, &old.role_ref, errors);
    }
}

pub(super) struct ClusterRoleBinding;

impl Rules for ClusterRoleBinding {
    type Object = rbac::ClusterRoleBinding;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(binding: &mut rbac::ClusterRoleBinding) {
        fill_binding(&mut binding.role_ref, &mut binding.subjects);
    }

    fn validate(binding: &rbac::ClusterRoleBinding, errors: &mut Errors) {
        cluster::binding(&binding.role_ref, binding.subjects.as_deref().unwrap_or_default(), false, errors);
    }

    fn validate_update(
        new: &rbac::ClusterRoleBinding,
        old: &rbac::ClusterRoleBinding,
        _subresource: &str,
        errors: &mut Errors,
    ) {
        cluster::binding_update(&new.role_ref, &old.role_ref, errors);
    }
}

pub(super) struct Role;

impl Rules for Role {
    type Object = rbac::Role;
    const DEFAULTS: bool = false;
    const STATUS: StatusRule = StatusRule::None;

    fn validate(role: &rbac::Role, errors: &mut Errors) {
        cluster::policy_rules(role.rules.as_deref().unwrap_or_default(), true, errors);
    }
}

pub(super) struct ClusterRole;

impl Rules for ClusterRole {
    type Object = rbac::ClusterRole;
    const DEFAULTS: bool = false;
    const STATUS: StatusRule = StatusRule::None;

    fn validate(role: &rbac::ClusterRole, errors: &mut Errors) {
        cluster::policy_rules(role.rules.as_deref().unwrap_or_default(), false, errors);
    }
}
