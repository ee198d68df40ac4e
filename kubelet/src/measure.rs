//! The kubelet's own metrics, with upstream's names.
//!
//! Must not know: how they are written out.

use std::time::Duration;

use pintle_daemon::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Milliseconds, upstream's.
const RESIZE_BUCKETS: [f64; 14] = [10.0, 50.0, 100.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5];

type Labels = Vec<(&'static str, String)>;

/// Handles to write to. Clones share them.
#[derive(Clone)]
pub struct Measures {
    probes: Family<Labels, Counter>,
    started_containers: Counter,
    started_pods: Counter,
    pub running_pods: Gauge,
    pod_worker: Histogram,
    resizes: Family<Labels, Histogram, fn() -> Histogram>,
    resizes_accepted_late: Counter,
}

impl Measures {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            probes: metrics.register(
                "prober_probe",
                "Cumulative number of a liveness, readiness or startup probe for a container by result.",
                Family::default(),
            ),
            started_containers: metrics.register(
                "kubelet_started_containers",
                "Cumulative number of containers started",
                Counter::default(),
            ),
            started_pods: metrics.register(
                "kubelet_started_pods",
                "Cumulative number of pods started",
                Counter::default(),
            ),
            running_pods: metrics.register(
                "kubelet_running_pods",
                "Number of pods that have a running pod sandbox",
                Gauge::default(),
            ),
            pod_worker: metrics.register(
                "kubelet_pod_worker_duration_seconds",
                "Duration in seconds to sync a single pod.",
                Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            ),
            resizes: metrics.register(
                "kubelet_pod_resize_duration_milliseconds",
                "Duration in milliseconds to actuate a pod resize",
                Family::new_with_constructor(|| Histogram::new(RESIZE_BUCKETS)),
            ),
            resizes_accepted_late: metrics.register(
                "kubelet_pod_deferred_accepted_resizes",
                "Cumulative number of resizes that were accepted after being deferred.",
                Counter::default(),
            ),
        }
    }

    pub fn probe(&self, kind: &str, container: &str, (namespace, pod): &(String, String), result: &str) {
        let labels = vec![
            ("probe_type", kind.to_string()),
            ("result", result.to_string()),
            ("container", container.to_string()),
            ("pod", pod.clone()),
            ("namespace", namespace.clone()),
        ];
        self.probes.get_or_create(&labels).inc();
    }

    pub fn resized(&self, success: bool, took: Duration) {
        let labels = vec![("success", success.to_string())];
        self.resizes.get_or_create(&labels).observe(took.as_secs_f64() * 1000.0);
    }

    /// A resize that had to wait got what it asked for.
    pub fn resize_accepted_late(&self) {
        self.resizes_accepted_late.inc();
    }

    pub fn container_started(&self) {
        self.started_containers.inc();
    }

    pub fn pod_started(&self) {
        self.started_pods.inc();
    }

    pub fn synced(&self, seconds: f64) {
        self.pod_worker.observe(seconds);
    }
}
