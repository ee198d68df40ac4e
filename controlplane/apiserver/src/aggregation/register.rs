//! Writes APIServices: those that register themselves, and what becomes of each.
//!
//! Must not know: which those are, or what is said of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use pintle_api::aggregation::availability::{self, Verdict};
use pintle_api::aggregation::register::{self, Action};
use pintle_api::aggregation::{self, GROUP, Registration};
use pintle_api::kinds::{self, Kind};
use pintle_api::object;
use pintle_api::status::Status;
use serde_json::Value;

use crate::call::Call;
use crate::request::{DeleteOptions, WriteOptions};
use crate::rules::delete::rfc3339;
use crate::server::ApiServer;
use crate::verbs::{Source, change, create_object, delete_object};

/// Registers this server's own groups, all at once: the store commits in groups.
pub async fn at_start(server: &Arc<ApiServer>) -> anyhow::Result<()> {
    let cache = server.cache_of(GROUP, "apiservices").map_err(anyhow::Error::new)?;
    let own: BTreeSet<_> = kinds::all().iter().map(|kind| (kind.group, kind.version)).collect();
    let mut work = tokio::task::JoinSet::new();
    for (group, version) in own {
        let name = aggregation::name(group, version);
        let current = cache.get("", &name).map(|it| it.value());
        let Some(action) = register::at_start(group, version, current.as_ref()) else { continue };
        let server = server.clone();
        work.spawn(
            async move { carry_out(&server, &name, action).await.with_context(|| format!("registering {name}")) },
        );
    }
    while let Some(done) = work.join_next().await {
        done.context("a task that registers a group crashed")??;
    }
    Ok(())
}

/// Registers what custom resources define, lets go what none does, and says of what this server has that it is
/// available. Whether all of that came about.
pub async fn settle(server: &Arc<ApiServer>, all: &[Value]) -> bool {
    let own = |group: &str, version: &str| kinds::all().iter().any(|it| (it.group, it.version) == (group, version));
    let served: BTreeSet<_> = server.custom.all().iter().map(|kind| (kind.group, kind.version)).collect();
    let mut work = Vec::new();
    for (group, version) in served.iter().filter(|(group, version)| !own(group, version)) {
        let name = aggregation::name(group, version);
        let current = all.iter().find(|it| object::name(it) == name);
        work.extend(register::custom(group, version, true, current).map(|action| (name, action)));
    }
    for object in all.iter().filter(|it| register::follows_definitions(it)) {
        let Registration { name, group, version, .. } = Registration::read(object);
        if !served.contains(&(group.as_str(), version.as_str())) {
            work.extend(register::custom(&group, &version, false, Some(object)).map(|action| (name, action)));
        }
    }
    let mut done = true;
    for (name, action) in work {
        let outcome = carry_out(server, &name, action).await;
        done &= told(&name, outcome);
    }
    for object in all.iter().filter(|it| it["spec"]["service"].is_null()) {
        let name = object::name(object);
        server.aggregation.metrics.is(name, true);
        if !availability::is_available(object) {
            done &= told(name, write_verdict(server, name, &Verdict::local()).await);
        }
    }
    done
}

fn told(name: &str, outcome: Result<(), Status>) -> bool {
    if let Err(error) = &outcome {
        tracing::warn!(api_service = name, %error, "an APIService was not written");
    }
    outcome.is_ok()
}

async fn carry_out(server: &Arc<ApiServer>, name: &str, action: Action) -> Result<(), Status> {
    let kind = kind()?;
    let outcome = match action {
        Action::Create(mut object) => {
            object["apiVersion"] = kind.api_version().into();
            object["kind"] = kind.kind.into();
            let call = Call::internal(kind, "create", "", "");
            create_object(server, &call, object, &options()).await.map(drop)
        }
        Action::Update(spec) => {
            let make = |old: &Value| {
                let mut new = old.clone();
                new["spec"] = spec.clone();
                Ok(new)
            };
            let call = Call::internal(kind, "update", "", name);
            change(server, &call, &options(), Source::Made(&make)).await.map(drop)
        }
        Action::Delete => {
            let call = Call::internal(kind, "delete", "", name);
            delete_object(server, &call, "", name, &DeleteOptions::default()).await.map(drop)
        }
    };
    match outcome {
        // somebody else was first: their change is a reason to look again
        Err(status) if matches!(status.code, 404 | 409) => Ok(()),
        outcome => outcome,
    }
}

/// Writes the condition, where it says anything new, and counts those that cease to be available.
pub async fn write_verdict(server: &Arc<ApiServer>, name: &str, verdict: &Verdict) -> Result<(), Status> {
    let kind = kind()?;
    let Some(current) = server.cache(kind)?.get("", name).map(|it| it.value()) else { return Ok(()) };
    let now = rfc3339(Timestamp::now());
    if availability::status(&current["status"], verdict, &now) == current["status"] {
        return Ok(());
    }
    let make = |old: &Value| {
        let mut new = old.clone();
        new["status"] = availability::status(&old["status"], verdict, &now);
        Ok(new)
    };
    let mut call = Call::internal(kind, "update", "", name);
    call.info.subresource = "status".to_owned();
    match change(server, &call, &options(), Source::Made(&make)).await {
        Ok(_) => {
            if availability::is_available(&current) && !verdict.available {
                server.aggregation.metrics.count(name, verdict.reason);
            }
            Ok(())
        }
        Err(status) if status.code == 404 => Ok(()),
        Err(status) => Err(status),
    }
}

fn options() -> WriteOptions {
    WriteOptions { field_manager: "kube-apiserver".to_owned(), ..WriteOptions::default() }
}

fn kind() -> Result<&'static Kind, Status> {
    kinds::find(GROUP, "v1", "apiservices").ok_or_else(|| Status::internal("no APIServices"))
}
