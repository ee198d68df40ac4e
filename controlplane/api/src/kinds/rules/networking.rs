//! Network policies, ingress classes and endpoint slices.
//!
//! Must not know: packets.

use k8s_openapi::api::{discovery::v1 as discovery, networking::v1 as networking};

use super::fill;
use crate::field::Errors;
use crate::kinds::{Rules, StatusRule};
use crate::validation::network;

pub(super) struct NetworkPolicy;

impl Rules for NetworkPolicy {
    type Object = networking::NetworkPolicy;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(policy: &mut networking::NetworkPolicy) {
        let spec = policy.spec.get_or_insert_default();
        let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let types = ["Ingress"].into_iter().chain(has_egress.then_some("Egress"));
            spec.policy_types = Some(types.map(str::to_owned).collect());
        }
        let ingress = fill::each(&mut spec.ingress).flat_map(|rule| fill::each(&mut rule.ports));
        let egress = fill::each(&mut spec.egress).flat_map(|rule| fill::each(&mut rule.ports));
        for port in ingress.chain(egress) {
            fill::value(&mut port.protocol, "TCP".to_owned());
        }
    }

    fn validate(object: &networking::NetworkPolicy, errors: &mut Errors) {
        network::network_policy(object, errors);
    }
}

pub(super) struct IngressClass;

impl Rules for IngressClass {
    type Object = networking::IngressClass;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(class: &mut networking::IngressClass) {
        if let Some(parameters) = class.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            fill::value(&mut parameters.scope, "Cluster".to_owned());
        }
    }
}

pub(super) struct EndpointSlice;

impl Rules for EndpointSlice {
    type Object = discovery::EndpointSlice;
    const PREPARES: bool = false;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(slice: &mut discovery::EndpointSlice) {
        for port in fill::each(&mut slice.ports) {
            fill::value(&mut port.name, String::new());
            fill::value(&mut port.protocol, "TCP".to_owned());
        }
    }

    fn validate(object: &discovery::EndpointSlice, errors: &mut Errors) {
        network::endpoint_slice(object, errors);
    }

    fn validate_update(
        new: &discovery::EndpointSlice,
        old: &discovery::EndpointSlice,
        _subresource: &str,
        errors: &mut Errors,
    ) {
        network::endpoint_slice_update(new, old, errors);
    }
}

pub(super) struct Ingress;

impl Rules for Ingress {
    type Object = networking::Ingress;
    const DEFAULTS: bool = false;

    fn validate(object: &networking::Ingress, errors: &mut Errors) {
        network::ingress(object, errors);
    }
}
