//! Metrics of work queues under upstream's names.
//!
//! Must not know: controllers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

type Labels = [(&'static str, &'static str); 1];

/// One set per process; cloning shares it.
#[derive(Clone, Default)]
pub struct QueueMetrics {
    depth: Family<Labels, Gauge>,
    adds: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
}

impl QueueMetrics {
    pub fn new(metrics: &pintle_daemon::metrics::Metrics) -> Self {
        let own = Self::default();
        metrics.register("workqueue_depth", "Current depth of workqueue", own.depth.clone());
        metrics.register("workqueue_adds", "Total number of adds handled by workqueue", own.adds.clone());
        metrics.register("workqueue_retries", "Total number of retries handled by workqueue", own.retries.clone());
        own
    }

    pub(crate) fn added(&self, queue: &'static str) {
        self.adds.get_or_create(&[("name", queue)]).inc();
    }

    pub(crate) fn retried(&self, queue: &'static str) {
        self.retries.get_or_create(&[("name", queue)]).inc();
    }

    pub(crate) fn depth(&self, queue: &'static str, depth: usize) {
        self.depth.get_or_create(&[("name", queue)]).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }
}
