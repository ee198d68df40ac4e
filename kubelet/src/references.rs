//! Facts about the pod's place that containers may ask for: addresses, the node's size.
//!
//! Must not know: who asks.

/// What environment variables and downward API volumes show beside the pod's own metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
    /// cpu (milli) and memory (bytes) of the node that pods may have.
    pub allocatable: (i64, i64),
}
