//! The pod network on a real kernel, in network namespaces of the tests' own.

mod caller;
mod churn;
mod host;
mod host_ports;
mod plugin;
mod traffic;
