//! What the controllers are configured with; names and defaults are kube-controller-manager's where it has them.
//!
//! Must not know: flags and files.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use pintle_pki::Authority;

/// The authority behind the `kubernetes.io` signers. It shows nothing of its key.
#[derive(Clone)]
pub struct Signer(pub Arc<Authority>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        self.0.certificate_pem() == other.0.certificate_pem()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The network that nodes' pod CIDRs are cut from; None: nodes get none.
    pub cluster_cidr: Option<(Ipv4Addr, u8)>,
    /// The prefix length of a node's pod CIDR.
    pub node_cidr_mask_size: u8,
    /// The certificate authority that pods trust, in PEM; published as `kube-root-ca.crt` in every namespace.
    pub root_ca: String,
    /// Signs the certificates of the cluster; None: nobody here does.
    pub signer: Option<Signer>,
    /// A node whose lease is older than this is not ready.
    pub node_monitor_grace_period: Duration,
    /// Ended pods beyond this many are deleted, oldest first; 0: never.
    pub terminated_pod_gc_threshold: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster_cidr: Some((Ipv4Addr::new(10, 244, 0, 0), 16)),
            node_cidr_mask_size: 22,
            root_ca: String::new(),
            signer: None,
            node_monitor_grace_period: Duration::from_secs(50),
            terminated_pod_gc_threshold: 12_500,
        }
    }
}
