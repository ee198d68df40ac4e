//! The roles and bindings that every cluster starts with, as upstream 1.36 has them (`bootstrap.txt`: facts, a line a
//! rule; `-` is the core group).
//!
//! Must not know: whether they are stored already.

use serde_json::{Value, json};

use super::index::Objects;
use super::rule::Rule;

const TEXT: &str = include_str!("bootstrap.txt");
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";
/// The API server adds what is missing to roles that carry this.
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The objects, ready to be created.
pub fn objects() -> Objects {
    let mut objects = Objects::default();
    let mut lines = TEXT.lines().peekable();
    while let Some(head) = lines.next() {
        let mut body = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("  ")) {
            body.push(line.trim());
        }
        let (word, rest) = head.split_once(' ').unwrap_or((head, ""));
        match word {
            "clusterrole" => objects.cluster_roles.push(role("ClusterRole", rest, &body)),
            "role" => objects.roles.push(role("Role", rest, &body)),
            "clusterrolebinding" => objects.cluster_role_bindings.push(binding("ClusterRoleBinding", rest, &body)),
            _ => objects.role_bindings.push(binding("RoleBinding", rest, &body)),
        }
    }
    objects
}

/// `name` may be `namespace/name`.
fn object(kind: &str, name: &str) -> Value {
    let mut metadata = json!({
        "annotations": { AUTO_UPDATE: "true" },
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
    });
    match name.split_once('/') {
        Some((namespace, name)) => {
            metadata["namespace"] = namespace.into();
            metadata["name"] = name.into();
        }
        None => metadata["name"] = name.into(),
    }
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata })
}

fn role(kind: &str, name: &str, body: &[&str]) -> Value {
    let mut role = object(kind, name);
    let (mut rules, mut selectors) = (Vec::new(), Vec::new());
    for line in body {
        if let Some(part) = line.strip_prefix("part-of ") {
            role["metadata"]["labels"][format!("{AGGREGATE}{part}")] = "true".into();
        } else if let Some(whole) = line.strip_prefix("made-of ") {
            let mut labels = json!({});
            labels[format!("{AGGREGATE}{whole}")] = "true".into();
            selectors.push(json!({ "matchLabels": labels }));
        } else {
            rules.push(rule(line).to_value());
        }
    }
    if !selectors.is_empty() {
        role["aggregationRule"] = json!({ "clusterRoleSelectors": selectors });
    }
    role["rules"] = rules.into();
    role
}

fn rule(line: &str) -> Rule {
    let mut columns = line.split('|').map(|column| column.trim().split(',').map(str::to_owned).collect::<Vec<_>>());
    let mut next = || columns.next().unwrap_or_default();
    if let Some(url) = line.strip_prefix("url ") {
        let verbs = url.split('|').next().unwrap_or_default().trim().split(',').map(str::to_owned).collect();
        next();
        return Rule { verbs, urls: next(), ..Rule::default() };
    }
    let verbs = next();
    let groups = next().into_iter().map(|group| if group == "-" { String::new() } else { group }).collect();
    Rule { verbs, groups, resources: next(), names: next(), urls: Vec::new() }
}

fn binding(kind: &str, head: &str, body: &[&str]) -> Value {
    let (name, reference) = head.split_once(" | ").unwrap_or((head, ""));
    let (role_kind, role_name) = reference.split_once(' ').unwrap_or_default();
    let mut binding = object(kind, name);
    binding["roleRef"] = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role_name });
    binding["subjects"] = body.iter().filter_map(|line| subject(line)).collect();
    binding
}

fn subject(line: &str) -> Option<Value> {
    let (kind, name) = line.split_once(' ')?;
    Some(match (kind, name.split_once('/')) {
        ("ServiceAccount", Some((namespace, name))) => json!({ "kind": kind, "namespace": namespace, "name": name }),
        _ => json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood() {
        let objects = objects();
        let admin = &objects.cluster_roles[0];
        assert_eq!(admin["metadata"]["name"], "admin");
        assert_eq!(
            admin["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"][format!("{AGGREGATE}admin")],
            "true"
        );
        let cluster_admin = &objects.cluster_roles[1]["rules"];
        assert_eq!(cluster_admin[0], json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }));
        assert_eq!(cluster_admin[1], json!({ "verbs": ["*"], "nonResourceURLs": ["*"] }));
        assert!(objects.roles.iter().all(|role| !role["metadata"]["namespace"].is_null()));
        let bindings = objects.cluster_role_bindings.iter().chain(&objects.role_bindings);
        assert!(bindings.clone().all(|it| it["roleRef"]["name"].is_string()));
        assert_eq!(objects.cluster_role_bindings[0]["subjects"][0]["name"], "system:masters");
    }
}
