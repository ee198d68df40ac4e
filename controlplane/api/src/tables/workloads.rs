//! The rows of what makes pods, and of disruption budgets.
//!
//! Must not know: pods' states.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{self, NONE, int, list, or, plain, str_of};
use super::{Printer, columns, pods};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    let (columns, cells): (_, fn(&Value, Timestamp) -> Vec<Value>) = match kind {
        "Pod" => (columns::POD, pods::cells),
        "PodTemplate" => (columns::POD_TEMPLATE, pod_template),
        "ReplicationController" | "ReplicaSet" => (columns::REPLICA_SET, replica_set),
        "Deployment" => (columns::DEPLOYMENT, deployment),
        "StatefulSet" => (columns::STATEFUL_SET, stateful_set),
        "DaemonSet" => (columns::DAEMON_SET, daemon_set),
        "ControllerRevision" => (columns::CONTROLLER_REVISION, controller_revision),
        "Job" => (columns::JOB, job),
        "CronJob" => (columns::CRON_JOB, cron_job),
        "PodDisruptionBudget" => (columns::POD_DISRUPTION_BUDGET, pod_disruption_budget),
        _ => return None,
    };
    Some(Printer { columns, cells })
}

fn pod_template(item: &Value, _now: Timestamp) -> Vec<Value> {
    let template = &item["template"];
    let [names, images] = text::containers(&template["spec"]);
    vec![text::name(item), names, images, text::labels(&template["metadata"]["labels"]).into()]
}

fn replica_set(item: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&item["spec"], &item["status"]);
    let [names, images] = text::containers(&spec["template"]["spec"]);
    // a ReplicationController's selector is a plain map
    let is_map = spec["selector"].as_object().is_some_and(|s| s.values().all(Value::is_string));
    let selector = if is_map { text::labels(&spec["selector"]) } else { text::selector(&spec["selector"]) };
    vec![
        text::name(item),
        int(&spec["replicas"]).into(),
        int(&status["replicas"]).into(),
        int(&status["readyReplicas"]).into(),
        text::age(item, now),
        names,
        images,
        selector.into(),
    ]
}

fn deployment(item: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&item["spec"], &item["status"]);
    let [names, images] = text::containers(&spec["template"]["spec"]);
    vec![
        text::name(item),
        format!("{}/{}", int(&status["readyReplicas"]), int(&spec["replicas"])).into(),
        int(&status["updatedReplicas"]).into(),
        int(&status["availableReplicas"]).into(),
        text::age(item, now),
        names,
        images,
        text::parsed_selector(&spec["selector"]).unwrap_or_else(|_| "<invalid>".to_owned()).into(),
    ]
}

fn stateful_set(item: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!("{}/{}", int(&item["status"]["readyReplicas"]), int(&item["spec"]["replicas"]));
    let [names, images] = text::containers(&item["spec"]["template"]["spec"]);
    vec![text::name(item), ready.into(), text::age(item, now), names, images]
}

fn daemon_set(item: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&item["spec"], &item["status"]);
    let pod = &spec["template"]["spec"];
    let [names, images] = text::containers(pod);
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let mut cells = vec![text::name(item)];
    cells.extend(counts.map(|field| Value::from(int(&status[field]))));
    cells.extend([text::labels(&pod["nodeSelector"]).into(), text::age(item, now), names, images]);
    cells.push(text::selector(&spec["selector"]).into());
    cells
}

fn controller_revision(item: &Value, now: Timestamp) -> Vec<Value> {
    let owner = list(&item["metadata"]["ownerReferences"]).iter().find(|owner| owner["controller"] == true);
    let controller = owner.map_or_else(
        || NONE.to_owned(),
        |owner| {
            let group = str_of(&owner["apiVersion"]).rsplit_once('/').map_or("", |(group, _)| group);
            let kind = str_of(&owner["kind"]).to_lowercase();
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", str_of(&owner["name"]))
        },
    );
    vec![text::name(item), controller.into(), int(&item["revision"]).into(), text::age(item, now)]
}

fn job(item: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&item["spec"], &item["status"]);
    let [names, images] = text::containers(&spec["template"]["spec"]);
    let succeeded = int(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), int(&spec["parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let duration = text::time(&status["startTime"])
        .map(|start| text::ago(start, text::time(&status["completionTime"]).unwrap_or(now)));
    vec![
        text::name(item),
        job_status(item).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        text::age(item, now),
        names,
        images,
        text::selector(&spec["selector"]).into(),
    ]
}

fn job_status(item: &Value) -> &'static str {
    let has = |type_: &&str| text::is_true(&item["status"], type_);
    let ended = ["Complete", "Failed"].into_iter().find(has);
    let ending = || ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(has);
    match ended {
        Some(status) => status,
        None if text::is_deleted(item) => "Terminating",
        None => ending().unwrap_or("Running"),
    }
}

fn cron_job(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    let last = &item["status"]["lastScheduleTime"];
    let job = &spec["jobTemplate"]["spec"];
    let [names, images] = text::containers(&job["template"]["spec"]);
    vec![
        text::name(item),
        str_of(&spec["schedule"]).into(),
        or(&spec["timeZone"], NONE).into(),
        spec["suspend"].as_bool().map_or_else(|| text::UNSET.to_owned(), go_bool).into(),
        text::len(&item["status"]["active"]).into(),
        if last.is_null() { NONE.into() } else { text::since(last, now).into() },
        text::age(item, now),
        names,
        images,
        text::selector(&job["selector"]).into(),
    ]
}

/// Upstream prints this one by hand, with capitals.
fn go_bool(value: bool) -> String {
    if value { "True" } else { "False" }.to_owned()
}

fn pod_disruption_budget(item: &Value, now: Timestamp) -> Vec<Value> {
    let limit = |field: &str| match &item["spec"][field] {
        Value::Null => "N/A".to_owned(),
        value => plain(value),
    };
    vec![
        text::name(item),
        limit("minAvailable").into(),
        limit("maxUnavailable").into(),
        int(&item["status"]["disruptionsAllowed"]).into(),
        text::age(item, now),
    ]
}
