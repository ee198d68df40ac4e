//! Roles and bindings as a table from subject to what it may do. Pure.
//!
//! Must not know: where the objects come from, or when they change.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use pintle_api::object;
use pintle_api::selector::LabelSelector;
use serde::Deserialize as _;
use serde_json::Value;

use super::rule::Rule;
use crate::auth::user::SERVICE_ACCOUNT_PREFIX;
use crate::auth::{Attributes, UserInfo};

/// The four kinds of RBAC objects, as they are stored.
#[derive(Debug, Default)]
pub struct Objects {
    pub cluster_roles: Vec<Value>,
    pub roles: Vec<Value>,
    pub cluster_role_bindings: Vec<Value>,
    pub role_bindings: Vec<Value>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

#[derive(Debug)]
struct Grant {
    /// None: in every namespace and for what has none.
    namespace: Option<String>,
    rules: Arc<[Rule]>,
}

/// Who may do what.
#[derive(Debug, Default)]
pub struct Index(HashMap<Subject, Vec<Grant>>);

impl Index {
    pub fn build(objects: &Objects) -> Self {
        let roles = Roles::build(objects);
        let mut index = Self::default();
        for binding in objects.cluster_role_bindings.iter().chain(&objects.role_bindings) {
            index.add(binding, &roles);
        }
        index
    }

    /// A binding to a role that is not there grants nothing.
    fn add(&mut self, binding: &Value, roles: &Roles) {
        let namespace = object::namespace(binding);
        let Some(rules) = roles.find(&binding["roleRef"], namespace) else { return };
        for subject in binding["subjects"].as_array().into_iter().flatten().filter_map(|it| subject(it, namespace)) {
            let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
            self.0.entry(subject).or_default().push(Grant { namespace, rules: rules.clone() });
        }
    }

    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        self.grants(asked.user, asked.namespace).any(|rules| rules.iter().any(|rule| rule.covers(asked)))
    }

    /// Everything `user` may do in `namespace`.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.grants(user, namespace).flat_map(|rules| rules.iter().cloned()).collect()
    }

    fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Arc<[Rule]>> {
        let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
        let subjects = std::iter::once(Subject::User(user.name.clone())).chain(groups);
        subjects
            .filter_map(|subject| self.0.get(&subject))
            .flatten()
            .filter(move |grant| grant.namespace.as_deref().is_none_or(|only| only == namespace))
            .map(|grant| &grant.rules)
    }
}

fn subject(value: &Value, binding_namespace: &str) -> Option<Subject> {
    let name = value["name"].as_str()?;
    match value["kind"].as_str()? {
        "User" => Some(Subject::User(name.to_owned())),
        "Group" => Some(Subject::Group(name.to_owned())),
        "ServiceAccount" => {
            let namespace = value["namespace"].as_str().unwrap_or(binding_namespace);
            Some(Subject::User(format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")))
        }
        _ => None,
    }
}

/// Rules by role: `(namespace, name)`, the namespace empty for cluster roles.
struct Roles(HashMap<(String, String), Arc<[Rule]>>);

impl Roles {
    fn build(objects: &Objects) -> Self {
        let all = objects.cluster_roles.iter().chain(&objects.roles);
        Self(all.map(|role| (key(role), rules_of(role, &objects.cluster_roles, DEPTH).into())).collect())
    }

    fn find(&self, reference: &Value, binding_namespace: &str) -> Option<Arc<[Rule]>> {
        let namespace = if reference["kind"] == "ClusterRole" { "" } else { binding_namespace };
        self.0.get(&(namespace.to_owned(), reference["name"].as_str()?.to_owned())).cloned()
    }
}

fn key(role: &Value) -> (String, String) {
    (object::namespace(role).to_owned(), object::name(role).to_owned())
}

/// How many roles made of roles are followed (upstream: admin is made of edit, edit of view).
const DEPTH: usize = 4;

/// A role's own rules; an aggregated one's are those of the roles it selects, whether or not the controller that
/// copies them has run yet.
fn rules_of(role: &Value, cluster_roles: &[Value], depth: usize) -> Vec<Rule> {
    match role["aggregationRule"]["clusterRoleSelectors"].as_array() {
        None => own_rules(role),
        Some(_) if depth == 0 => Vec::new(),
        Some(selectors) => {
            let part = |it: &&Value| key(it) != key(role) && selectors.iter().any(|s| selects(s, it));
            cluster_roles.iter().filter(part).flat_map(|it| rules_of(it, cluster_roles, depth - 1)).collect()
        }
    }
}

fn own_rules(role: &Value) -> Vec<Rule> {
    role["rules"].as_array().into_iter().flatten().map(Rule::from_value).collect()
}

fn selects(selector: &Value, role: &Value) -> bool {
    let Ok(typed) = metav1::LabelSelector::deserialize(selector) else { return false };
    LabelSelector::from_metav1(Some(&typed)).is_ok_and(|selector| selector.matches_object(role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked<'a>(user: &'a UserInfo, verb: &'a str, namespace: &'a str, resource: &'a str) -> Attributes<'a> {
        Attributes {
            user,
            verb,
            namespace,
            group: "",
            version: "v1",
            resource,
            subresource: "",
            name: "",
            path: "",
            is_resource: true,
        }
    }

    fn bootstrap() -> Index {
        Index::build(&super::super::bootstrap::objects())
    }

    #[test]
    fn a_role_binding_grants_only_in_its_namespace() {
        let mut objects = super::super::bootstrap::objects();
        objects.role_bindings.push(json!({
            "metadata": { "name": "viewers", "namespace": "dev" },
            "roleRef": { "kind": "ClusterRole", "name": "view" },
            "subjects": [{ "kind": "User", "name": "ann" }],
        }));
        let (index, ann) = (Index::build(&objects), UserInfo::new("ann", &[]));
        assert!(index.allows(&asked(&ann, "list", "dev", "pods")));
        assert!(!index.allows(&asked(&ann, "list", "prod", "pods")));
        assert!(!index.allows(&asked(&ann, "list", "", "pods")));
        assert!(!index.allows(&asked(&ann, "delete", "dev", "pods")));
        assert!(!index.allows(&asked(&ann, "get", "dev", "secrets")));
    }

    #[test]
    fn admin_is_made_of_edit_which_is_made_of_view() {
        let mut objects = super::super::bootstrap::objects();
        objects.role_bindings.push(json!({
            "metadata": { "name": "admins", "namespace": "dev" },
            "roleRef": { "kind": "ClusterRole", "name": "admin" },
            "subjects": [{ "kind": "ServiceAccount", "name": "bot" }],
        }));
        let (index, bot) = (Index::build(&objects), UserInfo::service_account("dev", "bot", ""));
        assert!(index.allows(&asked(&bot, "list", "dev", "pods")));
        assert!(index.allows(&asked(&bot, "delete", "dev", "pods")));
    }

    #[test]
    fn masters_may_everything_and_everybody_known_may_discover() {
        let (index, root) = (bootstrap(), UserInfo::new("root", &["system:masters"]));
        assert!(index.allows(&asked(&root, "delete", "kube-system", "secrets")));
        let known = UserInfo::new("ann", &[]);
        let url = |path| Attributes { is_resource: false, path, ..asked(&known, "get", "", "") };
        assert!(index.allows(&url("/api")) && index.allows(&url("/apis/apps/v1")) && index.allows(&url("/version")));
        assert!(!index.allows(&url("/metrics")));
    }
}
