//! `watch`: changes as they happen, each in the form the client asked for.
//!
//! Must not know: any kind.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use pintle_api::status::Status;
use serde_json::json;
use tokio::time::Instant;

use super::list::{Selection, parse_version};
use crate::body::Body;
use crate::cache::{Change, ChangeKind, Since, Watcher};
use crate::call::{Call, Reply};
use crate::conversion;
use crate::negotiate::{As, Format};
use crate::render::{self, protobuf, shape};
use crate::request::ListOptions;
use crate::server::ApiServer;

/// How many changes a watcher may be behind before it is closed.
const QUEUE: usize = 10_000;

/// Changes that are already there are written out together, up to so many bytes.
const GATHER: usize = 64 * 1024;

/// How often a quiet watch is told how far the world has come, where it wants to know.
const BOOKMARK: Duration = Duration::from_secs(60);

pub async fn watch(server: &Arc<ApiServer>, call: &Arc<Call>) -> Result<Reply, Status> {
    let options = ListOptions::parse(&call.query, true)?;
    let selection = Selection::new(call, &options)?;
    let cache = server.cache(call.kind)?;
    let since = since(&options)?;
    if let Since::Revision(revision) = since {
        cache.at_least(revision, Duration::from_secs(3)).await?;
    }
    if conversion::of(call.kind).is_some() && !matches!(since, Since::Revision(_)) {
        // in one call what would else be converted one by one
        conversion::prepare(server, call.kind, cache.list(selection.namespace.as_deref()).items.iter()).await?;
    }
    let watcher = cache.watch(selection.namespace.as_deref(), since, QUEUE);
    let lasts = lasts(server, &options);
    let now = Instant::now();
    let mut stream = Stream {
        call: call.clone(),
        server: Arc::downgrade(server),
        converts: conversion::of(call.kind).is_some(),
        bookmarks: options.bookmarks,
        selection,
        watcher: None,
        ends: now + lasts,
        next_bookmark: now + BOOKMARK,
        first_table: true,
        done: false,
        cancel: server.cancel.clone(),
    };
    let mut first = BytesMut::new();
    match watcher {
        Ok(watcher) => stream.watcher = Some(watcher),
        // too old is told within the watch, as upstream tells it
        Err(expired) => {
            stream.write(&mut first, "ERROR", Status::from(expired).to_value().to_string().as_bytes());
            stream.done = true;
        }
    }
    let media_type = match call.accepted.format {
        Format::Protobuf => protobuf::STREAM,
        _ => Format::Json.media_type(),
    };
    let first = futures::stream::iter((!first.is_empty()).then(|| first.freeze()));
    let rest = futures::stream::unfold(stream, |mut stream| async move { stream.next().await.map(|f| (f, stream)) });
    let response = render::with_type(200, media_type, Body::Stream(Box::pin(first.chain(rest))));
    Ok(Reply::Http(response))
}

fn since(options: &ListOptions) -> Result<Since, Status> {
    match (options.send_initial_events, options.resource_version.as_str()) {
        (Some(true), _) => Ok(Since::InitialEvents),
        (_, "" | "0") => Ok(Since::Now),
        (_, text) => parse_version(text).map(Since::Revision),
    }
}

/// As long as the client says; else between the least and twice that, so that not all come back together.
fn lasts(server: &ApiServer, options: &ListOptions) -> Duration {
    match options.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0) {
        Some(seconds) => Duration::from_secs(seconds),
        None => server.config.min_request_timeout.mul_f64(1.0 + rand::random::<f64>()),
    }
}

struct Stream {
    call: Arc<Call>,
    server: Weak<ApiServer>,
    /// Whether a webhook converts the objects.
    converts: bool,
    bookmarks: bool,
    selection: Selection,
    watcher: Option<Watcher>,
    ends: Instant,
    next_bookmark: Instant,
    /// The first table of a watch says what its columns are.
    first_table: bool,
    done: bool,
    cancel: tokio_util::sync::CancellationToken,
}

