//! The rows of nodes, namespaces, events, configuration, leases, certificates, classes.
//!
//! Must not know: workloads.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{self, NONE, int, list, or, str_of};
use super::{Printer, columns, name_and_age};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    let (columns, cells): (_, fn(&Value, Timestamp) -> Vec<Value>) = match kind {
        "Node" => (columns::NODE, node),
        "Namespace" => (columns::NAMESPACE, namespace),
        "Event" => (columns::EVENT, event),
        "ConfigMap" => (columns::CONFIG_MAP, config_map),
        "Secret" => (columns::SECRET, secret),
        "ServiceAccount" => (columns::NAME_AND_AGE, name_and_age),
        "ComponentStatus" => (columns::COMPONENT_STATUS, component_status),
        "ResourceQuota" => (columns::RESOURCE_QUOTA, resource_quota),
        "Lease" => (columns::LEASE, lease),
        "CertificateSigningRequest" => (columns::CERTIFICATE_SIGNING_REQUEST, certificate_signing_request),
        "RuntimeClass" => (columns::RUNTIME_CLASS, runtime_class),
        "PriorityClass" => (columns::PRIORITY_CLASS, priority_class),
        _ => return None,
    };
    Some(Printer { columns, cells })
}

fn node(item: &Value, now: Timestamp) -> Vec<Value> {
    let info = &item["status"]["nodeInfo"];
    let shown = |field: &str| or(&info[field], text::UNKNOWN).to_owned();
    let kernel = match str_of(&info["architecture"]) {
        "" => shown("kernelVersion"),
        architecture => format!("{} ({architecture})", shown("kernelVersion")),
    };
    vec![
        text::name(item),
        node_status(item).into(),
        node_roles(item).into(),
        text::age(item, now),
        str_of(&info["kubeletVersion"]).into(),
        node_address(item, "InternalIP").into(),
        node_address(item, "ExternalIP").into(),
        shown("osImage").into(),
        kernel.into(),
        shown("containerRuntimeVersion").into(),
    ]
}

fn node_status(item: &Value) -> String {
    let ready = match text::condition(&item["status"], "Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if item["spec"]["unschedulable"] == true { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn node_roles(item: &Value) -> String {
    let labels = item["metadata"]["labels"].as_object().into_iter().flatten();
    let role = |(key, value): (&'_ String, &'_ Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => role.to_owned(),
        None if key == "kubernetes.io/role" => str_of(value).to_owned(),
        None => String::new(),
    };
    let mut roles: Vec<String> = labels.map(role).filter(|role| !role.is_empty()).collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn node_address<'a>(item: &'a Value, type_: &str) -> &'a str {
    let mut addresses = list(&item["status"]["addresses"]).iter();
    addresses.find(|a| a["type"] == type_).map_or(NONE, |a| str_of(&a["address"]))
}

fn namespace(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), str_of(&item["status"]["phase"]).into(), text::age(item, now)]
}

/// Both faces of an event: `v1` and `events.k8s.io/v1` call some fields otherwise.
fn event(item: &Value, now: Timestamp) -> Vec<Value> {
    let either = |old: &str, new: &str| if item[old].is_null() { &item[new] } else { &item[old] };
    let first = either("firstTimestamp", "deprecatedFirstTimestamp");
    let first = text::since(if first.is_null() { &item["eventTime"] } else { first }, now);
    let last = either("lastTimestamp", "deprecatedLastTimestamp");
    let mut last = if last.is_null() { first.clone() } else { text::since(last, now) };
    let mut count = int(either("count", "deprecatedCount")).max(1);
    if item["series"].is_object() {
        last = text::since(&item["series"]["lastObservedTime"], now);
        count = int(&item["series"]["count"]);
    }
    let object = either("involvedObject", "regarding");
    let kind = str_of(&object["kind"]).to_lowercase();
    let target = match str_of(&object["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        str_of(&item["type"]).into(),
        str_of(&item["reason"]).into(),
        target.into(),
        str_of(&object["fieldPath"]).into(),
        event_source(item, either("source", "deprecatedSource")).into(),
        str_of(either("message", "note")).trim().into(),
        first.into(),
        count.into(),
        text::name(item),
    ]
}

fn event_source(item: &Value, source: &Value) -> String {
    let controller = or(&item["reportingController"], str_of(&item["reportingComponent"]));
    let component = or(&source["component"], controller);
    match or(&source["host"], str_of(&item["reportingInstance"])) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}

fn config_map(item: &Value, now: Timestamp) -> Vec<Value> {
    let entries = text::len(&item["data"]) + text::len(&item["binaryData"]);
    vec![text::name(item), entries.into(), text::age(item, now)]
}

fn secret(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), str_of(&item["type"]).into(), text::len(&item["data"]).into(), text::age(item, now)]
}

fn component_status(item: &Value, _now: Timestamp) -> Vec<Value> {
    let healthy = list(&item["conditions"]).iter().find(|c| c["type"] == "Healthy");
    let (status, message, error) = match healthy {
        None => ("Unknown", "", ""),
        Some(c) => {
            let status = if c["status"] == "True" { "Healthy" } else { "Unhealthy" };
            (status, str_of(&c["message"]), str_of(&c["error"]))
        }
    };
    vec![text::name(item), status.into(), message.into(), error.into()]
}

fn resource_quota(item: &Value, now: Timestamp) -> Vec<Value> {
    let (hard, used) = (&item["status"]["hard"], &item["status"]["used"]);
    let mut names: Vec<&String> = hard.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    names.sort_unstable();
    let (limits, requests): (Vec<&String>, Vec<&String>) =
        names.into_iter().partition(|name| name.starts_with("limits."));
    let shown = |names: Vec<&String>| {
        let one = |name: &String| format!("{name}: {}/{}", or(&used[name], "0"), str_of(&hard[name]));
        names.into_iter().map(one).collect::<Vec<_>>().join(", ")
    };
    vec![text::name(item), shown(requests).into(), shown(limits).into(), text::age(item, now)]
}

fn lease(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), str_of(&item["spec"]["holderIdentity"]).into(), text::age(item, now)]
}

fn certificate_signing_request(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    let duration = spec["expirationSeconds"].as_i64().map(text::human_duration);
    vec![
        text::name(item),
        text::age(item, now),
        or(&spec["signerName"], NONE).into(),
        str_of(&spec["username"]).into(),
        duration.unwrap_or_else(|| NONE.to_owned()).into(),
        certificate_condition(&item["status"]).into(),
    ]
}

fn certificate_condition(status: &Value) -> String {
    // the condition's presence counts, whatever its status
    let has = |type_: &str| text::condition(status, type_).is_some();
    let decided = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if str_of(&status["certificate"]).is_empty() { "" } else { ",Issued" };
    format!("{decided}{failed}{issued}")
}

fn runtime_class(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), str_of(&item["handler"]).into(), text::age(item, now)]
}

fn priority_class(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        text::name(item),
        int(&item["value"]).into(),
        (item["globalDefault"] == true).into(),
        text::age(item, now),
        str_of(&item["preemptionPolicy"]).into(),
    ]
}
