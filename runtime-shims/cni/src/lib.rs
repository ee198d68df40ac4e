//! The pod network: CNI as a runtime calls it ([`Network`]), and Pintle's own plugin: a bridge, a veth pair per pod,
//! addresses from the node's pod CIDR, kept on disk.
//!
//! Pods get a /32 and reach everything, their neighbours too, through the bridge's address: so every packet passes the
//! host's IP stack, and translated connections between pods of one node come back right without br_netfilter.
//!
//! Relied on: masquerading of what leaves the pod network is the proxy's.
//! Must not know: Kubernetes, CRI, or Services.

mod attach;
mod caller;
mod cleanup;
pub mod conf;
mod error;
mod host_ports;
mod leases;
mod links;
mod lock;
mod loopback;
mod namespace;
#[doc(hidden)]
pub mod parsers;
pub mod plugin;
mod range;
mod request;
mod result;
mod shaping;
mod sysctl;

pub use caller::{Bandwidth, CallError, Capabilities, Dns, INTERFACE, Network, PluginError, Pod, PortMapping};
pub use cleanup::cleanup;
pub use conf::PLUGIN_NAME;
pub use loopback::loopback_up;
pub use result::{AddResult, Address, Interface, Route};
