//! What CNI plugins are given and what they print: read, or refused.
//!
//! Must not know: how plugins are run.

use pintle_cni::{AddResult, parsers};

/// A list's document is read as the same list again: what is kept of a pod is enough to detach it.
pub(super) fn configurations_are_read_or_refused(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(document) = parsers::list(&text) {
        assert_eq!(parsers::list(&document.to_string()).unwrap(), document);
    }
    let _ = (parsers::single(&text), parsers::request(bytes));
}

/// What is read can be printed, and is read as the same again.
pub(super) fn results_are_read_or_refused(bytes: &[u8]) {
    let Ok(result) = serde_json::from_slice::<AddResult>(bytes) else { return };
    assert!(result.addresses().len() <= result.ips.len());
    let again: AddResult = serde_json::from_value(result.document()).unwrap();
    assert_eq!(again, result);
}
