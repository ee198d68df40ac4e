//! A new node takes no pods until it says it is ready (`plugin/pkg/admission/nodetaint`).
//!
//! Must not know: who removes the taint.

use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub fn admit(node: &mut Value) {
    let taint = json!({ "key": NOT_READY, "effect": "NoSchedule" });
    match &mut node["spec"] {
        Value::Object(spec) => match spec.get_mut("taints") {
            Some(Value::Array(taints))
                if taints.iter().any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule") => {}
            Some(Value::Array(taints)) => taints.push(taint),
            _ => {
                spec.insert("taints".to_owned(), json!([taint]));
            }
        },
        other => *other = json!({ "taints": [taint] }),
    }
}
