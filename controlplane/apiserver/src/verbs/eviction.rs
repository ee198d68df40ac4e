//! `pods/eviction`: a deletion that asks the pod's disruption budget first
//! (`pkg/registry/core/pod/storage/eviction.go`).
//!
//! Must not know: who evicts.

use std::sync::Arc;

use jiff::Timestamp;
use pintle_api::kinds;
use pintle_api::object;
use pintle_api::selector::LabelSelector;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::change::{Source, change};
use super::{delete, write};
use crate::admission::node_restriction;
use crate::body::RequestBody;
use crate::cache::{CommitError, Stored};
use crate::call::{Call, Reply};
use crate::negotiate;
use crate::request::{DeleteOptions, WriteOptions, decode};
use crate::rules::delete::rfc3339;
use crate::server::ApiServer;

/// More disrupted pods than this, and nobody is counting any more.
const MOST_DISRUPTED: usize = 2000;

/// How often the budget is asked again after somebody else changed it.
const ATTEMPTS: usize = 20;

const WOULD_VIOLATE: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

pub async fn evict(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let write = WriteOptions::parse(&call.query, "CreateOptions")?;
    let bytes = decode::read(body).await?;
    let mut eviction = decode::value(&bytes, negotiate::content(&call.headers)?, "Eviction")?;
    decode::check_kind(&mut eviction, "policy", "v1", "Eviction")?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
    let said = object::name(&eviction);
    if !said.is_empty() && said != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    super::admit_subresource(server, call, name, &mut eviction, write.dry_run).await?;
    let mut options = DeleteOptions::from_value(&eviction["deleteOptions"])?;
    options.dry_run |= write.dry_run;
    let pods = kinds::find("", "v1", "pods").ok_or_else(|| Status::internal("no pods"))?;
    let pod = server.cache(pods)?.get(namespace, name).ok_or_else(|| Status::not_found("pods", "", name))?;
    let value = pod.value();
    if let Some(node) = call.user.node_name() {
        let allowed = node_restriction::admit_eviction(node, &value);
        allowed.map_err(|why| Status::forbidden("pods", "", name, &why))?;
    }
    if !ignores_budget(&value) {
        disrupt(server, &pod, &value, options.dry_run).await?;
        options.uid.get_or_insert_with(|| object::uid(&value).to_owned());
    }
    if !options.dry_run {
        mark(server, call, &options).await?;
        // checked, and changed by what was written just now
        options.resource_version = None;
    }
    delete::delete_object(server, call, namespace, name, &options).await?;
    Ok(Reply::Value { code: 201, value: super::success(201) })
}

/// Writes on the pod that it is not its own fault that it goes, which Jobs' failure policies look for.
async fn mark(server: &Arc<ApiServer>, call: &Call, options: &DeleteOptions) -> Result<(), Status> {
    let pods = kinds::find("", "v1", "pods").ok_or_else(|| Status::internal("no pods"))?;
    let mut status = Call::internal(pods, "patch", &call.info.namespace, &call.info.name);
    status.info.subresource = "status".to_owned();
    let now = Timestamp::now();
    let make = |old: &Value| {
        let version = object::meta(old, "resourceVersion");
        if options.resource_version.as_ref().is_some_and(|wanted| wanted != version) {
            let why = format!(
                "the ResourceVersion in the precondition ({}) does not match the ResourceVersion in record ({version}). \
                 The object might have been modified",
                options.resource_version.as_deref().unwrap_or_default(),
            );
            return Err(Status::conflict("pods", "", object::name(old), &format!("Precondition failed: {why}")));
        }
        if options.uid.as_ref().is_some_and(|uid| uid != object::uid(old)) {
            return Ok(old.clone()); // the deletion says so
        }
        Ok(disrupted(old.clone(), now))
    };
    let written = WriteOptions { field_manager: call.manager(""), ..WriteOptions::default() };
    change(server, &status, &written, Source::Made(&make)).await.map(drop)
}

