//! Patches: JSON patch, JSON merge patch, strategic merge patch, as the API server applies them.
//!
//! Results are what the patch says; bring them to canonical form before use.
//!
//! Must not know: requests, managed fields (see [`crate::apply`]).

mod strategic;

#[cfg(test)]
mod tests;

pub use strategic::strategic;

use serde_json::Value;

use crate::status::Status;

/// Upstream refuses JSON patches with more operations than this.
const MOST_OPERATIONS: usize = 10_000;

/// JSON patch (RFC 6902).
///
/// # Errors
/// 400 where `patch` is no JSON patch, 413 where it has too many operations, 422 where it does not apply.
pub fn json(current: &Value, patch: &Value) -> Result<Value, Status> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > MOST_OPERATIONS {
        let message = format!("The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {count}");
        return Err(Status::new(413, "RequestEntityTooLarge", format!("Request entity is too large: {message}")));
    }
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    let mut patched = current.clone();
    match json_patch::patch(&mut patched, &operations) {
        Ok(()) => Ok(patched),
        // upstream's generic answer to a patch that does not apply hides why
        Err(_) => Err(Status::new(422, "Invalid", "the server rejected our request due to an error in our request")),
    }
}

/// JSON merge patch (RFC 7386).
///
/// # Errors
/// 400 where `patch` is no object.
pub fn merge(current: &Value, patch: &Value) -> Result<Value, Status> {
    if !patch.is_object() {
        return Err(Status::bad_request("error decoding patch: Invalid JSON Patch"));
    }
    let mut patched = current.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}
