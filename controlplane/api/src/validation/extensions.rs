//! Webhooks, certificate requests and hand-written endpoints.
//!
//! Must not know: admission, or how anything is signed.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::api::certificates::v1 as certificates;
use k8s_openapi::api::core::v1 as core;

use super::{invalid, invalid_number, names, one_of, required, selectors, shown, text};
use crate::cel;
use crate::field::{Error, Errors, Path};

/// The two types of webhooks differ by a field that is not checked here.
macro_rules! check_webhooks {
    ($webhooks:expr, $errors:expr) => {
        for (i, webhook) in $webhooks.iter().flatten().enumerate() {
            let path = Path::new("webhooks").index(i);
            qualified_name(&webhook.name, &path.child("name"), $errors);
            rules(webhook.rules.as_deref().unwrap_or_default(), &path, $errors);
            let policies = [&webhook.failure_policy, &webhook.match_policy].map(text);
            one_of(policies[0], &["Fail", "Ignore"], &path.child("failurePolicy"), $errors);
            one_of(policies[1], &["Equivalent", "Exact"], &path.child("matchPolicy"), $errors);
            side_effects(&webhook.side_effects, &path.child("sideEffects"), $errors);
            timeout(webhook.timeout_seconds, &path.child("timeoutSeconds"), $errors);
            for (field, selector) in
                [("namespaceSelector", &webhook.namespace_selector), ("objectSelector", &webhook.object_selector)]
            {
                if let Some(selector) = selector {
                    selectors::label_selector(selector, &path.child(field), $errors);
                }
            }
            client(&webhook.client_config, &path.child("clientConfig"), $errors);
            conditions(webhook.match_conditions.as_deref().unwrap_or_default(), &path, $errors);
            review_versions(&webhook.admission_review_versions, &path.child("admissionReviewVersions"), $errors);
        }
    };
}

pub(crate) fn validating_webhooks(it: &admission::ValidatingWebhookConfiguration, errors: &mut Errors) {
    check_webhooks!(it.webhooks, errors);
}

pub(crate) fn mutating_webhooks(it: &admission::MutatingWebhookConfiguration, errors: &mut Errors) {
    check_webhooks!(it.webhooks, errors);
}

const MOST_CONDITIONS: usize = 64;

fn conditions(conditions: &[admission::MatchCondition], path: &Path, errors: &mut Errors) {
    let path = path.child("matchConditions");
    if conditions.len() > MOST_CONDITIONS {
        errors.push(Error::too_many(&path, conditions.len(), MOST_CONDITIONS));
    }
    let mut seen = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        let name = at.child("name");
        required(&condition.name, &name, errors);
        if !condition.name.is_empty() {
            invalid(names::qualified_name(&condition.name), &condition.name, &name, errors);
            if !seen.insert(&condition.name) {
                errors.push(Error::duplicate(&name, condition.name.as_str()));
            }
        }
        expression(&condition.expression, cel::ADMISSION, &at.child("expression"), errors);
    }
}

/// What policies of both types have in common; answers their variables.
macro_rules! check_policy {
    ($spec:expr, $errors:expr) => {{
        let (path, mut known) = (Path::new("spec"), cel::Variables::default());
        for (i, variable) in $spec.variables.iter().flatten().enumerate() {
            let at = path.child("variables").index(i).child("expression");
            compiles(&variable.expression, &at, $errors, |text| known.add(&variable.name, text, cel::POLICY));
        }
        for (i, condition) in $spec.match_conditions.iter().flatten().enumerate() {
            let at = path.child("matchConditions").index(i).child("expression");
            over(&known, &condition.expression, &at, $errors);
        }
        known
    }};
}

pub(crate) fn validating_policy(it: &admission::ValidatingAdmissionPolicy, errors: &mut Errors) {
    let (Some(spec), path) = (&it.spec, Path::new("spec")) else { return };
    let known = check_policy!(spec, errors);
    for (i, validation) in spec.validations.iter().flatten().enumerate() {
        let at = path.child("validations").index(i);
        over(&known, &validation.expression, &at.child("expression"), errors);
        if let Some(text) = validation.message_expression.as_deref().filter(|it| !it.is_empty()) {
            over(&known, text, &at.child("messageExpression"), errors);
        }
    }
}

