//! An Ingress without a class gets the default one (`plugin/pkg/admission/network/defaultingressclass`).
//!
//! Must not know: who implements Ingresses.

use std::sync::Arc;

use pintle_api::object;
use pintle_api::status::Status;
use serde_json::Value;

use crate::server::ApiServer;

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

pub fn admit(server: &Arc<ApiServer>, ingress: &mut Value) -> Result<(), Status> {
    let annotated = !ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"].is_null();
    if annotated || !ingress["spec"]["ingressClassName"].is_null() {
        return Ok(());
    }
    let classes = server.cache_of("networking.k8s.io", "ingressclasses")?.list(None).items;
    let classes = classes.into_iter().map(|class| class.value());
    let defaults = classes.filter(|class| class["metadata"]["annotations"][IS_DEFAULT] == "true");
    // of several the newest, and of those the first by name
    let key = |class: &Value| {
        (std::cmp::Reverse(object::meta(class, "creationTimestamp").to_owned()), object::name(class).to_owned())
    };
    if let Some(class) = defaults.min_by_key(key) {
        ingress["spec"]["ingressClassName"] = object::name(&class).into();
    }
    Ok(())
}
