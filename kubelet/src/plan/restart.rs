//! Whether a container that ended starts again, and how long it waits first.
//!
//! Must not know: how a container is started.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::pod::Kind;
use super::seen::{Seen, State};

/// Upstream's first delay of a container's restart back-off.
pub const INITIAL: Duration = Duration::from_secs(10);

/// Whether an end with `exit_code` leads to a restart: the container's rules, its own policy, else the pod's.
pub fn restarts_after(container: &Container, kind: Kind, spec: &PodSpec, exit_code: i32) -> bool {
    if kind == Kind::Ephemeral {
        return false;
    }
    if matches_rule(container, exit_code) {
        return true;
    }
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always");
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        // an init container that succeeded is done, unless it is a sidecar
        _ if kind == Kind::Init && container.restart_policy.is_none() => exit_code != 0,
        _ => true,
    }
}

fn matches_rule(container: &Container, exit_code: i32) -> bool {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    rules.iter().filter(|rule| rule.action == "Restart").any(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}

/// Whether the next plan would start the container: upstream's ShouldContainerBeRestarted.
pub fn should_restart(container: &Container, kind: Kind, pod: &Pod, seen: &Seen) -> bool {
    let Some(spec) = &pod.spec else { return false };
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match seen.latest(&container.name) {
        None => true,
        Some(latest) => match latest.state {
            State::Running => false,
            State::Unknown | State::Created => kind != Kind::Ephemeral,
            State::Exited => restarts_after(container, kind, spec, latest.exit_code),
        },
    }
}

/// A restart back-off that doubles; kept per container by the pod's worker.
#[derive(Debug, Clone, PartialEq)]
pub struct BackOff {
    pub delay: Duration,
    pub updated: Timestamp,
}

impl BackOff {
    /// How long after `finished` the container still waits at `now`; zero when it may start.
    pub fn remaining(entry: Option<&Self>, finished: Timestamp, now: Timestamp, max: Duration) -> Duration {
        let Some(entry) = entry.filter(|entry| !entry.expired(finished, max)) else { return Duration::ZERO };
        let since = Duration::try_from(now.duration_since(finished)).unwrap_or(Duration::ZERO);
        entry.delay.saturating_sub(since)
    }

    /// The entry after another start: doubled up to `max`, or from the beginning after a long quiet time.
    pub fn next(entry: Option<&Self>, finished: Timestamp, now: Timestamp, max: Duration) -> Self {
        let delay = match entry.filter(|entry| !entry.expired(finished, max)) {
            Some(entry) => (entry.delay * 2).min(max),
            None => INITIAL.min(max),
        };
        Self { delay, updated: now }
    }

    /// The entry after so many restarts in a row, the last of which ended at `finished`.
    pub fn after(restarts: i32, finished: Timestamp, max: Duration) -> Self {
        let doublings = u32::try_from(restarts.clamp(1, 16) - 1).unwrap_or(0);
        Self { delay: (INITIAL * 2_u32.pow(doublings)).min(max), updated: finished }
    }

    /// Twice the bound without a failure clears the slate, as upstream's flowcontrol.Backoff does.
    fn expired(&self, event: Timestamp, max: Duration) -> bool {
        event.duration_since(self.updated) > SignedDuration::try_from(max * 2).unwrap_or(SignedDuration::MAX)
    }
}

/// `10s`, `1m20s`, `5m0s`: as Go prints a duration of whole seconds.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAXIMUM: Duration = Duration::from_secs(300);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_restart_is_immediate_then_delays_double_up_to_the_bound() {
        assert_eq!(BackOff::remaining(None, at(0), at(0), MAXIMUM), Duration::ZERO);
        let mut entry = BackOff::next(None, at(0), at(0), MAXIMUM);
        let mut delays = vec![entry.delay.as_secs()];
        for _ in 0..6 {
            entry = BackOff::next(Some(&entry), at(1), at(1), MAXIMUM);
            delays.push(entry.delay.as_secs());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn the_wait_counts_from_the_end_of_the_container() {
        let entry = BackOff { delay: Duration::from_secs(20), updated: at(100) };
        assert_eq!(BackOff::remaining(Some(&entry), at(110), at(115), MAXIMUM).as_secs(), 15);
        assert_eq!(BackOff::remaining(Some(&entry), at(110), at(131), MAXIMUM), Duration::ZERO);
    }

    #[test]
    fn a_back_off_is_found_again_from_the_restart_count() {
        let delays = [0, 1, 2, 4, 40].map(|restarts| BackOff::after(restarts, at(0), MAXIMUM).delay.as_secs());
        assert_eq!(delays, [10, 10, 20, 80, 300]);
    }

    #[test]
    fn a_container_that_ran_for_long_starts_over() {
        let entry = BackOff { delay: Duration::from_secs(300), updated: at(0) };
        assert_eq!(BackOff::next(Some(&entry), at(601), at(601), MAXIMUM).delay, INITIAL);
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        let printed: Vec<String> = [10, 80, 300, 3600].map(|s| go_duration(Duration::from_secs(s))).to_vec();
        assert_eq!(printed, ["10s", "1m20s", "5m0s", "1h0m0s"]);
    }
}
