//! The rows of webhooks, admission policies, API services, flow control and devices.
//!
//! Must not know: admission.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{self, NONE, UNSET, int, list, str_of};
use super::{Printer, columns, name_and_age};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    let (columns, cells): (_, fn(&Value, Timestamp) -> Vec<Value>) = match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            (columns::WEBHOOK_CONFIGURATION, webhook_configuration)
        }
        "ValidatingAdmissionPolicy" => (columns::VALIDATING_ADMISSION_POLICY, validating_policy),
        "MutatingAdmissionPolicy" => (columns::MUTATING_ADMISSION_POLICY, mutating_policy),
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            (columns::ADMISSION_POLICY_BINDING, policy_binding)
        }
        "FlowSchema" => (columns::FLOW_SCHEMA, flow_schema),
        "PriorityLevelConfiguration" => (columns::PRIORITY_LEVEL, priority_level),
        "ResourceClaim" => (columns::RESOURCE_CLAIM, resource_claim),
        "ResourceSlice" => (columns::RESOURCE_SLICE, resource_slice),
        "APIService" => (columns::API_SERVICE, api_service),
        "DeviceClass" | "ResourceClaimTemplate" => (columns::NAME_AND_AGE, name_and_age),
        _ => return None,
    };
    Some(Printer { columns, cells })
}

fn webhook_configuration(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), text::len(&item["webhooks"]).into(), text::age(item, now)]
}

fn validating_policy(item: &Value, now: Timestamp) -> Vec<Value> {
    policy(item, "validations", now)
}

fn mutating_policy(item: &Value, now: Timestamp) -> Vec<Value> {
    policy(item, "mutations", now)
}

fn policy(item: &Value, counted: &str, now: Timestamp) -> Vec<Value> {
    let kind = match &item["spec"]["paramKind"] {
        Value::Null => UNSET.to_owned(),
        kind => format!("{}/{}", str_of(&kind["apiVersion"]), str_of(&kind["kind"])),
    };
    vec![text::name(item), text::len(&item["spec"][counted]).into(), kind.into(), text::age(item, now)]
}

fn policy_binding(item: &Value, now: Timestamp) -> Vec<Value> {
    let param = &item["spec"]["paramRef"];
    let shown = match (str_of(&param["name"]), str_of(&param["namespace"])) {
        ("", _) if param["selector"].is_object() => text::selector(&param["selector"]),
        ("", _) => UNSET.to_owned(),
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    };
    vec![text::name(item), str_of(&item["spec"]["policyName"]).into(), shown.into(), text::age(item, now)]
}

fn api_service(item: &Value, now: Timestamp) -> Vec<Value> {
    let service = match &item["spec"]["service"] {
        Value::Null => "Local".to_owned(),
        service => format!("{}/{}", str_of(&service["namespace"]), str_of(&service["name"])),
    };
    let available = list(&item["status"]["conditions"]).iter().find(|c| c["type"] == "Available");
    let available = available.map_or_else(
        || "Unknown".to_owned(),
        |condition| match (str_of(&condition["status"]), str_of(&condition["reason"])) {
            ("True", _) | (_, "") => str_of(&condition["status"]).to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    );
    vec![text::name(item), service.into(), available.into(), text::age(item, now)]
}

fn flow_schema(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    vec![
        text::name(item),
        str_of(&spec["priorityLevelConfiguration"]["name"]).into(),
        int(&spec["matchingPrecedence"]).into(),
        spec["distinguisherMethod"]["type"].as_str().unwrap_or(NONE).into(),
        text::age(item, now),
        text::condition(&item["status"], "Dangling").unwrap_or("?").into(),
    ]
}

fn priority_level(item: &Value, now: Timestamp) -> Vec<Value> {
    let limited = &item["spec"]["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let shown = |value: &Value| text::value_or(value, NONE.into());
    vec![
        text::name(item),
        str_of(&item["spec"]["type"]).into(),
        shown(&limited["nominalConcurrencyShares"]),
        shown(&queuing["queues"]),
        shown(&queuing["handSize"]),
        shown(&queuing["queueLengthLimit"]),
        text::age(item, now),
    ]
}

fn resource_claim(item: &Value, now: Timestamp) -> Vec<Value> {
    let (deleted, allocated) = (text::is_deleted(item), item["status"]["allocation"].is_object());
    let states = [
        ("deleted", deleted),
        ("pending", !allocated && !deleted),
        ("allocated", allocated),
        ("reserved", allocated && !list(&item["status"]["reservedFor"]).is_empty()),
    ];
    let state = states.iter().filter(|(_, is)| *is).map(|(state, _)| *state).collect::<Vec<_>>().join(",");
    vec![text::name(item), state.into(), text::age(item, now)]
}

fn resource_slice(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    vec![
        text::name(item),
        str_of(&spec["nodeName"]).into(),
        str_of(&spec["driver"]).into(),
        str_of(&spec["pool"]["name"]).into(),
        text::age(item, now),
    ]
}
