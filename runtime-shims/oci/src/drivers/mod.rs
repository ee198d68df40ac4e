//! What changes the host: mounts, namespaces, cgroups, the monitor and the OCI runtime. They decide nothing.
//!
//! Must not know: CRI calls, records.

pub mod cgroups;
pub mod copy;
pub mod host;
pub mod inside;
pub mod launcher;
pub mod layer;
pub mod monitors;
pub mod mounts;
pub mod namespaces;
pub mod processes;
pub mod sources;