impl Stream {
    /// The next frames, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.is_empty() && !self.done {
            let watcher = self.watcher.as_mut()?;
            tokio::select! {
                biased;
                change = watcher.next() => match change {
                    Some(change) => {
                        self.put_converted(&mut out, &change).await;
                        // on a busy machine more comes meanwhile and goes into the same write; an idle one goes on at once
                        tokio::task::yield_now().await;
                    }
                    None => self.done = true,
                },
                () = tokio::time::sleep_until(self.ends) => self.done = true,
                () = tokio::time::sleep_until(self.next_bookmark) => self.put_bookmark(&mut out),
                () = self.cancel.cancelled() => self.done = true,
            }
        }
        self.gather(&mut out).await;
        (!out.is_empty()).then(|| out.freeze())
    }

    /// What else is there already goes into the same write.
    async fn gather(&mut self, out: &mut BytesMut) {
        while out.len() < GATHER && !self.done {
            let Some(change) = self.watcher.as_mut().and_then(Watcher::try_next) else { return };
            self.put_converted(out, &change).await;
        }
    }

    /// As `put`, once a webhook has converted the object where one does.
    async fn put_converted(&mut self, out: &mut BytesMut, change: &Change) {
        if self.converts && !matches!(change.kind, ChangeKind::Bookmark { .. }) {
            let Some(server) = self.server.upgrade() else { return };
            let objects = std::iter::once(&change.object).chain(change.prev.as_ref());
            if let Err(error) = conversion::prepare(&server, self.call.kind, objects).await {
                self.write(out, "ERROR", error.to_value().to_string().as_bytes());
                self.done = true;
                return;
            }
        }
        self.put(out, change);
    }

    fn put(&mut self, out: &mut BytesMut, change: &Change) {
        let Some(event) = self.translate(change) else { return };
        match event {
            Event::Bookmark { revision, initial } => {
                if self.bookmarks {
                    self.write(out, "BOOKMARK", bookmark(&self.call, revision, initial).as_bytes());
                }
            }
            Event::Object(kind, object) => match shape::watched(&self.call, &object, self.first_table) {
                Ok(json) => {
                    self.first_table = false;
                    self.write(out, kind, &json);
                }
                Err(error) => {
                    self.write(out, "ERROR", error.to_value().to_string().as_bytes());
                    self.done = true;
                }
            },
        }
    }

    /// What a change is to this watcher: an object that begins to match is new to it, one that ceases is gone.
    fn translate(&self, change: &Change) -> Option<Event> {
        let object = &change.object;
        let now = self.selection.matches(object);
        let kind = match change.kind {
            ChangeKind::Bookmark { initial } => return Some(Event::Bookmark { revision: object.revision, initial }),
            ChangeKind::Added => now.then_some("ADDED"),
            ChangeKind::Deleted => now.then_some("DELETED"),
            ChangeKind::Modified => {
                let before = change.prev.as_ref().is_none_or(|prev| self.selection.matches(prev));
                match (before, now) {
                    (true, true) => Some("MODIFIED"),
                    (false, true) => Some("ADDED"),
                    (true, false) => Some("DELETED"),
                    (false, false) => None,
                }
            }
        }?;
        Some(Event::Object(kind, object.clone()))
    }

    /// One event in the client's form.
    fn write(&self, out: &mut BytesMut, kind: &str, json: &[u8]) {
        if self.call.accepted.format != Format::Protobuf {
            return write_frame(out, kind, json);
        }
        let value = serde_json::from_slice(json).unwrap_or_default();
        if let Some(object) = protobuf::object(&value) {
            out.extend_from_slice(&protobuf::frame(kind, &object));
        }
    }

    fn put_bookmark(&mut self, out: &mut BytesMut) {
        self.next_bookmark = Instant::now() + BOOKMARK;
        let seen = self.watcher.as_ref().map_or(0, Watcher::revision);
        if self.bookmarks && seen > 0 {
            self.write(out, "BOOKMARK", bookmark(&self.call, seen, false).as_bytes());
        }
    }
}

enum Event {
    Bookmark { revision: u64, initial: bool },
    Object(&'static str, Arc<crate::cache::Stored>),
}

fn write_frame(out: &mut BytesMut, kind: &str, json: &[u8]) {
    out.reserve(json.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(json);
    out.put_slice(b"}\n");
}

fn bookmark(call: &Call, revision: u64, initial: bool) -> String {
    let mut meta = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
    if initial {
        meta["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    let (kind, version) = match call.accepted.shape {
        As::Object => (call.kind.kind, call.kind.api_version()),
        As::Partial => ("PartialObjectMetadata", format!("meta.k8s.io/{}", call.accepted.meta_version)),
        As::Table => ("Table", format!("meta.k8s.io/{}", call.accepted.meta_version)),
    };
    match call.accepted.shape {
        As::Table => json!({
            "kind": kind, "apiVersion": version, "metadata": { "resourceVersion": revision.to_string() },
            "columnDefinitions": null, "rows": [{ "cells": [], "object": {
                "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": meta,
            } }],
        }),
        _ => json!({ "kind": kind, "apiVersion": version, "metadata": meta }),
    }
    .to_string()
}
