//! Admission webhooks: who is asked about a request, in which order, and what their answers do to it.
//! Sources: `admission/plugin/webhook/{mutating,validating}/dispatcher.go` of `k8s.io/apiserver`.
//!
//! Must not know: verbs.

mod hook;
mod review;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use pintle_api::kinds::{Kind, convert};
use pintle_api::status::Status;
use pintle_api::{canonical, cel, facts, patch};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::conversion;
use crate::outbound;
use crate::server::ApiServer;
use crate::verbs::scale;
pub(crate) use hook::ClientConfig;
pub(super) use hook::Hook;
use hook::{Asked, Condition};
use review::{Question, Subject};

pub(super) const GROUP: &str = "admissionregistration.k8s.io";

/// The webhooks of one configuration, or why it cannot be read.
pub type Hooks = Result<Vec<Hook>, String>;

/// The webhooks of every configuration, by the configurations' names. What configures admission is admitted by none: it
/// could not be mended.
fn hooks(server: &ApiServer, attributes: &Attributes<'_>, mutating: bool) -> Result<Vec<Arc<Hooks>>, Status> {
    let plural = if mutating { "mutatingwebhookconfigurations" } else { "validatingwebhookconfigurations" };
    let cache = server.cache_of(GROUP, plural)?;
    if cache.is_empty() || attributes.kind.group == GROUP {
        return Ok(Vec::new());
    }
    let made = &server.configured.side(mutating).hooks;
    let read = |value: Value| Hook::of_configuration(&value).map_err(|error| error.to_string());
    let all: Vec<_> = cache.list(None).items.iter().map(|stored| made.of(stored, cache.len(), read)).collect();
    match all.iter().find_map(|hooks| hooks.as_ref().as_ref().err()) {
        Some(error) => Err(Status::internal(error)),
        None => Ok(all),
    }
}

/// Mutating and validating webhooks, for what passes no other plugin.
pub async fn admit(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    mutate(server, attributes, object).await?;
    validate(server, attributes, object).await
}

/// What happened in the first of two rounds.
#[derive(Default)]
struct Round {
    changed: bool,
    /// Those that want to hear of later changes, and those that there were changes after; by their place.
    called: BTreeSet<usize>,
    again: BTreeSet<usize>,
}

pub async fn mutate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    let hooks = hooks(server, attributes, true)?;
    let hooks: Vec<&Hook> = hooks.iter().flat_map(|it| it.iter().flatten()).collect();
    let mut round = Round::default();
    for (at, hook) in hooks.iter().enumerate() {
        ask_mutating(server, attributes, object, hook, at, &mut round).await?;
    }
    if !round.changed {
        return Ok(());
    }
    let said = object.clone();
    Box::pin(super::builtin(server, attributes, object)).await?;
    let mut again = std::mem::take(&mut round.again);
    if said != *object {
        again.append(&mut round.called);
    }
    for (at, hook) in hooks.iter().enumerate().filter(|(at, _)| again.contains(at)) {
        ask_mutating(server, attributes, object, hook, at, &mut Round::default()).await?;
    }
    Ok(())
}

async fn ask_mutating(
    server: &Arc<ApiServer>,
    attributes: &Attributes<'_>,
    object: &mut Value,
    hook: &Hook,
    at: usize,
    round: &mut Round,
) -> Result<(), Status> {
    let Some(kind) = invoked(server, attributes, object, hook)? else { return Ok(()) };
    let shown = Shown::of(attributes, kind, object);
    if !shown.meets(attributes, hook)? {
        return Ok(());
    }
    let patch = ask(server, attributes, hook, &shown, true).await?;
    if patch.as_array().is_some_and(|operations| !operations.is_empty()) {
        let patched = patched(attributes, &shown, &patch, hook)?;
        if patched != *object {
            round.changed = true;
            round.again.append(&mut round.called);
            *object = patched;
        }
    }
    if hook.is_reinvoked() {
        round.called.insert(at);
    }
    Ok(())
}

pub async fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    let hooks = hooks(server, attributes, false)?;
    let mut asked = Vec::new();
    for hook in hooks.iter().flat_map(|it| it.iter().flatten()) {
        let Some(kind) = invoked(server, attributes, object, hook)? else { continue };
        let shown = Shown::of(attributes, kind, object);
        if shown.meets(attributes, hook)? {
            asked.push((hook, shown));
        }
    }
    let answers = asked.iter().map(|(hook, shown)| ask(server, attributes, hook, shown, false));
    join_all(answers).await.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
}

