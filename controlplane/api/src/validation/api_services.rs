//! Checks of APIServices. Source: `kube-aggregator/pkg/apis/apiregistration/validation`.
//!
//! Must not know: whether anybody answers.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as registration;

use super::{invalid, names, required, text};
use crate::aggregation;
use crate::field::{Error, Errors, Path};

pub(crate) fn api_service(service: &registration::APIService, errors: &mut Errors) {
    let nothing = registration::APIServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&nothing);
    let path = Path::new("spec");
    let (group, version) = (text(&spec.group), text(&spec.version));
    name(text(&service.metadata.name), group, version, errors);
    let at = path.child("group");
    match group {
        "" if version != "v1" => {
            errors.push(Error::required(&at, "only v1 may have an empty group and it better be legacy kube"));
        }
        "" => {}
        group => invalid(names::dns1123_subdomain(group), group, &at, errors),
    }
    invalid(names::dns1035_label(version), version, &path.child("version"), errors);
    let limits = [
        ("groupPriorityMinimum", spec.group_priority_minimum, 20_000),
        ("versionPriority", spec.version_priority, 1_000),
    ];
    for (field, value, most) in limits {
        if value <= 0 || value > most {
            let why = format!("must be positive and less than {most}");
            errors.push(Error::invalid(&path.child(field), value, why));
        }
    }
    match &spec.service {
        None => local(spec, &path, errors),
        Some(reference) => remote(spec, reference, &path, errors),
    }
}

pub(crate) fn status(service: &registration::APIService, errors: &mut Errors) {
    let conditions = service.status.as_ref().and_then(|status| status.conditions.as_ref());
    let path = Path::new("status").child("conditions");
    for (i, condition) in conditions.into_iter().flatten().enumerate() {
        let known = ["True", "False", "Unknown"];
        if !known.contains(&condition.status.as_str()) {
            let at = path.index(i).child("status");
            errors.push(Error::not_supported(&at, condition.status.as_str(), &known));
        }
    }
}

fn name(name: &str, group: &str, version: &str, errors: &mut Errors) {
    let needed = aggregation::name(group, version);
    // what no name may be is told once, of every kind
    if name != needed && names::path_segment(name).is_empty() {
        let why = format!("must be `spec.version+\".\"+spec.group`: {needed:?}");
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, why));
    }
}

fn local(spec: &registration::APIServiceSpec, path: &Path, errors: &mut Errors) {
    let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    if bundle > 0 {
        let why = "local APIServices may not have a caBundle";
        errors.push(Error::invalid(&path.child("caBundle"), format!("{bundle} bytes"), why));
    }
    if spec.insecure_skip_tls_verify == Some(true) {
        let why = "local APIServices may not have insecureSkipTLSVerify";
        errors.push(Error::invalid(&path.child("insecureSkipTLSVerify"), true, why));
    }
}

fn remote(
    spec: &registration::APIServiceSpec,
    reference: &registration::ServiceReference,
    path: &Path,
    errors: &mut Errors,
) {
    let at = path.child("service");
    required(text(&reference.namespace), &at.child("namespace"), errors);
    required(text(&reference.name), &at.child("name"), errors);
    let port = reference.port.unwrap_or_default();
    let problems = names::port_number(port.into());
    if !problems.is_empty() {
        let why = format!("port is not valid: {}", problems.join(", "));
        errors.push(Error::invalid(&at.child("port"), port, why));
    }
    let bundle = spec.ca_bundle.as_ref().is_some_and(|bundle| !bundle.0.is_empty());
    if bundle && spec.insecure_skip_tls_verify == Some(true) {
        let why = "may not be true if caBundle is present";
        errors.push(Error::invalid(&path.child("insecureSkipTLSVerify"), true, why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(object: Value) -> Vec<String> {
        let mut errors = Errors::new();
        api_service(&serde_json::from_value(object).unwrap(), &mut errors);
        errors.iter().map(|error| format!("{}: {}", error.path, error.body())).collect()
    }

    fn object(name: &str, spec: Value) -> Value {
        json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": name }, "spec": spec })
    }

    #[test]
    fn a_sound_registration_is_taken() {
        let service = json!({ "namespace": "n", "name": "s", "port": 443 });
        let spec = json!({ "group": "a.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 200, "service": service });
        assert!(problems(object("v1.a.example.com", spec)).is_empty());
        let core = json!({ "version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1 });
        assert!(problems(object("v1.", core)).is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let spec = json!({ "version": "v2", "groupPriorityMinimum": 20001, "versionPriority": 0, "caBundle": "YQ==", "insecureSkipTLSVerify": true });
        assert_eq!(
            problems(object("x", spec)),
            [
                "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v2.\"",
                "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
                "spec.caBundle: Invalid value: \"1 bytes\": local APIServices may not have a caBundle",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ]
        );
    }

    #[test]
    fn a_service_is_named_whole() {
        let service = json!({ "port": 0 });
        let spec = json!({
            "group": "a", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "service": service,
            "caBundle": "YQ==", "insecureSkipTLSVerify": true,
        });
        assert_eq!(
            problems(object("v1.a", spec)),
            [
                "spec.service.namespace: Required value",
                "spec.service.name: Required value",
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
            ]
        );
    }
}
