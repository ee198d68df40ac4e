//! A claim without a class gets the default one (`plugin/pkg/admission/storage/storageclass/setdefault`).
//!
//! Must not know: who provisions.

use std::sync::Arc;

use pintle_api::object;
use pintle_api::status::Status;
use serde_json::Value;

use crate::server::ApiServer;

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

pub fn admit(server: &Arc<ApiServer>, claim: &mut Value) -> Result<(), Status> {
    let annotated = !claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].is_null();
    if annotated || !claim["spec"]["storageClassName"].is_null() {
        return Ok(());
    }
    let classes = server.cache_of("storage.k8s.io", "storageclasses")?;
    let all = classes.list(None).items.into_iter().map(|c| c.value());
    let defaults = all.filter(|c| [DEFAULT, BETA].iter().any(|a| c["metadata"]["annotations"][*a] == "true"));
    // the newest wins, then the first by name
    let newest = defaults.max_by(|a, b| {
        let made = |c: &Value| object::meta(c, "creationTimestamp").to_owned();
        made(a).cmp(&made(b)).then_with(|| object::name(b).cmp(object::name(a)))
    });
    if let Some(class) = newest {
        claim["spec"]["storageClassName"] = object::name(&class).into();
    }
    Ok(())
}
