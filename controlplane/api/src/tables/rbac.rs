//! The rows of roles and their bindings.
//!
//! Must not know: authorization.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{self, list, str_of};
use super::{Printer, columns};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    let (columns, cells): (_, fn(&Value, Timestamp) -> Vec<Value>) = match kind {
        "RoleBinding" | "ClusterRoleBinding" => (columns::ROLE_BINDING, binding),
        // roles have no columns of their own: name and time of creation
        _ => return None,
    };
    Some(Printer { columns, cells })
}

fn binding(item: &Value, now: Timestamp) -> Vec<Value> {
    let role = &item["roleRef"];
    let subjects = |kind: &str| {
        let of_kind = list(&item["subjects"]).iter().filter(|subject| subject["kind"] == kind);
        let shown = of_kind.map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", str_of(&subject["namespace"]), str_of(&subject["name"])),
            _ => str_of(&subject["name"]).to_owned(),
        });
        Value::from(shown.collect::<Vec<_>>().join(", "))
    };
    vec![
        text::name(item),
        format!("{}/{}", str_of(&role["kind"]), str_of(&role["name"])).into(),
        text::age(item, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