pub(crate) fn mutating_policy(it: &admission::MutatingAdmissionPolicy, errors: &mut Errors) {
    let (Some(spec), path) = (&it.spec, Path::new("spec")) else { return };
    let known = check_policy!(spec, errors);
    for (i, mutation) in spec.mutations.iter().flatten().enumerate() {
        let at = path.child("mutations").index(i);
        let both = [
            ("applyConfiguration", mutation.apply_configuration.as_ref().and_then(|it| it.expression.as_deref())),
            ("jsonPatch", mutation.json_patch.as_ref().and_then(|it| it.expression.as_deref())),
        ];
        for (field, text) in both {
            if let Some(text) = text {
                over(&known, text, &at.child(field).child("expression"), errors);
            }
        }
    }
}

fn over(known: &cel::Variables, text: &str, path: &Path, errors: &mut Errors) {
    compiles(text, path, errors, |text| known.program(text, cel::POLICY).map(drop));
}

fn expression(text: &str, variables: &[&str], path: &Path, errors: &mut Errors) {
    compiles(text, path, errors, |text| cel::Program::compile(text, variables).map(drop));
}

fn compiles(text: &str, path: &Path, errors: &mut Errors, compile: impl FnOnce(&str) -> Result<(), String>) {
    if text.trim().is_empty() {
        errors.push(Error::required(path, ""));
    } else if let Err(why) = compile(text) {
        errors.push(Error::invalid(path, text, why));
    }
}

/// A name with at least three segments.
fn qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    required(name, path, errors);
    if name.is_empty() {
        return;
    }
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        errors.push(Error::invalid(path, name, problems.join(",")));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(Error::invalid(path, name, detail));
    }
}

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

fn rules(rules: &[admission::RuleWithOperations], path: &Path, errors: &mut Errors) {
    for (i, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(i);
        let lists = [
            ("operations", &rule.operations),
            ("apiGroups", &rule.api_groups),
            ("apiVersions", &rule.api_versions),
            ("resources", &rule.resources),
        ];
        for (field, list) in lists {
            let (at, list) = (path.child(field), list.as_deref().unwrap_or_default());
            if list.is_empty() {
                errors.push(Error::required(&at, ""));
            }
            if field != "resources" && list.len() > 1 && list.iter().any(|item| item == "*") {
                let detail = format!("if '*' is present, must not specify other {}", in_words(field));
                errors.push(Error::invalid(&at, shown(&list), detail));
            }
        }
        for (i, operation) in rule.operations.iter().flatten().enumerate() {
            if !OPERATIONS.contains(&operation.as_str()) {
                let at = path.child("operations").index(i);
                errors.push(Error::not_supported(&at, operation.as_str(), OPERATIONS));
            }
        }
        if let Some(scope) = &rule.scope {
            one_of(scope, &["*", "Cluster", "Namespaced"], &path.child("scope"), errors);
        }
    }
}

/// What upstream calls the elements of a list of a rule.
fn in_words(field: &str) -> &'static str {
    match field {
        "apiGroups" => "API groups",
        "apiVersions" => "API versions",
        _ => "operations",
    }
}

fn side_effects(effects: &str, path: &Path, errors: &mut Errors) {
    if effects.is_empty() {
        errors.push(Error::required(path, "must specify one of None, NoneOnDryRun"));
    } else if !matches!(effects, "None" | "NoneOnDryRun") {
        errors.push(Error::not_supported(path, effects, &["None", "NoneOnDryRun"]));
    }
}

fn timeout(seconds: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(seconds) = seconds.filter(|seconds| !(1..=30).contains(seconds)) {
        errors.push(Error::invalid(path, seconds, "the timeout value must be between 1 and 30 seconds"));
    }
}

fn client(client: &admission::WebhookClientConfig, path: &Path, errors: &mut Errors) {
    match (&client.url, &client.service) {
        (None, Some(service)) => {
            let at = path.child("service");
            required(&service.name, &at.child("name"), errors);
            required(&service.namespace, &at.child("namespace"), errors);
            let port = i64::from(service.port.unwrap_or(443));
            invalid_number(names::port_number(port), port, &at.child("port"), errors);
        }
        (Some(url), None) if !url.starts_with("https://") => {
            let detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
            errors.push(Error::invalid(&path.child("url"), url.as_str(), detail));
        }
        (Some(_), None) => {}
        _ => errors.push(Error::required(path, "exactly one of url or service is required")),
    }
}

