//! The API server's settings.
//!
//! Must not know: flags, or who sets them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pintle_pki::Pair;

/// Defaults are upstream's, but for the sizes that follow from the machine.
#[derive(Clone)]
pub struct Config {
    /// Service addresses come from here: `10.96.0.0/12`. IPv4.
    pub service_cidr: String,
    /// NodePorts come from here, both ends included.
    pub node_ports: (u16, u16),
    /// Where the API server is reached by the endpoints of `kubernetes.default`; none: no endpoints are written.
    pub advertise: Option<(IpAddr, u16)>,
    /// Requests that change nothing and requests that do, in flight at once; the rest is told to come back.
    pub max_in_flight: usize,
    pub max_mutating_in_flight: usize,
    /// Connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// The most a request may take, watches and their like aside.
    pub request_timeout: Duration,
    /// A watch without a timeout of its own lasts between this and twice this.
    pub min_request_timeout: Duration,
    /// How long an Event is kept.
    pub event_ttl: Duration,
    /// How the kubelets' servers are spoken to: whom to trust, and our certificate. None: nothing is relayed to them.
    pub kubelet_tls: Option<Arc<rustls::ClientConfig>>,
    /// How the servers behind aggregated APIs know this one. None: it has no certificate to show to them.
    pub front_proxy: Option<Arc<FrontProxy>>,
}

/// What the servers behind aggregated APIs are told of this cluster, and what is shown to them.
#[derive(Debug, Clone)]
pub struct FrontProxy {
    /// PEM: vouches for the certificates of this cluster's clients.
    pub client_authority: String,
    /// PEM: vouches for `certificate`, and for nothing else.
    pub authority: String,
    /// The common name in `certificate`.
    pub name: String,
    pub certificate: Pair,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_cidr: "10.96.0.0/12".to_owned(),
            node_ports: (30_000, 32_767),
            advertise: None,
            max_in_flight: 400,
            max_mutating_in_flight: 200,
            max_connections: 8_192,
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1_800),
            event_ttl: Duration::from_secs(3_600),
            kubelet_tls: None,
            front_proxy: None,
        }
    }
}
