//! The rows of volumes, claims, storage classes and CSI objects.
//!
//! Must not know: volumes of pods.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{self, NONE, UNSET, list, or, str_of};
use super::{Printer, columns};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    let (columns, cells): (_, fn(&Value, Timestamp) -> Vec<Value>) = match kind {
        "PersistentVolume" => (columns::PERSISTENT_VOLUME, persistent_volume),
        "PersistentVolumeClaim" => (columns::PERSISTENT_VOLUME_CLAIM, persistent_volume_claim),
        "StorageClass" => (columns::STORAGE_CLASS, storage_class),
        "VolumeAttributesClass" => (columns::VOLUME_ATTRIBUTES_CLASS, volume_attributes_class),
        "VolumeAttachment" => (columns::VOLUME_ATTACHMENT, volume_attachment),
        "CSINode" => (columns::CSI_NODE, csi_node),
        "CSIDriver" => (columns::CSI_DRIVER, csi_driver),
        "CSIStorageCapacity" => (columns::CSI_STORAGE_CAPACITY, csi_storage_capacity),
        _ => return None,
    };
    Some(Printer { columns, cells })
}

fn access_modes(modes: &Value) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| list(modes).iter().any(|m| m == mode);
    short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The annotation is older than the field, and wins as upstream's does.
fn class(item: &Value) -> &str {
    match text::annotation(item, "volume.beta.kubernetes.io/storage-class") {
        "" => str_of(&item["spec"]["storageClassName"]),
        class => class,
    }
}

fn phase(item: &Value) -> &str {
    if text::is_deleted(item) { "Terminating" } else { str_of(&item["status"]["phase"]) }
}

fn unset(value: &Value) -> Value {
    value.as_str().unwrap_or(UNSET).into()
}

fn persistent_volume(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    let claim = match &spec["claimRef"] {
        Value::Null => String::new(),
        claim => format!("{}/{}", str_of(&claim["namespace"]), str_of(&claim["name"])),
    };
    vec![
        text::name(item),
        or(&spec["capacity"]["storage"], "0").into(),
        access_modes(&spec["accessModes"]).into(),
        str_of(&spec["persistentVolumeReclaimPolicy"]).into(),
        phase(item).into(),
        claim.into(),
        class(item).into(),
        unset(&spec["volumeAttributesClassName"]),
        str_of(&item["status"]["reason"]).into(),
        text::age(item, now),
        unset(&spec["volumeMode"]),
    ]
}

fn persistent_volume_claim(item: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&item["spec"], &item["status"]);
    let volume = str_of(&spec["volumeName"]);
    let (capacity, modes) = match volume {
        "" => (String::new(), String::new()),
        _ => (or(&status["capacity"]["storage"], "0").to_owned(), access_modes(&status["accessModes"])),
    };
    vec![
        text::name(item),
        phase(item).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        class(item).into(),
        unset(&spec["volumeAttributesClassName"]),
        text::age(item, now),
        unset(&spec["volumeMode"]),
    ]
}

fn storage_class(item: &Value, now: Timestamp) -> Vec<Value> {
    let keys = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let is_default = keys.iter().any(|key| text::annotation(item, key) == "true");
    let name = str_of(&item["metadata"]["name"]);
    vec![
        if is_default { format!("{name} (default)") } else { name.to_owned() }.into(),
        str_of(&item["provisioner"]).into(),
        or(&item["reclaimPolicy"], "Delete").into(),
        or(&item["volumeBindingMode"], "Immediate").into(),
        (item["allowVolumeExpansion"] == true).into(),
        text::age(item, now),
    ]
}

fn volume_attributes_class(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), str_of(&item["driverName"]).into(), text::age(item, now)]
}

fn volume_attachment(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    vec![
        text::name(item),
        str_of(&spec["attacher"]).into(),
        str_of(&spec["source"]["persistentVolumeName"]).into(),
        str_of(&spec["nodeName"]).into(),
        (item["status"]["attached"] == true).into(),
        text::age(item, now),
    ]
}

fn csi_node(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), text::len(&item["spec"]["drivers"]).into(), text::age(item, now)]
}

fn csi_driver(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    let modes = text::joined(&spec["volumeLifecycleModes"], ",");
    let audiences = || list(&spec["tokenRequests"]).iter().map(|request| str_of(&request["audience"]));
    let tokens =
        if spec["tokenRequests"].is_null() { UNSET.to_owned() } else { audiences().collect::<Vec<_>>().join(",") };
    vec![
        text::name(item),
        (spec["attachRequired"] != false).into(),
        (spec["podInfoOnMount"] == true).into(),
        (spec["storageCapacity"] == true).into(),
        tokens.into(),
        (spec["requiresRepublish"] == true).into(),
        if modes.is_empty() { NONE.to_owned() } else { modes }.into(),
        text::age(item, now),
    ]
}

fn csi_storage_capacity(item: &Value, _now: Timestamp) -> Vec<Value> {
    vec![text::name(item), str_of(&item["storageClassName"]).into(), or(&item["capacity"], UNSET).into()]
}
