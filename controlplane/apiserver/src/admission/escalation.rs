//! Nobody grants what they do not hold: roles need `escalate` or every rule in them, bindings `bind` or every rule of
//! the role (upstream's `pkg/registry/rbac/{role,rolebinding,…}/policybased`).
//!
//! Must not know: how rules are found for a user.

use pintle_api::object;
use pintle_api::status::Status;
use serde_json::Value;

use super::Attributes;
use crate::auth::rbac::GROUP;
use crate::auth::rbac::rule::Rule;
use crate::auth::{self, UserInfo};
use crate::server::ApiServer;

/// Refuses a role or binding, new or changed, that gives more than its writer has.
pub fn validate(server: &ApiServer, attributes: &Attributes<'_>, new: &Value) -> Result<(), Status> {
    let binding = attributes.kind.plural.ends_with("bindings");
    let granted: &[&str] = if binding { &["roleRef", "subjects"] } else { &["rules", "aggregationRule"] };
    let same = |old: &Value| granted.iter().all(|field| old[*field] == new[*field]);
    if attributes.user.is_in(auth::user::MASTERS) || attributes.old.is_some_and(same) {
        return Ok(());
    }
    if binding { check_binding(server, attributes, new) } else { check_role(server, attributes, new) }
}

fn check_role(server: &ApiServer, attributes: &Attributes<'_>, role: &Value) -> Result<(), Status> {
    if allowed(server, attributes, "escalate", attributes.kind.plural, object::name(role)) {
        return Ok(());
    }
    let held = server.authorizer.rules_for(attributes.user, attributes.namespace);
    if !role["aggregationRule"].is_null() && !covers(&held, &everything()) {
        return Err(attributes.forbidden("must have cluster-admin privileges to use the aggregationRule"));
    }
    check_held(attributes, &held, &rules_of(role))
}

fn check_binding(server: &ApiServer, attributes: &Attributes<'_>, binding: &Value) -> Result<(), Status> {
    let name = binding["roleRef"]["name"].as_str().unwrap_or_default();
    let cluster = binding["roleRef"]["kind"] == "ClusterRole";
    let (plural, namespace) = if cluster { ("clusterroles", "") } else { ("roles", attributes.namespace) };
    if allowed(server, attributes, "bind", plural, name) {
        return Ok(());
    }
    let role = server.cache_of(GROUP, plural)?.get(namespace, name);
    let role = role.ok_or_else(|| Status::not_found(plural, GROUP, name))?;
    let held = server.authorizer.rules_for(attributes.user, attributes.namespace);
    check_held(attributes, &held, &rules_of(&role.value()))
}

fn allowed(server: &ApiServer, attributes: &Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
    let asked = auth::Attributes {
        user: attributes.user,
        verb,
        namespace: attributes.namespace,
        group: GROUP,
        version: "v1",
        resource,
        subresource: "",
        name,
        path: "",
        is_resource: true,
    };
    server.authorizer.authorize(&asked).is_ok()
}

fn rules_of(role: &Value) -> Vec<Rule> {
    role["rules"].as_array().into_iter().flatten().map(Rule::from_value).collect()
}

/// What only a cluster administrator holds.
fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() }
}

fn check_held(attributes: &Attributes<'_>, held: &[Rule], wanted: &[Rule]) -> Result<(), Status> {
    let missing: Vec<String> = wanted.iter().filter(|rule| !covers(held, rule)).map(shown).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let UserInfo { name, groups, .. } = attributes.user;
    let why = format!(
        "user {name:?} (groups={groups:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        missing.join("\n")
    );
    Err(attributes.forbidden(&why))
}

/// A rule as upstream's messages show it.
fn shown(rule: &Rule) -> String {
    let lists = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.names),
        ("NonResourceURLs", &rule.urls),
        ("Verbs", &rule.verbs),
    ];
    let parts = lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| format!("{name}:{list:?}"));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}

/// Whether every single thing `wanted` allows is allowed by some rule that is held.
fn covers(held: &[Rule], wanted: &Rule) -> bool {
    let any = |allows: &dyn Fn(&Rule) -> bool| held.iter().any(allows);
    wanted.verbs.iter().all(|verb| {
        let urls = wanted.urls.iter().all(|url| any(&|rule| has(&rule.verbs, verb) && has_url(&rule.urls, url)));
        urls && wanted.groups.iter().all(|group| {
            wanted.resources.iter().all(|resource| {
                let fits = |rule: &Rule| {
                    has(&rule.verbs, verb) && has(&rule.groups, group) && has_resource(&rule.resources, resource)
                };
                match wanted.names.as_slice() {
                    [] => any(&|rule| fits(rule) && rule.names.is_empty()),
                    names => names
                        .iter()
                        .all(|name| any(&|rule| fits(rule) && (rule.names.is_empty() || rule.names.contains(name)))),
                }
            })
        })
    })
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|held| held == "*" || held == wanted)
}

fn has_resource(list: &[String], wanted: &str) -> bool {
    let of_all = wanted.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
    has(list, wanted) || of_all.is_some_and(|pattern| list.contains(&pattern))
}

fn has_url(list: &[String], wanted: &str) -> bool {
    list.iter().any(|held| match held.strip_suffix('*') {
        Some(prefix) => wanted.starts_with(prefix),
        None => held == wanted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let list = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        Rule {
            verbs: list(verbs),
            groups: vec![String::new()],
            resources: list(resources),
            names: list(names),
            urls: vec![],
        }
    }

    #[test]
    fn what_is_granted_must_be_held_to_the_last_verb() {
        let held = [rule(&["get", "list"], &["pods"], &[]), rule(&["update"], &["*/scale"], &[])];
        assert!(covers(&held, &rule(&["get"], &["pods"], &[])));
        assert!(covers(&held, &rule(&["get"], &["pods"], &["one"])));
        assert!(covers(&held, &rule(&["update"], &["deployments/scale"], &[])));
        assert!(!covers(&held, &rule(&["get", "delete"], &["pods"], &[])));
        assert!(!covers(&held, &rule(&["get"], &["secrets"], &[])));
        assert!(!covers(&held, &rule(&["*"], &["pods"], &[])));
        assert!(!covers(&[rule(&["get"], &["pods"], &["one"])], &rule(&["get"], &["pods"], &[])));
    }
}
