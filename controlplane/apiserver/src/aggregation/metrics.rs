//! What is counted of aggregated APIs, under upstream's names.
//!
//! Must not know: when they are available.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use pintle_daemon::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ceased {
    name: String,
    reason: &'static str,
}

pub struct Availability {
    /// Whose gauges there are.
    names: Mutex<BTreeSet<String>>,
    unavailable: Family<Name, Gauge>,
    ceased: Family<Ceased, Counter>,
}

impl Availability {
    pub fn new(metrics: &Metrics) -> Self {
        let unavailable = "Gauge of APIServices which are marked as unavailable broken down by APIService name";
        let ceased = "Counter of APIServices which are marked as unavailable broken down by APIService name and reason";
        Self {
            names: Mutex::default(),
            unavailable: metrics.register("aggregator_unavailable_apiservice", unavailable, Family::default()),
            ceased: metrics.register("aggregator_unavailable_apiservice", ceased, Family::default()),
        }
    }

    pub fn is(&self, name: &str, available: bool) {
        self.names.lock().insert(name.to_owned());
        self.unavailable.get_or_create(&Name { name: name.to_owned() }).set(i64::from(!available));
    }

    pub fn count(&self, name: &str, reason: &'static str) {
        self.ceased.get_or_create(&Ceased { name: name.to_owned(), reason }).inc();
    }

    /// Forgets those that are gone.
    pub fn keep(&self, names: &BTreeSet<String>) {
        let mut known = self.names.lock();
        for gone in known.difference(names) {
            self.unavailable.remove(&Name { name: gone.clone() });
        }
        known.retain(|name| names.contains(name));
    }
}
