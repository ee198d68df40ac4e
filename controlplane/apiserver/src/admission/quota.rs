//! Nothing comes into a namespace beyond its ResourceQuotas; what comes in is written down as used first
//! (`plugin/pkg/admission/resourcequota`). Counting again is the controller's.
//!
//! Must not know: what objects use.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use pintle_api::kinds;
use pintle_api::quota::check::{self, Request};
use pintle_api::quota::{self, Counted, pods};
use pintle_api::status::Status;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Attributes, Operation};
use crate::cache::{Cache, CommitError, Stored};
use crate::call::Call;
use crate::server::ApiServer;
use crate::verbs::write;

/// How often usage is written again on top of somebody else's count.
const ATTEMPTS: usize = 10;

/// One lock for some of the namespaces each: whoever charges a namespace's quotas waits for who charged them before.
pub struct Turns([Mutex<()>; 64]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    fn of(&self, namespace: &str) -> &Mutex<()> {
        let sum = namespace.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        &self.0[sum % self.0.len()]
    }
}

pub async fn charge(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    let (group, plural) = (attributes.kind.group, attributes.kind.plural);
    if !attributes.kind.namespaced || quota::is_ignored(group, plural) || !is_handled(attributes, object) {
        return Ok(());
    }
    let cache = server.cache_of("", "resourcequotas")?;
    if cache.list(Some(attributes.namespace)).items.is_empty() {
        return Ok(());
    }
    let now = Timestamp::now();
    let (new, old) =
        (Typed::of(attributes, object)?, attributes.old.map(|old| Typed::of(attributes, old)).transpose()?);
    let request = Request { new: new.counted(now), old: old.as_ref().map(|old| old.counted(now)) };
    let _turn = server.quota_turns.of(attributes.namespace).lock().await;
    let mut done: Vec<String> = Vec::new();
    for _ in 0..ATTEMPTS {
        let charged = charges(&cache, attributes, &request, &done)?;
        if attributes.dry_run || commit(&cache, charged, &mut done).await? {
            return Ok(());
        }
    }
    let why = "the quotas of the namespace kept changing; please try again";
    Err(Status::conflict("resourcequotas", "", attributes.namespace, why))
}

/// What changes usage: creation; for some kinds a change, too.
fn is_handled(attributes: &Attributes<'_>, object: &Value) -> bool {
    let updates = attributes.operation == Operation::Update;
    let deadline = |pod: &Value| Pod::deserialize(pod).is_ok_and(|pod| pods::has_deadline(&pod));
    match (attributes.kind.group, attributes.kind.plural) {
        ("", "pods") if attributes.subresource == "resize" => true,
        _ if !attributes.subresource.is_empty() => false,
        ("", "services" | "persistentvolumeclaims") if updates => true,
        ("", "pods") if updates => attributes.old.is_some_and(|old| deadline(old) != deadline(object)),
        _ => attributes.operation == Operation::Create,
    }
}

/// The quotas as they are once charged, with what is stored now; `done` are charged already.
fn charges(
    cache: &Cache,
    attributes: &Attributes<'_>,
    request: &Request<'_>,
    done: &[String],
) -> Result<Vec<(Arc<Stored>, ResourceQuota)>, Status> {
    let mut charged = Vec::new();
    for stored in cache.list(Some(attributes.namespace)).items {
        if done.iter().any(|name| **name == *stored.name) {
            continue;
        }
        let quota: ResourceQuota = serde_json::from_slice(&stored.json).map_err(Status::internal)?;
        let after = check::charge(&quota, request).map_err(|why| attributes.forbidden(&why))?;
        charged.extend(after.map(|after| (stored, after)));
    }
    Ok(charged)
}

/// Writes usage down; whether all of it could be.
async fn commit(
    cache: &Cache,
    charged: Vec<(Arc<Stored>, ResourceQuota)>,
    done: &mut Vec<String>,
) -> Result<bool, Status> {
    let kind = kinds::find("", "v1", "resourcequotas").ok_or_else(|| Status::internal("no quotas"))?;
    let mut complete = true;
    for (stored, quota) in charged {
        let call = Call::internal(kind, "update", &stored.namespace, &stored.name);
        let mut value = stored.value();
        value["status"]["used"] = json!(quota.status.and_then(|status| status.used));
        let bytes = write::bytes(&call, &value)?;
        match cache.update(&stored.namespace, &stored.name, stored.revision, bytes).await {
            Ok(_) => done.push(stored.name.to_string()),
            Err(CommitError::Conflict(_) | CommitError::Gone | CommitError::Exists) => complete = false,
            Err(error) => return Err(write::commit_error(&call, &stored.name, error)),
        }
    }
    Ok(complete)
}

/// An object in the form that its usage is read from.
enum Typed<'a> {
    Pod(Box<Pod>),
    Service(Box<Service>),
    Claim(Box<PersistentVolumeClaim>),
    Other(&'a str, &'a str),
}

impl<'a> Typed<'a> {
    fn of(attributes: &Attributes<'a>, object: &Value) -> Result<Self, Status> {
        let typed = match (attributes.kind.group, attributes.kind.plural) {
            ("", "pods") => Pod::deserialize(object).map(|pod| Self::Pod(pod.into())),
            ("", "services") => Service::deserialize(object).map(|service| Self::Service(service.into())),
            ("", "persistentvolumeclaims") => {
                PersistentVolumeClaim::deserialize(object).map(|claim| Self::Claim(claim.into()))
            }
            (group, plural) => return Ok(Self::Other(group, plural)),
        };
        typed.map_err(Status::internal)
    }

    fn counted(&self, now: Timestamp) -> Counted<'_> {
        match self {
            Self::Pod(pod) => Counted::Pod(pod, now),
            Self::Service(service) => Counted::Service(service),
            Self::Claim(claim) => Counted::Claim(claim),
            Self::Other(group, plural) => Counted::Other { group, plural },
        }
    }
}