/// The kind whose version of the request the webhook is asked about, if it is.
pub(super) fn invoked(
    server: &ApiServer,
    attributes: &Attributes<'_>,
    object: &Value,
    hook: &Hook,
) -> Result<Option<&'static Kind>, Status> {
    let asked = |kind: &Kind| {
        hook.has_rule_for(Asked {
            operation: operation(attributes),
            group: kind.group,
            version: kind.version,
            plural: kind.plural,
            subresource: attributes.subresource,
            namespace: attributes.namespace,
            name: attributes.name,
        })
    };
    let old = attributes.old.unwrap_or(&Value::Null);
    let here = in_namespace(server, attributes, object, hook);
    if matches!(here, Ok(false)) || !hook.selects([object, old]).map_err(Status::internal)? {
        return Ok(None);
    }
    let equivalent = || {
        let all = server.kinds().into_iter();
        let mut others = all.filter(|kind| hook.matches_equivalents() && is_equivalent(kind, attributes));
        others.find(|kind| asked(kind))
    };
    let found = if asked(attributes.kind) { Some(attributes.kind) } else { equivalent() };
    // whom the webhook has no rule for, its namespace is nobody's business
    if found.is_some() { here.map(|_| found) } else { Ok(None) }
}

/// What a webhook converts is not shown in another version than the request's: that would be a call within a call.
fn is_equivalent(kind: &Kind, attributes: &Attributes<'_>) -> bool {
    conversion::of(kind).is_none() && kind.storage == attributes.kind.storage && !std::ptr::eq(kind, attributes.kind)
}

/// Whether the request's namespace is selected; what is in none always is.
fn in_namespace(server: &ApiServer, attributes: &Attributes<'_>, object: &Value, hook: &Hook) -> Result<bool, Status> {
    let about_namespaces = attributes.is("", "namespaces");
    if attributes.namespace.is_empty() && !about_namespaces {
        return Ok(true);
    }
    let selector = hook.namespaces().map_err(Status::internal)?;
    if selector.is_everything() {
        return Ok(true);
    }
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    if about_namespaces && attributes.subresource.is_empty() && written {
        return Ok(selector.matches_object(object));
    }
    let namespace = server.cache_of("", "namespaces")?.get("", attributes.namespace);
    let namespace = namespace.ok_or_else(|| Status::not_found("namespaces", "", attributes.namespace))?;
    Ok(selector.matches_with(|key| namespace.label(key)))
}

pub(super) fn operation(attributes: &Attributes<'_>) -> &'static str {
    match attributes.operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// The objects in the version that a webhook asked for.
pub(super) struct Shown {
    pub kind: &'static Kind,
    pub object: Value,
    pub old: Value,
}

impl Shown {
    pub fn of(attributes: &Attributes<'_>, kind: &'static Kind, object: &Value) -> Self {
        let turned = |value: &Value| {
            let mut value = value.clone();
            if value.is_null() {
                return value;
            }
            if attributes.subresource == "scale" {
                return scale::scale_of(attributes.kind, &value);
            }
            if !std::ptr::eq(kind, attributes.kind) {
                convert::to_stored(attributes.kind, &mut value);
                convert::from_stored(kind, &mut value);
            }
            value
        };
        Self { kind, object: turned(object), old: attributes.old.map(turned).unwrap_or_default() }
    }

    /// `changed`, which was shown in the webhook's version, in the request's.
    pub fn back(&self, attributes: &Attributes<'_>, mut changed: Value) -> Value {
        if !std::ptr::eq(self.kind, attributes.kind) {
            convert::to_stored(self.kind, &mut changed);
            convert::from_stored(attributes.kind, &mut changed);
        }
        changed
    }

    pub fn question<'a>(&'a self, attributes: &'a Attributes<'a>) -> Question<'a> {
        Question {
            subject: subject(self.kind, attributes.subresource),
            requested: subject(attributes.kind, attributes.subresource),
            subresource: attributes.subresource,
            name: attributes.name,
            namespace: attributes.namespace,
            operation: operation(attributes),
            user: attributes.user,
            dry_run: attributes.dry_run,
            object: &self.object,
            old: &self.old,
        }
    }

    /// Whether the webhook's conditions hold. One that fails counts as the webhook's own failure does.
    fn meets(&self, attributes: &Attributes<'_>, hook: &Hook) -> Result<bool, Status> {
        if hook.match_conditions.is_empty() {
            return Ok(true);
        }
        let request = self.question(attributes).request("");
        let known: [&Value; 3] = [&self.object, &self.old, &request];
        let held: Vec<Result<bool, String>> = hook.match_conditions.iter().map(|it| holds(it, &known)).collect();
        if held.contains(&Ok(false)) {
            return Ok(false);
        }
        match held.into_iter().find_map(Result::err) {
            Some(_) if hook.fails_open() => Ok(false),
            Some(error) => Err(attributes.forbidden(&error)),
            None => Ok(true),
        }
    }
}

