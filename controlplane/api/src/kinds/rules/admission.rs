//! Webhooks, admission policies, and the services that extend the API.
//!
//! Must not know: admission.

use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as registration;

use super::fill;
use crate::aggregation::availability::Verdict;
use crate::custom;
use crate::field::Errors;
use crate::kinds::{Rules, StatusRule};
use crate::validation::{api_services, extensions as checks};

/// The two types of webhooks differ by a field.
macro_rules! fill_webhook {
    ($webhook:expr) => {{
        let webhook = $webhook;
        fill::value(&mut webhook.failure_policy, "Fail".to_owned());
        fill::value(&mut webhook.match_policy, "Equivalent".to_owned());
        webhook.namespace_selector.get_or_insert_default();
        webhook.object_selector.get_or_insert_default();
        fill::value(&mut webhook.timeout_seconds, 10);
        if let Some(service) = &mut webhook.client_config.service {
            fill::value(&mut service.port, 443);
        }
        for rule in fill::each(&mut webhook.rules) {
            fill::value(&mut rule.scope, "*".to_owned());
        }
    }};
}

pub(super) struct ValidatingWebhookConfiguration;

impl Rules for ValidatingWebhookConfiguration {
    type Object = admission::ValidatingWebhookConfiguration;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(configuration: &mut admission::ValidatingWebhookConfiguration) {
        for webhook in fill::each(&mut configuration.webhooks) {
            fill_webhook!(webhook);
        }
    }

    fn validate(object: &admission::ValidatingWebhookConfiguration, errors: &mut Errors) {
        checks::validating_webhooks(object, errors);
    }
}

pub(super) struct MutatingWebhookConfiguration;

impl Rules for MutatingWebhookConfiguration {
    type Object = admission::MutatingWebhookConfiguration;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(configuration: &mut admission::MutatingWebhookConfiguration) {
        for webhook in fill::each(&mut configuration.webhooks) {
            fill_webhook!(&mut *webhook);
            fill::value(&mut webhook.reinvocation_policy, "Never".to_owned());
        }
    }

    fn validate(object: &admission::MutatingWebhookConfiguration, errors: &mut Errors) {
        checks::mutating_webhooks(object, errors);
    }
}

fn fill_match(resources: &mut admission::MatchResources) {
    fill::value(&mut resources.match_policy, "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let rules = fill::each(&mut resources.resource_rules).chain(fill::each(&mut resources.exclude_resource_rules));
    for rule in rules {
        fill::value(&mut rule.scope, "*".to_owned());
    }
}

pub(super) struct ValidatingAdmissionPolicy;

impl Rules for ValidatingAdmissionPolicy {
    type Object = admission::ValidatingAdmissionPolicy;

    fn validate(policy: &admission::ValidatingAdmissionPolicy, errors: &mut Errors) {
        checks::validating_policy(policy, errors);
    }

    fn defaults(policy: &mut admission::ValidatingAdmissionPolicy) {
        let spec = policy.spec.get_or_insert_default();
        fill::value(&mut spec.failure_policy, "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(fill_match);
    }
}

pub(super) struct ValidatingAdmissionPolicyBinding;

impl Rules for ValidatingAdmissionPolicyBinding {
    type Object = admission::ValidatingAdmissionPolicyBinding;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(binding: &mut admission::ValidatingAdmissionPolicyBinding) {
        let spec = &mut binding.spec;
        spec.match_resources.iter_mut().for_each(fill_match);
    }
}

pub(super) struct MutatingAdmissionPolicy;

impl Rules for MutatingAdmissionPolicy {
    type Object = admission::MutatingAdmissionPolicy;
    const STATUS: StatusRule = StatusRule::None;

    fn validate(policy: &admission::MutatingAdmissionPolicy, errors: &mut Errors) {
        checks::mutating_policy(policy, errors);
    }

    fn defaults(policy: &mut admission::MutatingAdmissionPolicy) {
        let spec = policy.spec.get_or_insert_default();
        fill::value(&mut spec.failure_policy, "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(fill_match);
    }
}

pub(super) struct MutatingAdmissionPolicyBinding;

impl Rules for MutatingAdmissionPolicyBinding {
    type Object = admission::MutatingAdmissionPolicyBinding;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(binding: &mut admission::MutatingAdmissionPolicyBinding) {
        let spec = binding.spec.get_or_insert_default();
        spec.match_resources.iter_mut().for_each(fill_match);
    }
}

pub(super) struct CustomResourceDefinition;

impl Rules for CustomResourceDefinition {
    type Object = extensions::CustomResourceDefinition;

    fn defaults(definition: &mut extensions::CustomResourceDefinition) {
        let names = &mut definition.spec.names;
        fill::text(&mut names.singular, &names.kind.to_lowercase());
        if !names.kind.is_empty() {
            fill::text(&mut names.list_kind, &format!("{}List", names.kind));
        }
        let conversion = definition
            .spec
            .conversion
            .get_or_insert_with(|| extensions::CustomResourceConversion { strategy: "None".to_owned(), webhook: None });
        let client = conversion.webhook.as_mut().and_then(|webhook| webhook.client_config.as_mut());
        if let Some(service) = client.and_then(|client| client.service.as_mut()) {
            fill::value(&mut service.port, 443);
        }
        fill_stored_versions(definition);
    }

    fn prepare_create(definition: &mut extensions::CustomResourceDefinition) {
        fill_stored_versions(definition);
    }

    fn validate(definition: &extensions::CustomResourceDefinition, errors: &mut Errors) {
        // untyped, as schemas are used
        if let Ok(definition) = serde_json::to_value(definition) {
            custom::definition::check(&definition, errors);
        }
    }
}

fn fill_stored_versions(definition: &mut extensions::CustomResourceDefinition) {
    let stored = definition.status.get_or_insert_default().stored_versions.get_or_insert_default();
    if stored.is_empty() {
        stored.extend(definition.spec.versions.iter().find(|v| v.storage).map(|v| v.name.clone()));
    }
}

pub(super) struct APIService;

impl Rules for APIService {
    type Object = registration::APIService;
    const STATUS_CHECKS: bool = true;

    fn defaults(service: &mut registration::APIService) {
        if let Some(reference) = service.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            fill::value(&mut reference.port, 443);
        }
    }

    /// One of this server's own is available at once.
    fn prepare_create(service: &mut registration::APIService) {
        if service.spec.as_ref().is_some_and(|spec| spec.service.is_some()) {
            return;
        }
        let local = Verdict::local();
        let condition = registration::APIServiceCondition {
            type_: "Available".to_owned(),
            status: "True".to_owned(),
            last_transition_time: service.metadata.creation_timestamp.clone(),
            reason: Some(local.reason.to_owned()),
            message: Some(local.message),
        };
        service.status = Some(registration::APIServiceStatus { conditions: Some(vec![condition]) });
    }

    fn validate(service: &registration::APIService, errors: &mut Errors) {
        api_services::api_service(service, errors);
    }

    fn validate_update(
        new: &registration::APIService,
        _old: &registration::APIService,
        _subresource: &str,
        errors: &mut Errors,
    ) {
        api_services::status(new, errors);
    }
}
