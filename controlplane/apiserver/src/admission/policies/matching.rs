//! Which policies and bindings are about a request, and with which parameters.
//!
//! Must not know: expressions.

use std::sync::Arc;

use pintle_api::kinds::Kind;
use pintle_api::object;
use pintle_api::selector::LabelSelector;
use pintle_api::status::Status;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::super::Attributes;
use super::super::webhooks::{GROUP, Hook, invoked};
use super::expressions::Expressions;
use crate::server::ApiServer;

/// A policy as it is used.
pub struct Policy {
    value: Value,
    about: Result<About, String>,
    pub expressions: Result<Expressions, String>,
}

/// A binding as it is used.
pub struct Binding {
    value: Value,
    /// None: of whatever the policy is.
    narrower: Option<Result<About, String>>,
}

/// `MatchResources`, as webhooks that would say the same.
struct About {
    included: Hook,
    excluded: Hook,
}

impl Policy {
    fn of(value: Value) -> Self {
        let spec = &value["spec"];
        Self { about: About::of(&spec["matchConstraints"]), expressions: Expressions::compile(spec), value }
    }
}

impl Binding {
    fn of(value: Value) -> Self {
        let narrower = Some(&value["spec"]["matchResources"]).filter(|it| !it.is_null()).map(About::of);
        Self { narrower, value }
    }
}

impl About {
    fn of(resources: &Value) -> Result<Self, String> {
        let hook = |rules: &Value| {
            let value = json!({
                "rules": if rules.is_null() { json!([]) } else { rules.clone() },
                "matchPolicy": resources["matchPolicy"].as_str().unwrap_or("Equivalent"),
                "namespaceSelector": resources["namespaceSelector"], "objectSelector": resources["objectSelector"],
            });
            Hook::deserialize(value).map_err(|error| error.to_string())
        };
        let any = json!([{ "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"] }]);
        let rules = &resources["resourceRules"];
        let rules = if rules.as_array().is_none_or(Vec::is_empty) { &any } else { rules };
        Ok(Self { included: hook(rules)?, excluded: hook(&resources["excludeResourceRules"])? })
    }
}

/// A policy and a binding of it that are both about the request.
pub struct Matched {
    pub policy: Arc<Policy>,
    pub binding: Arc<Binding>,
    /// In whose version the policy sees the object.
    pub kind: &'static Kind,
}

/// `mutating`: those that change objects.
pub fn matched(
    server: &ApiServer,
    attributes: &Attributes<'_>,
    object: &Value,
    mutating: bool,
) -> Result<Vec<Matched>, Status> {
    let (of_policies, of_bindings) = match mutating {
        true => ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
        false => ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
    };
    let (policies, bindings) = (server.cache_of(GROUP, of_policies)?, server.cache_of(GROUP, of_bindings)?);
    // what configures admission is admitted by none: it could not be mended
    if bindings.is_empty() || attributes.kind.group == GROUP {
        return Ok(Vec::new());
    }
    let made = server.configured.side(mutating);
    let mut found = Vec::new();
    for stored in bindings.list(None).items {
        let binding = made.bindings.of(&stored, bindings.len(), Binding::of);
        let name = binding.value["spec"]["policyName"].as_str().unwrap_or_default();
        let Some(stored) = policies.get("", name) else { continue };
        let policy = made.policies.of(&stored, policies.len(), Policy::of);
        let Some(kind) = about(server, attributes, object, &policy.about)? else { continue };
        let fits = match &binding.narrower {
            Some(narrower) => about(server, attributes, object, narrower)?.is_some(),
            None => true,
        };
        if fits {
            found.push(Matched { policy, binding, kind });
        }
    }
    Ok(found)
}

fn about(
    server: &ApiServer,
    attributes: &Attributes<'_>,
    object: &Value,
    about: &Result<About, String>,
) -> Result<Option<&'static Kind>, Status> {
    let about = about.as_ref().map_err(Status::internal)?;
    if invoked(server, attributes, object, &about.excluded)?.is_some() {
        return Ok(None);
    }
    invoked(server, attributes, object, &about.included)
}

impl Matched {
    /// The policy's `spec`.
    pub fn spec(&self) -> &Value {
        &self.policy.value["spec"]
    }

    /// What the binding says is to be done with objections.
    pub fn does(&self, action: &str) -> bool {
        let actions = &self.binding.value["spec"]["validationActions"];
        actions.as_array().is_some_and(|all| all.iter().any(|it| it == action))
    }

    pub fn name(&self) -> &str {
        object::name(&self.policy.value)
    }

    /// As messages name the binding.
    pub fn with(&self) -> String {
        format!("with binding '{}'", object::name(&self.binding.value))
    }

    pub fn fails_open(&self) -> bool {
        self.spec()["failurePolicy"] == "Ignore"
    }

    /// The objects that the policy is to be held against; null alone where it wants none.
    pub fn params(&self, server: &ApiServer, attributes: &Attributes<'_>) -> Result<Vec<Value>, Status> {
        let (wanted, reference) = (&self.spec()["paramKind"], &self.binding.value["spec"]["paramRef"]);
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