fn holds(condition: &Condition, known: &[&Value; 3]) -> Result<bool, String> {
    let program = condition.program.get_or_init(|| cel::Program::compile(&condition.expression, cel::ADMISSION));
    let program = program.as_ref().map_err(Clone::clone)?;
    let variables: Vec<(&str, &Value)> = cel::ADMISSION.iter().copied().zip(known.iter().copied()).collect();
    let result = program.run(&variables)?;
    result.as_bool().ok_or_else(|| format!("match condition {:?} is not true or false", condition.name))
}

fn subject<'a>(kind: &'a Kind, subresource: &str) -> Subject<'a> {
    let own = (kind.group, kind.version, kind.kind);
    let of_subresource = kind.subresource(subresource).map(|it| (it.group, it.version, it.kind));
    Subject { group: kind.group, version: kind.version, plural: kind.plural, kind: of_subresource.unwrap_or(own) }
}

/// Calls the webhook; answers its patch. A failed call is an error unless the webhook says to go on.
async fn ask(
    server: &Arc<ApiServer>,
    attributes: &Attributes<'_>,
    hook: &Hook,
    shown: &Shown,
    mutating: bool,
) -> Result<Value, Status> {
    if attributes.dry_run && !hook.allows_dry_run() {
        return Err(Status::bad_request(format!("admission webhook {:?} does not support dry run", hook.name)));
    }
    let verdict = match call(server, attributes, hook, shown, mutating).await {
        Ok(verdict) => verdict,
        Err(error) if hook.fails_open() => {
            tracing::warn!(webhook = hook.name, error = format!("{error:#}"), "calling a webhook failed, going on");
            return Ok(Value::Null);
        }
        Err(error) => return Err(Status::internal(format!("failed calling webhook {:?}: {error:#}", hook.name))),
    };
    for warning in &verdict.warnings {
        attributes.warnings.add(warning.as_str());
    }
    if verdict.allowed { Ok(verdict.patch) } else { Err(verdict.refusal(&hook.name)) }
}

async fn call(
    server: &Arc<ApiServer>,
    attributes: &Attributes<'_>,
    hook: &Hook,
    shown: &Shown,
    mutating: bool,
) -> anyhow::Result<review::Verdict> {
    let version = hook.review_version();
    let version = version
        .ok_or_else(|| anyhow::anyhow!("webhook does not accept known AdmissionReview versions (v1, v1beta1)"))?;
    let uid = uuid::Uuid::new_v4().to_string();
    let body = shown.question(attributes).review(&uid, version);
    let client = &hook.client_config;
    let answer =
        outbound::post(server, &client.callee(), &client.trust, &body, Duration::from_secs(hook.timeout())).await;
    let answer = answer.map_err(|error| error.context("failed to call webhook"))?;
    review::verdict(&answer, &uid, version, mutating)
        .map_err(|why| anyhow::anyhow!("received invalid webhook response: {why}"))
}

/// The request's object after `patch` of what was shown.
fn patched(attributes: &Attributes<'_>, shown: &Shown, patch: &Value, hook: &Hook) -> Result<Value, Status> {
    if shown.object.is_null() {
        let name = &hook.name;
        let why = format!(
            "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
        );
        return Err(Status::internal(why));
    }
    let mut patched = patch::json(&shown.object, patch).map_err(Status::internal)?;
    let subresource = attributes.kind.subresource(attributes.subresource);
    if let Some(other) = subresource.filter(|it| it.kind != attributes.kind.kind) {
        // a Scale, a Binding, …: nothing of it has defaults
        return if other.kind == "Scale" { Err(unscalable(hook)) } else { Ok(patched) };
    }
    finish(shown.kind, &mut patched).map_err(Status::internal)?;
    Ok(shown.back(attributes, patched))
}

fn unscalable(hook: &Hook) -> Status {
    Status::internal(format!("admission webhook {:?} attempted to modify a Scale, which is not supported", hook.name))
}

/// Canonical form and defaults, as for what a client sends.
pub(super) fn finish(kind: &Kind, object: &mut Value) -> Result<(), String> {
    if let Some(resource) = kind.custom {
        resource.prune(object)?;
        resource.fill(object);
        return Ok(());
    }
    if let Some(ty) = facts::type_of(kind.group, kind.version, kind.kind) {
        canonical::canonicalize(object, ty).map_err(|error| error.to_string())?;
    }
    kind.hooks.defaults.map_or(Ok(()), |defaults| defaults(object)).map_err(|error| error.to_string())
}
