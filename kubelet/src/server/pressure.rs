//! Pressure stall information as `/stats/summary` and cAdvisor's metrics show it. Source: upstream's KubeletPSI.
//!
//! Must not know: where it was read.

use pintle_cri::v1::{PsiData, PsiStats};
use serde_json::{Value, json};

/// The resources it is told of, by their names in metrics.
pub const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];

/// Whether some of a container's tasks waited, or all did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Waiting,
    Stalled,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Stalled, Self::Waiting];

    /// Seconds since the container began.
    pub fn seconds(self, psi: &PsiStats) -> Option<f64> {
        let data = match self {
            Self::Waiting => psi.some.as_ref(),
            Self::Stalled => psi.full.as_ref(),
        };
        // the kernel counts microseconds
        data.map(|data| data.total as f64 / 1e6)
    }
}

/// The metric's name.
pub fn metric(resource: &str, kind: Kind) -> String {
    let kind = if kind == Kind::Waiting { "waiting" } else { "stalled" };
    format!("container_pressure_{resource}_{kind}_seconds_total")
}

/// Its description.
pub fn help(resource: &str, kind: Kind) -> String {
    let who = if kind == Kind::Waiting { "some tasks" } else { "all tasks" };
    format!("Time that {who} of the container have waited for {resource}.")
}

/// The `psi` of a resource in a summary; the total as the kernel counts it.
pub fn summary(psi: &PsiStats) -> Value {
    let one = |data: &Option<PsiData>| {
        let data = data.unwrap_or_default();
        json!({"total": data.total, "avg10": data.avg10, "avg60": data.avg60, "avg300": data.avg300})
    };
    json!({"full": one(&psi.full), "some": one(&psi.some)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_shown_as_upstream_shows_it() {
        let some = PsiData { total: 2_500_000, avg10: 1.5, ..PsiData::default() };
        let psi = PsiStats { some: Some(some), full: None };
        assert_eq!((Kind::Waiting.seconds(&psi), Kind::Stalled.seconds(&psi)), (Some(2.5), None));
        assert_eq!(metric("io", Kind::Stalled), "container_pressure_io_stalled_seconds_total");
        assert_eq!(summary(&psi)["some"]["total"], 2_500_000);
    }
}
