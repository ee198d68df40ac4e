//! `metadata.managedFields`: who manages which fields.
//!
//! Must not know: what the fields are.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::set::Set;
use crate::canonical::time;
use crate::status::Status;

/// More managers that update than this are folded into one.
const MOST_UPDATERS: usize = 10;
const FOLDED: &str = "ancient-changes";

/// Who manages: one entry of `managedFields` but for its fields and time. Appliers are the same in every version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub manager: String,
    pub applies: bool,
    /// Empty for an applier.
    pub api_version: String,
    pub subresource: String,
}

#[derive(Debug, Clone)]
pub(super) struct Managed {
    pub api_version: String,
    pub set: Set,
    /// As in JSON; empty where there is none.
    pub time: String,
}

pub(super) type Managers = BTreeMap<Id, Managed>;

impl Id {
    pub fn new(manager: &str, applies: bool, api_version: &str, subresource: &str) -> Self {
        Self {
            manager: if manager.is_empty() { "unknown".to_owned() } else { manager.to_owned() },
            applies,
            api_version: if applies { String::new() } else { api_version.to_owned() },
            subresource: subresource.to_owned(),
        }
    }

    /// As conflicts name it.
    pub fn shown(&self) -> String {
        let mut out = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if !self.applies {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }
}

/// Reads an object's `managedFields`; None where any entry is not valid.
pub(super) fn decode(object: &Value) -> Option<Managers> {
    let mut out = Managers::new();
    for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let applies = match text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        let set = if entry["fieldsV1"].is_null() { Set::default() } else { Set::parse(&entry["fieldsV1"])? };
        let id = Id::new(text("manager"), applies, text("apiVersion"), text("subresource"));
        out.insert(id, Managed { api_version: text("apiVersion").to_owned(), set, time: text("time").to_owned() });
    }
    Some(out)
}

/// Writes `managedFields`, in upstream's order.
pub(super) fn encode(object: &mut Value, managers: &Managers) {
    let metadata = crate::object::metadata_mut(object);
    if managers.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    let mut entries: Vec<(&Id, &Managed)> = managers.iter().collect();
    entries.sort_by_key(|(id, managed)| (!id.applies, seconds(managed), *id, managed.api_version.as_str()));
    metadata.insert("managedFields".to_owned(), entries.iter().map(|(id, managed)| entry(id, managed)).collect());
}

fn entry(id: &Id, managed: &Managed) -> Value {
    let mut out = Map::new();
    out.insert("manager".to_owned(), json!(id.manager));
    out.insert("operation".to_owned(), json!(if id.applies { "Apply" } else { "Update" }));
    out.insert("apiVersion".to_owned(), json!(managed.api_version));
    if !managed.time.is_empty() {
        out.insert("time".to_owned(), json!(managed.time));
    }
    out.insert("fieldsType".to_owned(), json!("FieldsV1"));
    out.insert("fieldsV1".to_owned(), managed.set.to_fields());
    if !id.subresource.is_empty() {
        out.insert("subresource".to_owned(), json!(id.subresource));
    }
    Value::Object(out)
}

fn seconds(managed: &Managed) -> i64 {
    time::parse(&managed.time, false).map_or(0, |(seconds, _)| seconds)
}

/// Folds the oldest updaters of a version together until there are few enough.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<Id> = managers.keys().filter(|id| !id.applies).cloned().collect();
    updaters.sort_by_key(|id| (managers.get(id).map_or(0, seconds), id.clone()));
    let mut count = updaters.len();
    let mut first_of_version: BTreeMap<String, Id> = BTreeMap::new();
    for id in updaters {
        if count <= MOST_UPDATERS {
            return;
        }
        let Some(version) = managers.get(&id).map(|managed| managed.api_version.clone()) else { continue };
        let Some(first) = first_of_version.get(&version) else {
            first_of_version.insert(version, id);
            continue;
        };
        let bucket = Id::new(FOLDED, false, &version, "");
        if let Some(oldest) = managers.remove(first) {
            managers.entry(bucket.clone()).or_insert(oldest);
        }
        if let (Some(folded), true) = (managers.remove(&id), managers.contains_key(&bucket))
            && let Some(bucket) = managers.get_mut(&bucket)
        {
            bucket.set = bucket.set.union(&folded.set);
            bucket.time = folded.time;
            count -= 1;
        }
    }
}

/// 409, with one cause per field.
pub(super) fn conflict(conflicts: &[(&Id, Set)]) -> Status {
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (id, set) in conflicts {
        lines.push(format!("conflicts with {}:", id.shown()));
        for path in set.paths() {
            let path = super::set::shown(&path);
            lines.push(format!("- {path}"));
            causes.push(json!({ "reason": "FieldManagerConflict", "field": path,
                "message": format!("conflict with {}", id.shown()) }));
        }
    }
    let message = match causes.as_slice() {
        [one] => format!(
            "Apply failed with 1 conflict: {}: {}",
            one["message"].as_str().unwrap_or_default(),
            one["field"].as_str().unwrap_or_default()
        ),
        many => format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n")),
    };
    let mut status = Status::new(409, "Conflict", message);
    status.details = json!({ "causes": causes });
    status
}