fn review_versions(versions: &[String], path: &Path, errors: &mut Errors) {
    let ours = ["v1", "v1beta1"];
    if versions.is_empty() {
        errors.push(Error::required(path, "must specify one of v1, v1beta1"));
    } else if !versions.iter().any(|version| ours.contains(&version.as_str())) {
        let detail = "must include at least one of v1, v1beta1";
        errors.push(Error::invalid(path, shown(&versions), detail));
    }
}

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) fn signing_request(request: &certificates::CertificateSigningRequest, errors: &mut Errors) {
    let (spec, path) = (&request.spec, Path::new("spec"));
    if !spec.request.0.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----") {
        let detail = "PEM block type must be CERTIFICATE REQUEST";
        errors.push(Error::invalid(&path.child("request"), shown(&spec.request), detail));
    }
    let (at, usages) = (path.child("usages"), spec.usages.as_deref().unwrap_or_default());
    if usages.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    for (i, usage) in usages.iter().enumerate() {
        one_of(usage, USAGES, &at.index(i), errors);
        if usages.iter().take(i).any(|other| other == usage) {
            errors.push(Error::duplicate(&at.index(i), usage.as_str()));
        }
    }
    signer_name(&spec.signer_name, &path.child("signerName"), errors);
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
}

/// `example.com/my-signer`.
fn signer_name(name: &str, path: &Path, errors: &mut Errors) {
    required(name, path, errors);
    match name.split_once('/') {
        _ if name.is_empty() => {}
        Some(("kubernetes.io", "legacy-unknown")) => {
            let detail = "the legacy signerName is not allowed via this API version";
            errors.push(Error::invalid(path, name, detail));
        }
        Some((domain, rest)) if !rest.is_empty() && !rest.contains('/') => {
            invalid(names::dns1123_subdomain(domain), domain, path, errors);
            if !domain.contains('.') {
                let detail = "should be a domain with at least two segments separated by dots";
                errors.push(Error::invalid(path, domain, detail));
            }
        }
        _ => {
            let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.push(Error::invalid(path, name, detail));
        }
    }
}

pub(crate) fn endpoints(endpoints: &core::Endpoints, errors: &mut Errors) {
    for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let path = Path::new("subsets").index(i);
        let lists = [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
        if lists.iter().all(|(_, list)| list.as_ref().is_none_or(Vec::is_empty)) {
            errors.push(Error::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (field, list) in lists {
            for (j, address) in list.iter().flatten().enumerate() {
                endpoint_address(address, &path.child(field).index(j), errors);
            }
        }
        let ports = subset.ports.as_deref().unwrap_or_default();
        for (j, port) in ports.iter().enumerate() {
            let at = path.child("ports").index(j);
            let name = text(&port.name);
            if name.is_empty() && ports.len() > 1 {
                errors.push(Error::required(&at.child("name"), ""));
            } else if !name.is_empty() {
                invalid(names::dns1123_label(name), name, &at.child("name"), errors);
            }
            let number = i64::from(port.port);
            invalid_number(names::port_number(number), number, &at.child("port"), errors);
            one_of(text(&port.protocol), &["SCTP", "TCP", "UDP"], &at.child("protocol"), errors);
        }
    }
}

fn endpoint_address(address: &core::EndpointAddress, path: &Path, errors: &mut Errors) {
    let at = path.child("ip");
    invalid(names::ip(&address.ip), &address.ip, &at, errors);
    let detail = match address.ip.parse() {
        Ok(std::net::IpAddr::V4(ip)) if ip.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        Ok(std::net::IpAddr::V6(ip)) if ip.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        Ok(ip) if ip.is_unspecified() => {
            errors.push(Error::invalid(&at, address.ip.as_str(), format!("may not be unspecified ({ip})")));
            return;
        }
        Ok(std::net::IpAddr::V4(ip)) if ip.is_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        _ => return,
    };
    errors.push(Error::invalid(&at, address.ip.as_str(), detail));
}
