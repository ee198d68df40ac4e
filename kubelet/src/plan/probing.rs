//! Probe results as the plans read them.
//!
//! Must not know: how a probe runs.

use std::collections::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// As events and metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// The last settled result of each probe, by container id. Absent: not known yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results(pub HashMap<(String, ProbeKind), bool>);

impl Results {
    pub fn get(&self, container_id: &str, kind: ProbeKind) -> Option<bool> {
        self.0.get(&(container_id.to_string(), kind)).copied()
    }

    pub fn failed(&self, container_id: &str, kind: ProbeKind) -> bool {
        self.get(container_id, kind) == Some(false)
    }
}
