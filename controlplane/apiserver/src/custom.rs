//! Which custom resources are served: follows the definitions, says on each what became of it, and empties those that go.
//! Sources: `apiextensions-apiserver/pkg/controller/{status,establish,finalizer}`.
//!
//! Must not know: what a definition's schema does to objects.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use pintle_api::custom::{self, definition};
use pintle_api::kinds::{self, Kind};
use pintle_api::object;
use pintle_api::status::Status;
use serde_json::Value;
use tokio::sync::Notify;

use crate::admission::storage_protection::CLEANUP;
use crate::cache::{Cache, Since};
use crate::call::Call;
use crate::request::{DeleteOptions, WriteOptions};
use crate::rules::delete::rfc3339;
use crate::server::ApiServer;
use crate::verbs::{Source, change, delete_object};

/// A watch further behind than this begins anew.
const QUEUE: usize = 1024;

/// The rows beyond the kind table.
#[derive(Default)]
pub struct Custom {
    kinds: ArcSwap<Vec<&'static Kind>>,
    /// `(group, plural)` of what is being emptied: nothing more is created there.
    going: ArcSwap<HashSet<(&'static str, &'static str)>>,
}

impl Custom {
    pub fn all(&self) -> Vec<&'static Kind> {
        self.kinds.load().to_vec()
    }

    /// Refuses to create what is about to go with its definition.
    pub fn may_create(&self, kind: &Kind) -> Result<(), Status> {
        if kind.custom.is_none() || !self.going.load().contains(&(kind.group, kind.plural)) {
            return Ok(());
        }
        let why = "create not allowed while custom resource definition is terminating";
        Err(Status::new(405, "MethodNotAllowed", why))
    }
}

impl ApiServer {
    /// The kind behind a URL, of the table or defined.
    pub(crate) fn kind(&self, group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        let defined = |kind: &&Kind| (kind.group, kind.version, kind.plural) == (group, version, plural);
        kinds::find(group, version, plural).or_else(|| self.custom.kinds.load().iter().copied().find(|it| defined(it)))
    }

    /// Every kind that is served, the table's first.
    pub(crate) fn kinds(&self) -> Vec<&'static Kind> {
        kinds::all().iter().chain(self.custom.kinds.load().iter().copied()).collect()
    }
}

/// Serves what is defined already and follows the definitions from there.
pub async fn start(server: &Arc<ApiServer>) -> anyhow::Result<()> {
    let definitions = server.cache_of("apiextensions.k8s.io", "customresourcedefinitions")?;
    publish(server, &definitions);
    let changed = Arc::new(Notify::new());
    tokio::spawn(definitions.clone().wake(changed.clone(), server.cancel.clone()));
    tokio::spawn(follow(Arc::downgrade(server), definitions, changed));
    Ok(())
}

async fn follow(server: Weak<ApiServer>, definitions: Arc<Cache>, changed: Arc<Notify>) {
    let mut emptied = HashSet::new();
    loop {
        let Some(cancel) = server.upgrade().map(|server| server.cancel.clone()) else { return };
        if cancel.run_until_cancelled(changed.notified()).await.is_none() {
            return;
        }
        let Some(server) = server.upgrade() else { return };
        settle(&server, &definitions).await;
        publish(&server, &definitions);
        for stored in definitions.list(None).items {
            let definition = stored.value();
            let going = !definition["metadata"]["deletionTimestamp"].is_null();
            if going && emptied.insert(object::uid(&definition).to_owned()) {
                tokio::spawn(empty(server.clone(), definition, changed.clone()));
            }
        }
    }
}

/// Writes each definition's status as it is to be; names belong to whoever was there first.
async fn settle(server: &Arc<ApiServer>, definitions: &Cache) {
    let mut all: Vec<Value> = definitions.list(None).items.iter().map(|stored| stored.value()).collect();
    all.sort_by_key(|it| object::meta(it, "creationTimestamp").to_owned());
    for at in 0..all.len() {
        let Some(definition) = all.get(at) else { continue };
        let established = definition::holds(definition, "NamesAccepted");
        let others = all.iter().enumerate().filter(|(other, it)| {
            let first = *other < at || definition::holds(it, "NamesAccepted") && !established;
            *other != at && it["spec"]["group"] == definition["spec"]["group"] && first
        });
        let others: Vec<&Value> = others.map(|(_, it)| it).collect();
        let status = definition::status(definition, &others, &rfc3339(Timestamp::now()));
        if status == definition["status"] {
            continue;
        }
        let name = object::name(definition).to_owned();
        if let Err(error) = write_status(server, &name, &status).await {
            tracing::warn!(definition = name, %error, "the status of a definition was not written");
        }
        if let Some(definition) = all.get_mut(at) {
            definition["status"] = status;
        }
    }
}

