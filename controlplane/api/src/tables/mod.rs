//! `metav1.Table`: what `kubectl get` prints, with the columns and the texts of upstream
//! (`pkg/printers/internalversion`).
//!
//! Must not know: requests, or clocks (`now` is an argument).

mod admission;
mod autoscaling;
mod cluster;
mod columns;
mod network;
mod pods;
mod rbac;
mod storage;
pub mod text;
mod workloads;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::custom;
use crate::kinds::Kind;

/// What a row carries of its object, beside the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    None,
    /// `PartialObjectMetadata`: what kubectl asks for unless told otherwise.
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// The query parameter `includeObject`. `Err` names what is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(format!("unrecognized includeObject value: {other:?}")),
        }
    }
}

/// One column; `priority` 0 is always shown, 1 only with `-o wide`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    name: &'static str,
    type_: &'static str,
    format: &'static str,
    priority: u8,
}

/// How the objects of a kind become rows. The cells are as many as the columns.
#[derive(Clone, Copy)]
pub(crate) struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// A table of `items`. `list` is the metadata of the list that they come from (`{}` for a single object, apart from
/// its `resourceVersion`).
pub fn render(kind: &Kind, items: &[&Value], list: Value, now: Timestamp, include: Include) -> Value {
    let (columns, cells) = match kind.custom {
        Some(resource) => custom::table(resource, items, now),
        None => {
            let printer = printer(kind);
            let cells = items.iter().map(|item| (printer.cells)(item, now)).collect();
            (column_definitions(printer.columns), cells)
        }
    };
    let rows: Vec<Value> = items.iter().zip(cells).map(|(item, cells)| row(cells, item, include)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// As [`render`], for one object of a watch: upstream sends the columns with the first event only.
pub fn render_event(kind: &Kind, item: &Value, now: Timestamp, include: Include, with_columns: bool) -> Value {
    let list = json!({ "resourceVersion": item["metadata"]["resourceVersion"] });
    let mut table = render(kind, &[item], list, now, include);
    if !with_columns {
        table["columnDefinitions"] = json!([]);
    }
    table
}

fn column_definitions(columns: &[Column]) -> Vec<Value> {
    let definition = |c: &Column| {
        json!({
            "name": c.name,
            "type": c.type_,
            "format": c.format,
            "description": c.name,
            "priority": c.priority,
        })
    };
    columns.iter().map(definition).collect()
}

fn row(cells: Vec<Value>, item: &Value, include: Include) -> Value {
    let mut row = Map::new();
    row.insert("cells".to_owned(), Value::Array(cells));
    if let Some(condition) = pods::completed(item) {
        row.insert("conditions".to_owned(), json!([condition]));
    }
    let object = match include {
        Include::None => Value::Null,
        Include::Object => item.clone(),
        Include::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": item["metadata"],
        }),
    };
    row.insert("object".to_owned(), object);
    Value::Object(row)
}

/// The printer of a kind; kinds without one show their name and when they were made.
fn printer(kind: &Kind) -> Printer {
    let found = match kind.group {
        "" => cluster::printer(kind.kind).or_else(|| workloads::printer(kind.kind)),
        "apps" | "batch" | "policy" => workloads::printer(kind.kind),
        "events.k8s.io" | "coordination.k8s.io" | "certificates.k8s.io" | "node.k8s.io" | "scheduling.k8s.io" => {
            cluster::printer(kind.kind)
        }
        "networking.k8s.io" | "discovery.k8s.io" => network::printer(kind.kind),
        "autoscaling" => autoscaling::printer(kind.kind, kind.version),
        "rbac.authorization.k8s.io" => rbac::printer(kind.kind),
        "storage.k8s.io" => storage::printer(kind.kind),
        "admissionregistration.k8s.io"
        | "apiregistration.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "resource.k8s.io" => admission::printer(kind.kind),
        _ => None,
    };
    let core =
        if kind.group.is_empty() { network::printer(kind.kind).or_else(|| storage::printer(kind.kind)) } else { None };
    found.or(core).unwrap_or(Printer { columns: columns::UNKNOWN, cells: unknown })
}

fn unknown(item: &Value, _now: Timestamp) -> Vec<Value> {
    vec![text::name(item), item["metadata"]["creationTimestamp"].clone()]
}

/// Name and age: what every printer begins or ends with.
fn name_and_age(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), text::age(item, now)]
}

#[cfg(test)]
mod tests;
