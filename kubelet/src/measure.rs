//! The kubelet's own metrics, with upstream's names.
//!
//! Must not know: how they are written out.

use pintle_daemon::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

type Labels = Vec<(&'static str, String)>;

/// Handles to write to. Clones share them.
#[derive(Clone)]
pub struct Measures {
    probes: Family<Labels, Counter>,
    started_containers: Counter,
    started_pods: Counter,
    pub running_pods: Gauge,
    pod_worker: Histogram,
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
