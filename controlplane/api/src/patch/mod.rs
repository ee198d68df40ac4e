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
/// Bytes that `copy` operations may add in all: as much as a request may have.
const MOST_COPIED: usize = 3 * 1024 * 1024;

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
    let mut copied = 0;
    for operation in operations.iter() {
        if let json_patch::PatchOperation::Copy(copy) = operation {
            // copies of copies would grow without a bound
            copied += patched.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
        }
        let applied = json_patch::patch(&mut patched, std::slice::from_ref(operation));
        if applied.is_err() || copied > MOST_COPIED {
            return Err(does_not_apply());
        }
    }
    Ok(patched)
}

/// Upstream's generic answer to a patch that does not apply; it hides why.
fn does_not_apply() -> Status {
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
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
