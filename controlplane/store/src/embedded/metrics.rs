//! What the embedded store measures, under etcd's names where etcd has one.
//!
//! Must not know: why anybody measures.

use pintle_daemon::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Clone)]
pub struct StoreMetrics {
    /// Seconds.
    pub commit: Histogram,
    /// Seconds.
    pub journal: Histogram,
    pub group: Histogram,
    pub puts: Counter,
    pub deletes: Counter,
    pub revision: Gauge,
    pub compacted: Gauge,
    /// Bytes.
    pub size: Gauge,
    pub watchers: Gauge,
}

impl StoreMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let commit = Histogram::new(exponential_buckets(0.000_5, 2.0, 14));
        let journal = Histogram::new(exponential_buckets(0.000_1, 2.0, 14));
        let group = Histogram::new(exponential_buckets(1.0, 2.0, 10));
        Self {
            commit: metrics.register(
                "etcd_disk_backend_commit_duration_seconds",
                "The latency distributions of commit called by backend",
                commit,
            ),
            journal: metrics.register(
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL",
                journal,
            ),
            group: metrics.register("pintle_store_group_writes", "Writes made durable by one commit", group),
            puts: metrics.register("etcd_mvcc_put", "Total number of puts seen by this member", Counter::default()),
            deletes: metrics.register(
                "etcd_mvcc_delete",
                "Total number of deletes seen by this member",
                Counter::default(),
            ),
            revision: metrics.register(
                "etcd_debugging_mvcc_current_revision",
                "The current revision of store",
                Gauge::default(),
            ),
            compacted: metrics.register(
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction in store",
                Gauge::default(),
            ),
            size: metrics.register(
                "etcd_mvcc_db_total_size_in_bytes",
                "Total size of the underlying database physically allocated in bytes",
                Gauge::default(),
            ),
            watchers: metrics.register(
                "etcd_debugging_mvcc_watcher_total",
                "Total number of watchers",
                Gauge::default(),
            ),
        }
    }
}
