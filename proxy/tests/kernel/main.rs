//! Services on a real kernel: namespaces of this test's own, veth pairs as pods, real connections.
//!
//! Needs root; without it the tests say so and pass.

mod affinity;
mod cluster_ip;
mod conntrack;
mod dns;
mod network;
mod node_port;
mod policy;
mod restart;
mod rules;
mod sctp;
mod upstream;
