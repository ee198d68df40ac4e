//! A pod stays five minutes on a node that is not ready or not reached, unless it says otherwise
//! (`plugin/pkg/admission/defaulttolerationseconds`).
//!
//! Must not know: who evicts.

use serde_json::{Value, json};

const KEYS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub fn admit(pod: &mut Value) {
    for key in KEYS {
        let tolerates = pod["spec"]["tolerations"].as_array().into_iter().flatten().any(|t| covers(t, key));
        if !tolerates {
            let toleration =
                json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 });
            match &mut pod["spec"]["tolerations"] {
                Value::Array(all) => all.push(toleration),
                other => *other = json!([toleration]),
            }
        }
    }
}

fn covers(toleration: &Value, key: &str) -> bool {
    let text = |field: &str| toleration[field].as_str().unwrap_or_default();
    (text("key") == key || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_tolerates_already_is_left_alone() {
        let mut pod = json!({"spec": {"tolerations": [{"key": KEYS[0], "operator": "Exists", "effect": "NoExecute"}]}});
        admit(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
        let mut everything = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        admit(&mut everything);
        assert_eq!(everything["spec"]["tolerations"].as_array().unwrap().len(), 1);
    }
}
