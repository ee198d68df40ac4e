//! What the API server counts, under upstream's names.
//!
//! Must not know: how a request is carried out.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use pintle_daemon::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::request::RequestInfo;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Done {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Took {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    request_kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Long {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

pub struct Telemetry {
    requests: Family<Done, Counter>,
    durations: Family<Took, Histogram>,
    in_flight: Family<Kind, Gauge>,
    long_running: Family<Long, Gauge<i64, AtomicI64>>,
    metrics: Metrics,
}

/// A request that has begun.
pub struct Seen {
    took: Took,
    long: bool,
    kind: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

impl Telemetry {
    pub fn new(metrics: &Metrics) -> Self {
        let requests = metrics.register(
            "apiserver_request",
            "Requests by verb, group, version, resource, scope, component and HTTP response code",
            Family::default(),
        );
        let durations = metrics.register(
            "apiserver_request_duration_seconds",
            "Response latency in seconds",
            Family::new_with_constructor(histogram as fn() -> Histogram),
        );
        let in_flight = metrics.register(
            "apiserver_current_inflight_requests",
            "Requests in flight, by kind: mutating or readOnly",
            Family::default(),
        );
        let long_running = metrics.register(
            "apiserver_longrunning_requests",
            "Watches and other long-running requests in progress",
            Family::default(),
        );
        Self { requests, durations, in_flight, long_running, metrics: metrics.clone() }
    }

    /// The whole process's metrics in the text format.
    pub fn text(&self) -> String {
        self.metrics.encode()
    }

    pub fn begin(&self, info: &RequestInfo) -> Seen {
        let took = labels(info);
        let long = info.is_long_running();
        let kind = if matches!(info.verb.as_str(), "get" | "list" | "watch") { "readOnly" } else { "mutating" };
        match long {
            true => self.long_running.get_or_create(&Long::from(&took)).inc(),
            false => self.in_flight.get_or_create(&Kind { request_kind: kind }).inc(),
        };
        Seen { took, long, kind }
    }

    pub fn end(&self, seen: Seen, code: u16, took: Duration) {
        match seen.long {
            true => self.long_running.get_or_create(&Long::from(&seen.took)).dec(),
            false => self.in_flight.get_or_create(&Kind { request_kind: seen.kind }).dec(),
        };
        if !seen.long {
            self.durations.get_or_create(&seen.took).observe(took.as_secs_f64());
        }
        let Took { verb, group, version, resource, subresource, scope, component } = seen.took;
        let done = Done { verb, group, version, resource, subresource, scope, component, code };
        self.requests.get_or_create(&done).inc();
    }
}

impl From<&Took> for Long {
    fn from(it: &Took) -> Self {
        let Took { verb, group, version, resource, subresource, scope, component } = it.clone();
        Self { verb, group, version, resource, subresource, scope, component }
    }
}

/// What anybody may write into a path is no label: only what is served has a series of its own.
fn labels(info: &RequestInfo) -> Took {
    let kind = pintle_api::kinds::find(&info.group, &info.version, &info.resource).filter(|_| info.is_resource);
    let subresource = kind.and_then(|kind| kind.subresource(&info.subresource)).map_or("", |s| s.name);
    Took {
        verb: verb(&info.verb),
        group: kind.map_or("", |k| k.group),
        version: kind.map_or("", |k| k.version),
        resource: kind.map_or("", |k| k.plural),
        subresource,
        scope: scope(info),
        component: "apiserver",
    }
}

fn verb(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "CREATE",
        "update" => "UPDATE",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "post" => "POST",
        "put" => "PUT",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, _, _) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}
