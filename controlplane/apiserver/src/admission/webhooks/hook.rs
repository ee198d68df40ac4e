//! A webhook as its configuration says it, and whether it is asked about a request. Pure.
//! Sources: `admission/plugin/webhook/{predicates,generic}` of `k8s.io/apiserver`.
//!
//! Must not know: how webhooks are called.

use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use pintle_api::cel::Program;
use pintle_api::selector::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use crate::outbound::{Callee, Trust};

/// The parts of `ValidatingWebhook` and `MutatingWebhook`; defaults were filled in when it was written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hook {
    pub name: String,
    pub rules: Vec<Rule>,
    pub client_config: ClientConfig,
    failure_policy: String,
    match_policy: String,
    namespace_selector: Option<metav1::LabelSelector>,
    object_selector: Option<metav1::LabelSelector>,
    side_effects: String,
    timeout_seconds: u64,
    admission_review_versions: Vec<String>,
    reinvocation_policy: String,
    pub match_conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    operations: Vec<String>,
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    /// Of policies: empty for all.
    resource_names: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Condition {
    pub name: String,
    pub expression: String,
    /// Compiled when it is first asked.
    #[serde(skip)]
    pub program: OnceLock<Result<Program, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConfig {
    pub url: String,
    pub service: Option<Service>,
    #[serde(rename = "caBundle")]
    pub trust: Trust,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub path: String,
    pub port: u16,
}

/// What a rule is held against.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub operation: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub plural: &'a str,
    pub subresource: &'a str,
    /// Of a namespace, its own name.
    pub namespace: &'a str,
    pub name: &'a str,
}

impl ClientConfig {
    pub fn callee(&self) -> Callee<'_> {
        match &self.service {
            Some(it) => Callee::Service {
                namespace: &it.namespace,
                name: &it.name,
                path: &it.path,
                port: if it.port == 0 { 443 } else { it.port },
            },
            None => Callee::Url(&self.url),
        }
    }
}

impl Hook {
    /// The webhooks of a configuration object, in its order.
    pub fn of_configuration(configuration: &Value) -> Result<Vec<Self>, serde_json::Error> {
        let webhooks = &configuration["webhooks"];
        if webhooks.is_null() { Ok(Vec::new()) } else { Vec::deserialize(webhooks) }
    }

    pub fn fails_open(&self) -> bool {
        self.failure_policy == "Ignore"
    }

    /// Whether it wants to be asked about what comes in as another version of what its rules name.
    pub fn matches_equivalents(&self) -> bool {
        self.match_policy != "Exact"
    }

    pub fn is_reinvoked(&self) -> bool {
        self.reinvocation_policy == "IfNeeded"
    }

    /// Whether asking it leaves no trace where the request is to leave none.
    pub fn allows_dry_run(&self) -> bool {
        matches!(self.side_effects.as_str(), "None" | "NoneOnDryRun")
    }

    /// Seconds.
    pub fn timeout(&self) -> u64 {
        if self.timeout_seconds == 0 { 10 } else { self.timeout_seconds }
    }

    /// The version of AdmissionReview to speak: the first it names that is known.
    pub fn review_version(&self) -> Option<&'static str> {
        let known = |version: &String| ["v1", "v1beta1"].into_iter().find(|known| known == version);
        self.admission_review_versions.iter().find_map(known)
    }

    pub fn namespaces(&self) -> Result<LabelSelector, String> {
        LabelSelector::from_metav1(Some(&self.namespace_selector.clone().unwrap_or_default()))
    }

    /// Whether one of the objects is selected.
    pub fn selects(&self, objects: [&Value; 2]) -> Result<bool, String> {
        let selector = LabelSelector::from_metav1(Some(&self.object_selector.clone().unwrap_or_default()))?;
        let mut there = objects.into_iter().filter(|object| !object.is_null());
        Ok(selector.is_everything() || there.any(|object| selector.matches_object(object)))
    }

    pub fn has_rule_for(&self, asked: Asked<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(asked))
    }
}

impl Rule {
    pub fn matches(&self, asked: Asked<'_>) -> bool {
        let has = |items: &[String], wanted: &str| items.iter().any(|item| item == "*" || item == wanted);
        self.scoped(asked)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == asked.name))
            && has(&self.operations, asked.operation)
            && has(&self.api_groups, asked.group)
            && has(&self.api_versions, asked.version)
            && self.resources.iter().any(|resource| {
                let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                let fits = |pattern: &str, actual: &str| pattern == "*" || pattern == actual;
                fits(plural, asked.plural) && fits(subresource, asked.subresource)
            })
    }

    /// Namespaces belong to the cluster, though their own name is the request's namespace.
    fn scoped(&self, asked: Asked<'_>) -> bool {
        let cluster = asked.namespace.is_empty() || (asked.group.is_empty() && asked.plural == "namespaces");
        match self.scope.as_str() {
            "Namespaced" => !cluster,
            "Cluster" => cluster,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(plural: &'static str, subresource: &'static str) -> Asked<'static> {
        Asked { operation: "CREATE", group: "", version: "v1", plural, subresource, namespace: "n", name: "" }
    }

    fn hook(rule: Value) -> Hook {
        let webhook = json!({"name": "a.b.c", "rules": [rule], "clientConfig": {}});
        Hook::of_configuration(&json!({ "webhooks": [webhook] })).unwrap().remove(0)
    }

    #[test]
    fn a_rule_names_subresources_by_themselves() {
        let rule = |resource: &str| {
            hook(json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]}))
        };
        assert!(rule("pods").has_rule_for(asked("pods", "")) && !rule("pods").has_rule_for(asked("pods", "status")));
        assert!(rule("pods/*").has_rule_for(asked("pods", "status")) && rule("*/*").has_rule_for(asked("pods", "")));
        assert!(!rule("*").has_rule_for(asked("pods", "status")) && !rule("pods").has_rule_for(asked("secrets", "")));
    }

    #[test]
    fn a_namespace_is_the_clusters() {
        let rule = |scope: &str| {
            let all = json!(["*"]);
            hook(json!({"operations": all, "apiGroups": all, "apiVersions": all, "resources": all, "scope": scope}))
        };
        assert!(rule("Cluster").has_rule_for(asked("namespaces", "")));
        assert!(!rule("Namespaced").has_rule_for(asked("namespaces", "")));
        assert!(rule("Namespaced").has_rule_for(asked("pods", "")) && !rule("Cluster").has_rule_for(asked("pods", "")));
    }

    #[test]
    fn the_object_as_it_was_counts_too() {
        let selector = json!({"name": "a.b.c", "objectSelector": {"matchLabels": {"a": "b"}}});
        let hook = Hook::of_configuration(&json!({ "webhooks": [selector] })).unwrap().remove(0);
        let labelled = json!({"metadata": {"labels": {"a": "b"}}});
        assert!(hook.selects([&json!({}), &labelled]).unwrap());
        assert!(!hook.selects([&json!({}), &Value::Null]).unwrap());
    }
}
