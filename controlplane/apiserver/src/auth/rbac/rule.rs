//! One policy rule, and whether it covers a request.
//!
//! Must not know: where rules come from.

use serde_json::{Value, json};

use crate::auth::Attributes;

/// `rbac.authorization.k8s.io/v1` `PolicyRule`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub urls: Vec<String>,
}

impl Rule {
    pub fn from_value(value: &Value) -> Self {
        let list = |field: &str| {
            let items = value[field].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    pub fn to_value(&self) -> Value {
        let mut value = json!({ "verbs": self.verbs });
        let lists = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ];
        for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            value[field] = json!(list);
        }
        value
    }

    pub fn covers(&self, asked: &Attributes<'_>) -> bool {
        has(&self.verbs, asked.verb)
            && if asked.is_resource { self.covers_resource(asked) } else { self.covers_url(asked.path) }
    }

    fn covers_resource(&self, asked: &Attributes<'_>) -> bool {
        has(&self.groups, asked.group)
            && self.resources.iter().any(|held| resource_matches(held, asked.resource, asked.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }

    fn covers_url(&self, path: &str) -> bool {
        self.urls.iter().any(|held| match held.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => held == path,
        })
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|held| held == "*" || held == wanted)
}

/// `*`, `pods`, `pods/log`, `*/scale`.
fn resource_matches(held: &str, resource: &str, subresource: &str) -> bool {
    match held.split_once('/') {
        _ if held == "*" => true,
        None => subresource.is_empty() && held == resource,
        Some((of, sub)) => sub == subresource && (of == "*" || of == resource),
    }
}
