//! Custom resources whose versions a webhook converts: their objects are turned before anybody reads them, and before they
//! are stored. What was converted stays with the object as it was stored: lists and watchers share it.
//!
//! Must not know: what is asked and answered within a review.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pintle_api::custom::conversion::Conversion;
use pintle_api::kinds::Kind;
use pintle_api::status::Status;
use serde::Deserialize as _;
use serde_json::Value;

use crate::admission::webhooks::ClientConfig;
use crate::cache::Stored;
use crate::outbound;
use crate::server::ApiServer;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How many objects one call is about: an answer has a bound.
const AT_ONCE: usize = 500;

/// How the webhooks of kinds are called, made once per kind; kinds live as long as the program.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<usize, Arc<ClientConfig>>>);

impl Clients {
    fn of(&self, kind: &'static Kind, conversion: &Conversion) -> anyhow::Result<Arc<ClientConfig>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = std::ptr::from_ref(kind).addr();
        if let Some(client) = known.get(&key) {
            return Ok(client.clone());
        }
        let client = Arc::new(ClientConfig::deserialize(&conversion.client)?);
        known.insert(key, client.clone());
        Ok(client)
    }
}

/// How objects of `kind` are converted; none where versions differ in their name alone.
pub fn of(kind: &Kind) -> Option<&'static Conversion> {
    kind.custom.and_then(|resource| resource.conversion.as_ref())
}

/// Makes sure that `objects` can be read as `kind`.
///
/// # Errors
/// What failed with the webhook.
pub async fn prepare<'s>(
    server: &Arc<ApiServer>,
    kind: &'static Kind,
    objects: impl Iterator<Item = &'s Arc<Stored>>,
) -> Result<(), Status> {
    let Some(conversion) = of(kind) else { return Ok(()) };
    let desired = kind.api_version();
    let missing = objects.filter(|it| it.face(kind).is_none()).map(|it| (it, it.value()));
    let missing: Vec<_> = missing.filter(|(_, value)| value["apiVersion"] != desired.as_str()).collect();
    for some in missing.chunks(AT_ONCE) {
        let originals: Vec<Value> = some.iter().map(|(_, value)| value.clone()).collect();
        let converted = convert(server, kind, conversion, &desired, &originals).await?;
        for ((stored, _), value) in some.iter().zip(converted) {
            stored.keep_face(kind, value);
        }
    }
    Ok(())
}

/// `object`, of `kind`, in the version that is stored; none where it is that already, or a name is all that differs.
///
/// # Errors
/// What failed with the webhook.
pub async fn to_storage(server: &Arc<ApiServer>, kind: &'static Kind, object: &Value) -> Result<Option<Value>, Status> {
    let (group, version, _) = kind.storage;
    let Some(conversion) = of(kind).filter(|_| version != kind.version) else { return Ok(None) };
    let (desired, object) = (format!("{group}/{version}"), std::slice::from_ref(object));
    let converted = convert(server, kind, conversion, &desired, object).await?;
    Ok(converted.into_iter().next())
}

async fn convert(
    server: &Arc<ApiServer>,
    kind: &'static Kind,
    conversion: &Conversion,
    desired: &str,
    objects: &[Value],
) -> Result<Vec<Value>, Status> {
    let uid = uuid::Uuid::new_v4().to_string();
    let body = conversion.request(&uid, desired, objects).map_err(Status::internal)?;
    let client = server.conversions.of(kind, conversion).map_err(Status::internal)?;
    let answer = outbound::post(server, &client.callee(), &client.trust, &body, TIMEOUT).await;
    let answer = answer.map_err(|error| {
        let version = objects.first().and_then(|it| it["apiVersion"].as_str()).unwrap_or_default();
        Status::internal(format!("conversion webhook for {version}, Kind={} failed: {error:#}", kind.kind))
    })?;
    conversion.converted(answer, &uid, desired, objects).map_err(Status::internal)
}
