//! Objects to protobuf and back, and bytes that are not what they say.

use serde_json::json;

use super::*;
use crate::canonical::canonicalize;
use crate::facts::type_of;

#[test]
fn an_object_survives_both_ways() {
    let ty = type_of("", "v1", "Service").expect("known");
    let mut object = json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": "a", "labels": { "x": "y" } },
        "spec": { "ports": [{ "port": 80, "targetPort": "http" }, { "port": 81, "targetPort": 8081 }] } });
    canonicalize(&mut object, ty).expect("fits");
    assert_eq!(decode(&encode(&object, ty)), Ok(object));
}

#[test]
fn a_list_is_made_of_messages_encoded_before() {
    let (item, ty) =
        (type_of("", "v1", "ConfigMap").expect("known"), type_of("", "v1", "ConfigMapList").expect("known"));
    let object = json!({ "metadata": { "name": "a" }, "data": { "k": "v" } });
    let meta = json!({ "resourceVersion": "7" });
    let joined = list(&meta, [encode_message(&object, item).as_slice()]);
    let whole = json!({ "metadata": meta, "items": [object] });
    assert_eq!(joined, encode_message(&whole, ty));
    assert_eq!(decode_message(&joined, ty), Ok(whole));
}

#[test]
fn a_watch_event_holds_an_object_in_its_envelope() {
    let ty = type_of("", "v1", "WatchEvent").expect("known");
    let object = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "code": 410 });
    let status = type_of("", "v1", "Status").expect("known");
    let event = watch_event("ERROR", &encode(&object, status));
    assert_eq!(decode_message(&event, ty), Ok(json!({ "type": "ERROR", "object": object })));
}

#[test]
fn what_is_malformed_is_refused() {
    assert_eq!(decode(b"{}"), Err(DecodeError::NoMagic));
    assert_eq!(
        DecodeError::NoMagic.to_string(),
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
    assert!(decode(b"k8s\0\xff\xff").is_err());
    let unknown = envelope("v1", "Nothing", b"");
    assert!(matches!(decode(&unknown), Err(DecodeError::UnknownKind { .. })));
    assert!(decode(&envelope("v1", "Pod", b"\x0a\x7f")).is_err());
}

#[test]
fn envelopes_within_envelopes_end_somewhere() {
    let ty = type_of("apps", "v1", "ControllerRevision").expect("known");
    let data = |inner: &[u8]| {
        let mut message = Vec::new();
        wire::put_message(2, &mut message, |out| wire::put_bytes(1, inner, out));
        envelope("apps/v1", "ControllerRevision", &message)
    };
    let mut bytes = encode(&json!({ "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1 }), ty);
    for _ in 0..50 {
        bytes = data(&bytes);
    }
    assert!(decode(&bytes).is_ok());
    for _ in 0..100 {
        bytes = data(&bytes);
    }
    assert_eq!(decode(&bytes), Err(DecodeError::Malformed { message: "ControllerRevision" }));
}
