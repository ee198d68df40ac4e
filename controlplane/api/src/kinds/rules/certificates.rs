//! CertificateSigningRequests.
//!
//! Must not know: who asks (the API server writes that into the spec), or how anything is signed.

use k8s_openapi::api::certificates::v1 as certificates;

use crate::field::Errors;
use crate::kinds::Rules;
use crate::validation::extensions;

pub(super) struct CertificateSigningRequest;

impl Rules for CertificateSigningRequest {
    type Object = certificates::CertificateSigningRequest;
    const DEFAULTS: bool = false;
    const STATUS_CHECKS: bool = true;

    fn prepare_update(
        new: &mut certificates::CertificateSigningRequest,
        old: &certificates::CertificateSigningRequest,
        subresource: &str,
    ) {
        new.spec = old.spec.clone();
        if subresource == "approval" {
            let conditions = new.status.take().and_then(|status| status.conditions);
            new.status.clone_from(&old.status);
            new.status.get_or_insert_default().conditions = conditions;
        }
    }

    fn validate(object: &certificates::CertificateSigningRequest, errors: &mut Errors) {
        extensions::signing_request(object, errors);
    }
}
