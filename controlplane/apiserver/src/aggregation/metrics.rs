//! What is counted of aggregated APIs, under upstream's names.
//!
//! Must not know: when they are available.

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
    unavailable: Family<Name, Gauge>,
    ceased: Family<Ceased, Counter>,
}

impl Availability {
    pub fn new(metrics: &Metrics) -> Self {
        let unavailable = "Gauge of APIServices which are marked as unavailable broken down by APIService name";
        let ceased = "Counter of APIServices which are marked as unavailable broken down by APIService name and reason";
        Self {
            unavailable: metrics.register("aggregator_unavailable_apiservice", unavailable, Family::default()),
            ceased: metrics.register("aggregator_unavailable_apiservice", ceased, Family::default()),
        }
    }

    pub fn is(&self, name: &str, available: bool) {
        self.unavailable.get_or_create(&Name { name: name.to_owned() }).set(i64::from(!available));
    }

    pub fn count(&self, name: &str, reason: &'static str) {
        self.ceased.get_or_create(&Ceased { name: name.to_owned(), reason }).inc();
    }

    /// It is gone.
    pub fn forget(&self, name: &str) {
        self.unavailable.remove(&Name { name: name.to_owned() });
    }
}