/// The pod with the condition that says why it goes.
fn disrupted(mut pod: Value, now: Timestamp) -> Value {
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(all) = conditions.as_array_mut() else { return pod };
    if all.iter().any(|c| c["type"] == "DisruptionTarget" && c["status"] == "True") {
        return pod;
    }
    all.retain(|c| c["type"] != "DisruptionTarget");
    all.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": rfc3339(now),
    }));
    pod
}

/// A pod that does not run disrupts nobody.
fn ignores_budget(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
        || !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Takes one disruption from the pod's budget, where it has one.
async fn disrupt(server: &Arc<ApiServer>, pod: &Stored, value: &Value, dry_run: bool) -> Result<(), Status> {
    let kind = kinds::find("policy", "v1", "poddisruptionbudgets").ok_or_else(|| Status::internal("no budgets"))?;
    let budgets = server.cache(kind)?;
    for _ in 0..ATTEMPTS {
        let all = budgets.list(Some(&pod.namespace)).items;
        let mut matching = all.into_iter().filter(|budget| covers(&budget.value(), pod));
        let Some(budget) = matching.next() else { return Ok(()) };
        if matching.next().is_some() {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, "InternalError", why));
        }
        let current = budget.value();
        if !is_ready(value) && lets_unready_go(&current) {
            return Ok(());
        }
        let taken = taken_from(current, &pod.name, Timestamp::now())?;
        if dry_run {
            return Ok(());
        }
        let call = Call::internal(kind, "update", &budget.namespace, &budget.name);
        let bytes = write::bytes(&call, &taken)?;
        match budgets.update(&budget.namespace, &budget.name, budget.revision, bytes).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict(_)) => {}
            Err(error) => return Err(write::commit_error(&call, &budget.name, error)),
        }
    }
    Err(too_many("couldn't update PodDisruptionBudget due to conflicts"))
}

fn covers(budget: &Value, pod: &Stored) -> bool {
    let selector = serde_json::from_value(budget["spec"]["selector"].clone()).ok();
    let selector = LabelSelector::from_metav1(selector.as_ref());
    selector.is_ok_and(|s| s.matches_with(|key| pod.label(key)))
}

fn lets_unready_go(budget: &Value) -> bool {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || (number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0)
}

/// The budget with one disruption less, or why it allows none.
fn taken_from(mut budget: Value, pod: &str, now: Timestamp) -> Result<Value, Status> {
    let name = object::name(&budget).to_owned();
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let mut status = too_many(&format!("The disruption budget {name} is still being processed by the server."));
        status.details["retryAfterSeconds"] = 10.into();
        return Err(status);
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden("poddisruptionbudgets", "policy", &name, "pdb disruptions allowed is negative"));
    }
    if budget["status"]["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden("poddisruptionbudgets", "policy", &name, why));
    }
    if allowed == 0 {
        let (needs, has) = (number("desiredHealthy"), number("currentHealthy"));
        let why = format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently");
        return Err(too_many(&why));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    object::map_mut(&mut budget["status"], "disruptedPods").insert(pod.to_owned(), rfc3339(now).into());
    Ok(budget)
}

fn too_many(why: &str) -> Status {
    let mut status = Status::new(429, "TooManyRequests", WOULD_VIOLATE);
    status.details = json!({ "causes": [{ "reason": "DisruptionBudget", "message": why }] });
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evicted_pod_says_once_that_it_was_disrupted() {
        let once = disrupted(json!({"metadata": {"name": "p"}}), Timestamp::UNIX_EPOCH);
        let condition = &once["status"]["conditions"][0];
        assert_eq!(
            (&condition["type"], &condition["reason"]),
            (&"DisruptionTarget".into(), &"EvictionByEvictionAPI".into())
        );
        assert_eq!(disrupted(once.clone(), Timestamp::now()), once);
    }

    #[test]
    fn a_budget_is_used_up() {
        let budget = json!({"metadata": {"name": "b", "generation": 1}, "status": {
            "observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3}});
        let once = taken_from(budget, "p", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(once["status"]["disruptionsAllowed"], 0);
        let refused = taken_from(once, "q", Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (429, WOULD_VIOLATE));
    }
}