async fn write_status(server: &Arc<ApiServer>, name: &str, status: &Value) -> Result<(), Status> {
    let make = |old: &Value| {
        let mut new = old.clone();
        new["status"] = status.clone();
        Ok(new)
    };
    update(server, name, "status", &make).await
}

async fn update(
    server: &Arc<ApiServer>,
    name: &str,
    subresource: &str,
    make: &(dyn Fn(&Value) -> Result<Value, Status> + Sync),
) -> Result<(), Status> {
    let kind = kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let kind = kind.ok_or_else(|| Status::internal("no definitions"))?;
    let mut call = Call::internal(kind, "update", "", name);
    call.info.subresource = subresource.to_owned();
    let options = WriteOptions { field_manager: "apiextensions".to_owned(), ..WriteOptions::default() };
    change(server, &call, &options, Source::Made(make)).await.map(drop)
}

/// Serves the versions of what is established.
fn publish(server: &ApiServer, definitions: &Cache) {
    let (mut served, mut going) = (Vec::new(), HashSet::new());
    for stored in definitions.list(None).items {
        let definition = stored.value();
        if !definition::holds(&definition, "Established") {
            continue;
        }
        match custom::kinds(&definition) {
            Ok(kinds) => {
                kinds.iter().for_each(|kind| server.caches.add(kind));
                if !definition["metadata"]["deletionTimestamp"].is_null() {
                    going.extend(kinds.first().map(|kind| (kind.group, kind.plural)));
                }
                served.extend(kinds);
            }
            Err(error) => tracing::error!(definition = %stored.name, error, "a definition is not served"),
        }
    }
    server.custom.going.store(Arc::new(going));
    server.custom.kinds.store(Arc::new(served));
    server.aggregation.look();
}

/// Deletes all objects of a definition that is to go, waits until they are gone, and lets it go.
async fn empty(server: Arc<ApiServer>, definition: Value, changed: Arc<Notify>) {
    let name = object::name(&definition).to_owned();
    let kind = custom::kinds(&definition).unwrap_or_default().into_iter().next();
    let cache = kind.and_then(|kind| server.cache(kind).ok().map(|cache| (kind, cache)));
    if let Some((kind, cache)) = cache {
        while !server.cancel.is_cancelled() {
            let Ok(mut watcher) = cache.watch(None, Since::Now, QUEUE) else { return };
            if cache.is_empty() {
                break;
            }
            delete_all(&server, kind, &cache).await;
            if cache.is_empty() {
                break;
            }
            // what was there comes first; then one that goes is a reason to look again
            let end = async {
                while let Some(change) = watcher.next().await {
                    if change.kind == crate::cache::ChangeKind::Deleted {
                        return;
                    }
                }
            };
            server.cancel.run_until_cancelled(end).await;
        }
    }
    let make = |old: &Value| {
        let mut new = old.clone();
        if let Some(all) = new["metadata"]["finalizers"].as_array_mut() {
            all.retain(|it| it != CLEANUP);
        }
        Ok(new)
    };
    match update(&server, &name, "", &make).await {
        Ok(()) => changed.notify_one(),
        Err(error) if error.code == 404 => {}
        Err(error) => tracing::warn!(definition = name, %error, "a definition was not let go"),
    }
}

async fn delete_all(server: &Arc<ApiServer>, kind: &'static Kind, cache: &Cache) {
    for stored in cache.list(None).items {
        let call = Call::internal(kind, "delete", &stored.namespace, &stored.name);
        let options = DeleteOptions::default();
        if let Err(error) = delete_object(server, &call, &stored.namespace, &stored.name, &options).await
            && error.code != 404
        {
            tracing::warn!(object = %stored.name, %error, "an object was not deleted with its definition");
        }
    }
}
