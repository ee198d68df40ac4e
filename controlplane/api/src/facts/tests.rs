//! The table of facts as its readers ask it: kinds, pointers, omission, list types and their keys.

use super::*;

fn field(package: &str, ty: &str, name: &str) -> &'static Field {
    type_named(package, ty).and_then(|t| t.field(name)).expect("in the table")
}

#[test]
fn every_type_parses_and_every_kind_has_kind_and_api_version() {
    for ty in types() {
        for flat in ty.fields() {
            let json_only = ["TableRow", "JSONSchemaProps"].contains(&ty.name);
            assert!(json_only || !matches!(flat.field.elem.shape, Shape::Json), "{ty:?}.{}", flat.field.name);
        }
        if ty.kind && ty.name != "WatchEvent" {
            assert_eq!(ty.fields()[0].field.name, "kind", "{ty:?}");
        }
    }
    assert!(types().len() > 900);
}

#[test]
fn lists_know_their_type_and_keys() {
    let ports = field("core/v1", "Container", "ports");
    assert_eq!(ports.list_type, Some(ListType::Map));
    assert_eq!(ports.list_keys, ["containerPort", "protocol"]);
    assert_eq!((ports.patch_strategy, ports.patch_merge_key), ("merge", "containerPort"));
    assert_eq!(field("core/v1", "ContainerPort", "protocol").default, Some("\"TCP\""));
    assert_eq!(field("meta/v1", "ObjectMeta", "finalizers").list_type, Some(ListType::Set));
}

#[test]
fn pointers_values_and_omission_differ() {
    let replicas = field("apps/v1", "DeploymentSpec", "replicas");
    assert!(replicas.elem.pointer && replicas.omitempty && !replicas.always() && replicas.number == 1);
    assert!(field("apps/v1", "DeploymentSpec", "strategy").always(), "omitempty never omits a struct");
    assert!(!field("meta/v1", "ObjectMeta", "creationTimestamp").always(), "omitzero does");
    assert!(field("core/v1", "Container", "resources").always());
    assert!(field("core/v1", "ContainerPort", "containerPort").always());
}

#[test]
fn inlined_structs_dissolve() {
    let volume = type_named("core/v1", "Volume").expect("in the table");
    let at = volume.position("emptyDir").expect("inlined");
    assert_eq!(volume.fields()[at].through, ["VolumeSource"]);
    assert_eq!(volume.members().len(), 2);
}

#[test]
fn shared_kinds_are_found_in_any_group() {
    let options = type_of("apps", "v1", "DeleteOptions").expect("shared");
    assert!(std::ptr::eq(options, type_of("", "v1", "DeleteOptions").expect("shared")));
    assert!(type_of("apps", "v1", "Deployment").is_some_and(|t| t.openapi_name() == "io.k8s.api.apps.v1.Deployment"));
    assert!(type_of("apps", "v1", "Pod").is_none());
}
