//! What the scheduler measures, under upstream's names (`pkg/scheduler/metrics`).
//!
//! Must not know: how pods are scheduled.

use std::time::Duration;

use pintle_daemon::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::queue::{Attempt, Lengths};

type Labels = Vec<(&'static str, String)>;

#[derive(Clone)]
pub struct SchedulerMetrics {
    attempts: Family<Labels, Counter>,
    attempt_duration: Family<Labels, Histogram>,
    algorithm_duration: Histogram,
    sli_duration: Family<Labels, Histogram>,
    attempts_per_pod: Histogram,
    pending: Family<Labels, Gauge>,
    cache: Family<Labels, Gauge>,
    profile: String,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

impl SchedulerMetrics {
    pub fn new(metrics: &Metrics, profile: &str) -> Self {
        let histograms = || Family::new_with_constructor(seconds as fn() -> Histogram);
        Self {
            attempts: metrics.register(
                "scheduler_schedule_attempts",
                "Number of attempts to schedule pods, by the result",
                Family::default(),
            ),
            attempt_duration: metrics.register(
                "scheduler_scheduling_attempt_duration_seconds",
                "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
                histograms(),
            ),
            algorithm_duration: metrics.register(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Scheduling algorithm latency in seconds",
                seconds(),
            ),
            sli_duration: metrics.register(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue",
                Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.0, 20))),
            ),
            attempts_per_pod: metrics.register(
                "scheduler_pod_scheduling_attempts",
                "Number of attempts to successfully schedule a pod",
                Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            ),
            pending: metrics.register(
                "scheduler_pending_pods",
                "Number of pending pods, by the queue type",
                Family::default(),
            ),
            cache: metrics.register(
                "scheduler_cache_size",
                "Number of nodes and pods in the scheduler cache",
                Family::default(),
            ),
            profile: profile.to_owned(),
        }
    }

    pub fn decided(&self, took: Duration) {
        self.algorithm_duration.observe(took.as_secs_f64());
    }

    /// An attempt came to its end; `result` is `scheduled`, `unschedulable` or `error`.
    pub fn attempted(&self, result: &str, took: Duration) {
        let labels = || vec![("result", result.to_owned()), ("profile", self.profile.clone())];
        self.attempts.get_or_create(&labels()).inc();
        self.attempt_duration.get_or_create(&labels()).observe(took.as_secs_f64());
    }

    pub fn scheduled(&self, attempt: &Attempt) {
        let labels = vec![("attempts", attempt.number.to_string())];
        self.sli_duration.get_or_create(&labels).observe(attempt.added.elapsed().as_secs_f64());
        self.attempts_per_pod.observe(attempt.number.into());
    }

    pub fn waiting(&self, lengths: Lengths, nodes: usize) {
        let set = |queue: &str, length: usize| {
            self.pending.get_or_create(&vec![("queue", queue.to_owned())]).set(length as i64);
        };
        set("active", lengths.active);
        set("backoff", lengths.backoff);
        set("unschedulable", lengths.unschedulable);
        self.cache.get_or_create(&vec![("type", "nodes".to_owned())]).set(nodes as i64);
    }
}
