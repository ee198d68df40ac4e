//! The rows of HorizontalPodAutoscalers.
//!
//! Must not know: metrics.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{self, NONE, UNKNOWN, UNSET, int, list, str_of};
use super::{Printer, columns};

pub(super) fn printer(kind: &str, version: &str) -> Option<Printer> {
    let cells: fn(&Value, Timestamp) -> Vec<Value> = if version == "v1" { cells_v1 } else { cells };
    (kind == "HorizontalPodAutoscaler").then_some(Printer { columns: columns::HORIZONTAL_POD_AUTOSCALER, cells })
}

fn cells(item: &Value, now: Timestamp) -> Vec<Value> {
    row(item, targets(list(&item["spec"]["metrics"]), list(&item["status"]["currentMetrics"])), now)
}

fn cells_v1(item: &Value, now: Timestamp) -> Vec<Value> {
    let current = percent(&item["status"]["currentCPUUtilizationPercentage"]);
    let target = percent(&item["spec"]["targetCPUUtilizationPercentage"]);
    let targets = target.map(|target| format!("cpu: {}/{target}", current.as_deref().unwrap_or(UNKNOWN)));
    row(item, targets.unwrap_or_else(|| NONE.to_owned()), now)
}

fn row(item: &Value, targets: String, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&item["spec"], &item["status"]);
    let reference = &spec["scaleTargetRef"];
    vec![
        text::name(item),
        format!("{}/{}", str_of(&reference["kind"]), str_of(&reference["name"])).into(),
        targets.into(),
        spec["minReplicas"].as_i64().map_or_else(|| UNSET.to_owned(), |n| n.to_string()).into(),
        int(&spec["maxReplicas"]).into(),
        int(&status["currentReplicas"]).into(),
        text::age(item, now),
    ]
}

fn percent(value: &Value) -> Option<String> {
    value.as_i64().map(|n| format!("{n}%"))
}

/// At most two metrics, and how many more there are.
fn targets(specs: &[Value], statuses: &[Value]) -> String {
    let shown: Vec<String> =
        specs.iter().enumerate().map(|(i, spec)| metric(spec, statuses.get(i).unwrap_or(&Value::Null))).collect();
    match shown.len() {
        0 => NONE.to_owned(),
        n @ 3.. => format!("{} + {} more...", shown.get(..2).unwrap_or_default().join(", "), n - 2),
        _ => shown.join(", "),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let quantity = |value: &Value| value.as_str().unwrap_or(UNKNOWN).to_owned();
    let source = match str_of(&spec["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[source]["target"], &status[source]["current"]);
    let average = quantity(&current["averageValue"]);
    let wanted = &target["averageValue"];
    match source {
        "pods" => format!("{average}/{}", quantity(wanted)),
        "external" | "object" if wanted.is_string() => format!("{average}/{} (avg)", quantity(wanted)),
        "external" | "object" => format!("{}/{}", quantity(&current["value"]), quantity(&target["value"])),
        _ => {
            let name = str_of(&spec[source]["name"]);
            if wanted.is_string() {
                return format!("{name}: {average}/{}", quantity(wanted));
            }
            let current = percent(&current["averageUtilization"]);
            let target = percent(&target["averageUtilization"]);
            format!("{name}: {}/{}", current.as_deref().unwrap_or(UNKNOWN), target.as_deref().unwrap_or("<auto>"))
        }
    }
}
