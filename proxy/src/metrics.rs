//! kube-proxy's metrics, by its names.
//!
//! Must not know: how they are served.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pintle_daemon::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as ByLabel;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use pintle_nftables::Family;

type Labels = Vec<(String, String)>;

/// How the rules are kept.
#[derive(Clone)]
pub struct ProxyMetrics {
    sync: ByLabel<Labels, Histogram, fn() -> Histogram>,
    full: ByLabel<Labels, Histogram, fn() -> Histogram>,
    partial: ByLabel<Labels, Histogram, fn() -> Histogram>,
    last: ByLabel<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    failures: ByLabel<Labels, Counter>,
    flows: ByLabel<Labels, Counter>,
    pub service_changes: Counter,
    pub endpoint_changes: Counter,
}

/// From 0.1 ms: upstream's start at 1 ms, where ours are over.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 19))
}

impl ProxyMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        let histogram = |name: &str, help: &str| {
            let family = ByLabel::new_with_constructor(durations as fn() -> Histogram);
            metrics.register(&format!("kubeproxy_{name}"), help, family)
        };
        let counter = |name: &str, help: &str| metrics.register(&format!("kubeproxy_{name}"), help, Counter::default());
        let counters =
            |name: &str, help: &str| metrics.register(&format!("kubeproxy_{name}"), help, ByLabel::default());
        Self {
            sync: histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds"),
            full: histogram("sync_full_proxy_rules_duration_seconds", "Latency of full syncs in seconds"),
            partial: histogram("sync_partial_proxy_rules_duration_seconds", "Latency of partial syncs in seconds"),
            last: metrics.register(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "The last time proxy rules were successfully synced",
                ByLabel::default(),
            ),
            failures: counters("sync_proxy_rules_nftables_sync_failures", "Failed changes of nftables"),
            flows: counters("conntrack_reconciler_deleted_entries", "Conntrack flows deleted"),
            service_changes: counter("sync_proxy_rules_service_changes", "Service changes"),
            endpoint_changes: counter("sync_proxy_rules_endpoint_changes", "EndpointSlice changes"),
        }
    }

    /// A sync of `family` took so long.
    pub fn synced(&self, family: Family, full: bool, took: Duration) {
        let labels = labels(family);
        self.sync.get_or_create(&labels).observe(took.as_secs_f64());
        let kind = if full { &self.full } else { &self.partial };
        kind.get_or_create(&labels).observe(took.as_secs_f64());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.get_or_create(&labels).set(now.as_secs_f64());
    }

    pub fn failed(&self, family: Family) {
        self.failures.get_or_create(&labels(family)).inc();
    }

    pub fn flows_ended(&self, family: Family, count: usize) {
        self.flows.get_or_create(&labels(family)).inc_by(count as u64);
    }
}

fn labels(family: Family) -> Labels {
    vec![("ip_family".to_string(), family.name().to_string())]
}
