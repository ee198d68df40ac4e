//! Which policies and bindings are about a request, and with which parameters.
//!
//! Must not know: expressions.

use pintle_api::kinds::Kind;
use pintle_api::object;
use pintle_api::selector::LabelSelector;
use pintle_api::status::Status;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::super::Attributes;
use super::super::webhooks::{GROUP, Hook, invoked};
use crate::server::ApiServer;

/// A policy and a binding of it that are both about the request.
pub struct Matched {
    pub policy: Value,
    pub binding: Value,
    /// In whose version the policy sees the object.
    pub kind: &'static Kind,
}

/// `plurals`: of policies and of bindings.
pub fn matched(
    server: &ApiServer,
    attributes: &Attributes<'_>,
    object: &Value,
    plurals: (&str, &str),
) -> Result<Vec<Matched>, Status> {
    let (policies, bindings) = (server.cache_of(GROUP, plurals.0)?, server.cache_of(GROUP, plurals.1)?);
    // what configures admission is admitted by none: it could not be mended
    if bindings.is_empty() || attributes.kind.group == GROUP {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for binding in bindings.list(None).items.iter().map(|it| it.value()) {
        let name = binding["spec"]["policyName"].as_str().unwrap_or_default();
        let Some(policy) = policies.get("", name).map(|it| it.value()) else { continue };
        let Some(kind) = about(server, attributes, object, &policy["spec"]["matchConstraints"])? else { continue };
        let narrower = &binding["spec"]["matchResources"];
        if narrower.is_null() || about(server, attributes, object, narrower)?.is_some() {
            found.push(Matched { policy, binding, kind });
        }
    }
    Ok(found)
}

/// Matches `MatchResources`, by way of a webhook that would say the same.
fn about(
    server: &ApiServer,
    attributes: &Attributes<'_>,
    object: &Value,
    resources: &Value,
) -> Result<Option<&'static Kind>, Status> {
    let hook = |rules: &Value| {
        let value = json!({
            "rules": if rules.is_null() { json!([]) } else { rules.clone() },
            "matchPolicy": resources["matchPolicy"].as_str().unwrap_or("Equivalent"),
            "namespaceSelector": resources["namespaceSelector"], "objectSelector": resources["objectSelector"],
        });
        Hook::deserialize(value).map_err(Status::internal)
    };
    let any = json!([{ "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"] }]);
    let rules = &resources["resourceRules"];
    let rules = if rules.as_array().is_none_or(Vec::is_empty) { &any } else { rules };
    let excluded = hook(&resources["excludeResourceRules"])?;
    if invoked(server, attributes, object, &excluded)?.is_some() {
        return Ok(None);
    }
    invoked(server, attributes, object, &hook(rules)?)
}

impl Matched {
    pub fn name(&self) -> &str {
        object::name(&self.policy)
    }

    /// As messages name the binding.
    pub fn with(&self) -> String {
        format!("with binding '{}'", object::name(&self.binding))
    }

    pub fn fails_open(&self) -> bool {
        self.policy["spec"]["failurePolicy"] == "Ignore"
    }

    /// The objects that the policy is to be held against; null alone where it wants none.
    pub fn params(&self, server: &ApiServer, attributes: &Attributes<'_>) -> Result<Vec<Value>, Status> {
        let (wanted, reference) = (&self.policy["spec"]["paramKind"], &self.binding["spec"]["paramRef"]);
        if wanted.is_null() {
            return Ok(vec![Value::Null]);
        }
        let failed = |why: String| match self.fails_open() {
            true => Ok(Vec::new()),
            false => Err(attributes.forbidden(&format!("policy '{}' {}: {why}", self.name(), self.with()))),
        };
        let api = wanted["apiVersion"].as_str().unwrap_or_default();
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        let kinds = server.kinds();
        let kind = kinds.iter().find(|it| (it.group, it.version) == (group, version) && wanted["kind"] == it.kind);
        let Some(kind) = kind else {
            return failed(format!(
                "failed to find resource referenced by paramKind: '{api}, Kind={}'",
                wanted["kind"]
            ));
        };
        let cache = server.cache(kind)?;
        let namespace = reference["namespace"].as_str().filter(|it| !it.is_empty()).unwrap_or(attributes.namespace);
        let namespace = if kind.namespaced { namespace } else { "" };
        let found: Vec<Value> = match reference["name"].as_str().filter(|it| !it.is_empty()) {
            Some(name) => cache.get(namespace, name).map(|it| it.value()).into_iter().collect(),
            None => {
                let selector = serde_json::from_value(reference["selector"].clone()).ok();
                let selector = LabelSelector::from_metav1(selector.as_ref()).map_err(Status::internal)?;
                let all = cache.list(Some(namespace).filter(|it| !it.is_empty())).items;
                all.iter().filter(|it| selector.matches_with(|key| it.label(key))).map(|it| it.value()).collect()
            }
        };
        match found.is_empty() && reference["parameterNotFoundAction"] != "Allow" {
            true => failed("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()),
            false => Ok(found),
        }
    }
}
