//! The rows of pods.
//!
//! Must not know: other kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{self, NONE, ago, int, is_true, list, or, str_of};

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summary(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, ago(last, now)),
        _ => summary.restarts.to_string(),
    };
    vec![
        text::name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        text::age(pod, now),
        or(&pod["status"]["podIPs"][0]["ip"], NONE).into(),
        or(&pod["spec"]["nodeName"], NONE).into(),
        or(&pod["status"]["nominatedNodeName"], NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// Finished pods are marked, so that clients can leave them out.
pub(super) fn completed(item: &Value) -> Option<Value> {
    if item["kind"] != "Pod" {
        return None;
    }
    let phase = str_of(&item["status"]["phase"]);
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!({ "type": "Completed", "status": "True", "reason": phase, "message": message }))
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|gate| is_true(&pod["status"], str_of(&gate["conditionType"]))).count();
    format!("{open}/{}", gates.len())
}

/// What the STATUS, READY and RESTARTS columns say.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// The containers seen so far: how often they restarted, and when last.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += int(&status["restartCount"]);
        self.last = self.last.max(text::time(&status["lastState"]["terminated"]["finishedAt"]));
    }
}

fn is_sidecar(pod: &Value, name: &Value) -> bool {
    list(&pod["spec"]["initContainers"]).iter().any(|c| c["name"] == *name && c["restartPolicy"] == "Always")
}

fn summary(pod: &Value) -> Summary {
    let status = &pod["status"];
    let sidecars = list(&pod["spec"]["initContainers"]).iter().filter(|c| c["restartPolicy"] == "Always").count();
    let mut it = Summary {
        reason: or(&status["reason"], str_of(&status["phase"])).to_owned(),
        ready: 0,
        total: list(&pod["spec"]["containers"]).len() + sidecars,
        restarts: 0,
        last_restart: None,
    };
    let gated = |c: &&Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if list(&status["conditions"]).iter().any(|c| gated(&c)) {
        it.reason = "SchedulingGated".to_owned();
    }
    let (initializing, of_sidecars) = init_containers(pod, &mut it);
    if !initializing || is_true(status, "Initialized") {
        main_containers(status, of_sidecars, &mut it);
    }
    if text::is_deleted(pod) {
        if status["reason"] == "NodeLost" {
            it.reason = "Unknown".to_owned();
        } else if !matches!(str_of(&status["phase"]), "Succeeded" | "Failed") {
            it.reason = "Terminating".to_owned();
        }
    }
    it
}

/// Looks at init containers until the first that is not done; answers whether there is one, and the restarts of
/// sidecars.
fn init_containers(pod: &Value, it: &mut Summary) -> (bool, Restarts) {
    let (mut all, mut of_sidecars) = (Restarts::default(), Restarts::default());
    let mut waiting_for = None;
    for (i, container) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        all.add(container);
        let sidecar = is_sidecar(pod, &container["name"]);
        if sidecar {
            of_sidecars.add(container);
        }
        let terminated = &container["state"]["terminated"];
        if terminated.is_object() && int(&terminated["exitCode"]) == 0 {
            continue;
        }
        if sidecar && container["started"] == true {
            it.ready += usize::from(container["ready"] == true);
            continue;
        }
        waiting_for = Some(init_reason(pod, i, &container["state"]));
        break;
    }
    (it.restarts, it.last_restart) = (all.count, all.last);
    let initializing = waiting_for.is_some();
    if let Some(reason) = waiting_for {
        it.reason = reason;
    }
    (initializing, of_sidecars)
}

fn init_reason(pod: &Value, index: usize, state: &Value) -> String {
    let waiting = str_of(&state["waiting"]["reason"]);
    match &state["terminated"] {
        terminated @ Value::Object(_) => format!("Init:{}", exit_reason(terminated)),
        _ if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
        _ => format!("Init:{index}/{}", list(&pod["spec"]["initContainers"]).len()),
    }
}

fn exit_reason(terminated: &Value) -> String {
    match (str_of(&terminated["reason"]), int(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", int(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn main_containers(status: &Value, mut restarts: Restarts, it: &mut Summary) {
    let (mut running, mut error) = (false, None);
    // from the last to the first: the first container's reason wins
    for container in list(&status["containerStatuses"]).iter().rev() {
        restarts.add(container);
        let (state, waiting) = (&container["state"], str_of(&container["state"]["waiting"]["reason"]));
        if !waiting.is_empty() {
            waiting.clone_into(&mut it.reason);
        } else if state["terminated"].is_object() {
            it.reason = exit_reason(&state["terminated"]);
            if int(&state["terminated"]["exitCode"]) != 0 {
                error = Some(it.reason.clone());
            }
        } else if container["ready"] == true && state["running"].is_object() {
            running = true;
            it.ready += 1;
        }
    }
    (it.restarts, it.last_restart) = (restarts.count, restarts.last);
    if it.reason == "Completed" {
        if running && is_true(status, "Ready") {
            "Running".clone_into(&mut it.reason);
        } else if let Some(error) = error {
            it.reason = error;
        } else if running {
            "NotReady".clone_into(&mut it.reason);
        }
    }
}
