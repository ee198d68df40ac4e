//! A request's body, bounded, as the object it spells.
//!
//! Must not know: how a verb is carried out.

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use pintle_api::kinds::Kind;
use pintle_api::protobuf;
use pintle_api::status::Status;
use serde_json::Value;

use crate::body::RequestBody;
use crate::negotiate::Format;

/// Upstream's `MaxRequestBodyBytes`.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// The whole body; 413 beyond [`MAX_BODY`].
pub async fn read(mut body: RequestBody) -> Result<Bytes, Status> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("reading the request's body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > MAX_BODY {
            return Err(too_large());
        }
        if all.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

fn too_large() -> Status {
    let message = format!("Request entity too large: limit is {MAX_BODY}");
    Status::new(413, "RequestEntityTooLarge", message)
}

/// Any object. `expected` names the kind in messages.
pub fn value(body: &[u8], format: Format, expected: &str) -> Result<Value, Status> {
    let parsed = match format {
        Format::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
        Format::Yaml => serde_yaml_ng::from_slice(body).map_err(|error| error.to_string()),
        Format::Protobuf => protobuf::decode(body).map_err(|error| error.to_string()),
    };
    parsed.map_err(|why| unrecognized(expected, &why, body))
}

fn unrecognized(expected: &str, why: &str, body: &[u8]) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {expected}): {why} ({})",
        summary(body)
    ))
}

/// The body's beginning in hexadecimal, as upstream shows what it could not read.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    match body.len() {
        0 => "<empty>".to_owned(),
        length => {
            let mut text: String = body.iter().take(SHOWN).map(|b| format!("{b:02x}")).collect();
            if length > SHOWN {
                text.push_str(" ...");
            }
            text
        }
    }
}

/// Fills in `apiVersion` and `kind`, and refuses those of another kind.
pub fn check_kind(object: &mut Value, group: &str, version: &str, kind: &str) -> Result<(), Status> {
    let expected = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let Some(map) = object.as_object_mut() else {
        return Err(unrecognized(kind, "it is no object", b""));
    };
    for (field, fill) in [("apiVersion", expected.as_str()), ("kind", kind)] {
        if map.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
            map.insert(field.to_owned(), fill.into());
        }
    }
    let found = map.get("kind").and_then(Value::as_str).unwrap_or_default();
    let found_version = map.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if found != kind {
        let version = found_version.rsplit('/').next().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "{found} in version {version:?} cannot be handled as a {kind}: no kind {found:?} is registered for {kind}"
        )));
    }
    if found_version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({expected})"
        )));
    }
    Ok(())
}

/// An object of `kind`, its `apiVersion` and `kind` filled in.
pub fn object(body: &[u8], format: Format, kind: &Kind) -> Result<Value, Status> {
    let mut object = value(body, format, kind.kind)?;
    check_kind(&mut object, kind.group, kind.version, kind.kind)?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_left_out_is_filled_in() {
        let mut object = serde_json::json!({"metadata": {}});
        check_kind(&mut object, "apps", "v1", "Deployment").unwrap();
        assert_eq!(object["apiVersion"], "apps/v1");
    }

    #[test]
    fn another_version_or_kind_is_refused() {
        let mut object = serde_json::json!({"apiVersion": "v2", "kind": "Pod"});
        let error = check_kind(&mut object, "", "v1", "Pod").unwrap_err();
        assert_eq!(error.message, "the API version in the data (v2) does not match the expected API version (v1)");
        let mut object = serde_json::json!({"apiVersion": "v1", "kind": "Pod"});
        assert_eq!(check_kind(&mut object, "", "v1", "Node").unwrap_err().code, 400);
    }

    #[test]
    fn what_cannot_be_read_is_shown_in_part() {
        let error = value(b"{", Format::Json, "Pod").unwrap_err();
        assert!(error.message.starts_with("the object provided is unrecognized (must be of type Pod): "), "{error}");
        assert!(error.message.ends_with("(7b)"), "{error}");
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_too_large() {
        let body = http_body_util::Full::new(Bytes::from(vec![b' '; MAX_BODY + 1]));
        let error = read(crate::body::request_body(body)).await.unwrap_err();
        assert_eq!(error.code, 413);
    }
}
