//! Custom resources as tables: `additionalPrinterColumns`, or their age.
//! Source: `apiextensions-apiserver/pkg/registry/customresource/tableconvertor`.
//!
//! Must not know: requests.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Resource;
use crate::tables::text;

/// Column definitions and, for each of `items`, its cells.
pub fn table(resource: &Resource, items: &[&Value], now: Timestamp) -> (Vec<Value>, Vec<Vec<Value>>) {
    let usual = [json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" })];
    let columns = if resource.columns.is_empty() { usual.as_slice() } else { resource.columns.as_slice() };
    let name = json!({ "name": "Name", "type": "string", "format": "name", "priority": 0, "description": "Name" });
    let mut definitions = vec![name];
    definitions.extend(columns.iter().map(|column| {
        let description = column["description"].as_str().filter(|it| !it.is_empty());
        let usual = format!("Custom resource definition column (in JSONPath format): {}", said(column, "jsonPath"));
        json!({
            "name": column["name"], "type": column["type"], "format": said(column, "format"),
            "priority": column["priority"].as_i64().unwrap_or(0),
            "description": description.map_or(usual, str::to_owned),
        })
    }));
    let cells = items.iter().map(|item| {
        let own = columns.iter().map(|column| cell(item, column, now));
        std::iter::once(text::name(item)).chain(own).collect()
    });
    (definitions, cells.collect())
}

fn said<'a>(column: &'a Value, field: &str) -> &'a str {
    column[field].as_str().unwrap_or_default()
}

fn cell(item: &Value, column: &Value, now: Timestamp) -> Value {
    let found = select(item, said(column, "jsonPath"));
    let Some(value) = found.first() else { return Value::Null };
    match (said(column, "type"), value) {
        ("date", value) => text::since(value, now).into(),
        ("integer" | "number" | "boolean", value) if !value.is_string() => (*value).clone(),
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", _) => {
            let all: Vec<String> =
                found.iter().map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned)).collect();
            all.join(",").into()
        }
        _ => Value::Null,
    }
}

/// The values at a JSONPath of the simple kind that columns use: fields, quoted fields, indices, `[*]`, and filters that
/// compare a field with a text.
pub fn select<'a>(item: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![item];
    let mut rest = path.trim();
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('[') {
            Some(inner) => {
                let Some((inside, after)) = inner.split_once(']') else { return Vec::new() };
                (Step::of_brackets(inside), after)
            }
            None => {
                let name = rest.trim_start_matches('.');
                let end = name.find(['.', '[']).unwrap_or(name.len());
                let (name, after) = name.split_at(end);
                if name.is_empty() && after.is_empty() {
                    break;
                }
                (if name.is_empty() { Step::Here } else { Step::Field(name.to_owned()) }, after)
            }
        };
        found = found.into_iter().flat_map(|value| step.take(value)).collect();
        rest = after;
    }
    found
}

enum Step {
    Here,
    All,
    Field(String),
    Index(i64),
    /// `?(@.type=="Ready")`
    Filter(String, String),
}

impl Step {
    fn of_brackets(inside: &str) -> Self {
        let unquoted = |text: &str| text.trim().trim_matches(['\'', '"']).to_owned();
        if let Some(condition) = inside.strip_prefix("?(").and_then(|it| it.strip_suffix(')'))
            && let Some((field, value)) = condition.split_once("==")
        {
            let field = field.trim().trim_start_matches("@.").to_owned();
            return Self::Filter(field, unquoted(value));
        }
        match inside.trim() {
            "*" => Self::All,
            text => text.parse().map_or_else(|_| Self::Field(unquoted(text)), Self::Index),
        }
    }

    fn take<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = || value.as_array().into_iter().flatten();
        match self {
            Self::Here => vec![value],
            Self::All => items().chain(value.as_object().into_iter().flat_map(|it| it.values())).collect(),
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(at) => {
                let length = value.as_array().map_or(0, Vec::len) as i64;
                let at = if *at < 0 { length + at } else { *at };
                usize::try_from(at).ok().and_then(|at| value.get(at)).into_iter().collect()
            }
            Self::Filter(field, wanted) => {
                let fits = |item: &&Value| item[field.as_str()].as_str() == Some(wanted);
                items().filter(fits).collect()
            }
        }
    }
}
