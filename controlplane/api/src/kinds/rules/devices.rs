//! Claims of devices (`resource.k8s.io`).
//!
//! Must not know: allocation.

use k8s_openapi::api::resource::v1 as resource;

use super::fill;
use crate::kinds::{Rules, StatusRule};

/// A request and each of its alternatives have the same fields in two types.
macro_rules! fill_request {
    ($request:expr) => {{
        let request = $request;
        fill::text(&mut request.allocation_mode, "ExactCount");
        if request.allocation_mode.as_deref() == Some("ExactCount") && request.count.unwrap_or(0) == 0 {
            request.count = Some(1);
        }
        fill_tolerations(&mut request.tolerations);
    }};
}

fn fill_tolerations(tolerations: &mut Option<Vec<resource::DeviceToleration>>) {
    for toleration in fill::each(tolerations) {
        fill::text(&mut toleration.operator, "Equal");
    }
}

fn fill_claim(spec: &mut resource::ResourceClaimSpec) {
    let Some(devices) = &mut spec.devices else { return };
    for request in fill::each(&mut devices.requests) {
        if let Some(exact) = &mut request.exactly {
            fill_request!(exact);
        }
        for alternative in fill::each(&mut request.first_available) {
            fill_request!(alternative);
        }
    }
}

pub(super) struct ResourceClaim;

impl Rules for ResourceClaim {
    type Object = resource::ResourceClaim;

    fn defaults(claim: &mut resource::ResourceClaim) {
        fill_claim(&mut claim.spec);
        let allocated = claim.status.as_mut().and_then(|s| s.allocation.as_mut()).and_then(|a| a.devices.as_mut());
        for result in allocated.into_iter().flat_map(|devices| fill::each(&mut devices.results)) {
            fill_tolerations(&mut result.tolerations);
        }
    }
}

pub(super) struct ResourceClaimTemplate;

impl Rules for ResourceClaimTemplate {
    type Object = resource::ResourceClaimTemplate;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(template: &mut resource::ResourceClaimTemplate) {
        fill_claim(&mut template.spec.spec);
    }
}
