//! The scheduler's settings.
//!
//! Must not know: where they come from.

use std::time::Duration;

/// Defaults are upstream's.
#[derive(Debug, Clone)]
pub struct Config {
    /// Pods whose `spec.schedulerName` is this are scheduled.
    pub scheduler_name: String,
    pub pod_initial_backoff: Duration,
    pub pod_max_backoff: Duration,
    /// A pod that was unschedulable is tried again after this, whether anything happened or not.
    pub pod_max_unschedulable: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            pod_initial_backoff: Duration::from_secs(1),
            pod_max_backoff: Duration::from_secs(10),
            pod_max_unschedulable: Duration::from_secs(300),
        }
    }
}
