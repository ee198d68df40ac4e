//! What was measured of each runtime, and its percentiles.
//!
//! Must not know: how it was measured, how it is shown.

use std::time::Duration;

use pintle_cri::v1;
use serde_json::{Value, json};

use super::life::{CALLS, Times};
use super::memory::Growth;

/// Lives that were lived, and the time they all took together.
#[derive(Debug, Default)]
pub struct Lives {
    times: Vec<Times>,
    took: Duration,
}

impl Lives {
    pub fn new(times: Vec<Times>, took: Duration) -> Self {
        Self { times, took }
    }

    pub fn extend(&mut self, more: Self) {
        self.times.extend(more.times);
        self.took += more.took;
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Milliseconds of a call of [`CALLS`] by nearest rank: the least that so many per cent do not exceed.
    pub fn percentile(&self, call: usize, percent: usize) -> Option<f64> {
        let mut sorted: Vec<Duration> = self.times.iter().filter_map(|times| times.get(call).copied()).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).map(|time| time.as_secs_f64() * 1000.0)
    }

    /// Whole lives in a second: so many pods and as many containers, made and removed.
    pub fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    fn json(&self) -> Value {
        let call = |(index, name): (usize, &&str)| {
            let at = |percent| self.percentile(index, percent);
            let of = json!({ "p50": at(50), "p90": at(90), "p99": at(99), "least": at(0), "most": at(100) });
            ((*name).to_owned(), of)
        };
        let calls: serde_json::Map<String, Value> = CALLS.iter().enumerate().map(call).collect();
        json!({ "lives": self.len(), "livesPerSecond": self.per_second(), "milliseconds": calls })
    }
}

/// Of one runtime.
#[derive(Debug, Default)]
pub struct Figures {
    /// As it names itself.
    pub name: String,
    /// Whether its pods were on a network of their own, which costs.
    pub pod_network: bool,
    pub alone: Lives,
    pub together: Lives,
    pub memory: Option<Growth>,
}

impl Figures {
    pub fn of(version: &v1::VersionResponse, pod_network: bool) -> Self {
        let name = format!("{} {}", version.runtime_name, version.runtime_version);
        Self { name, pod_network, ..Self::default() }
    }
}

/// Runtimes measured by one program in one run.
#[derive(Debug)]
pub struct Comparison {
    /// How many lives went on at once in the second part.
    pub at_once: usize,
    pub runtimes: Vec<Figures>,
}

impl Comparison {
    pub fn json(&self) -> String {
        let of = |one: &Figures| {
            json!({
                "runtime": one.name,
                "podNetwork": one.pod_network,
                "oneAtATime": one.alone.json(),
                "atOnce": (one.together.len() > 0).then(|| one.together.json()),
                "memory": one.memory.as_ref().map(Growth::json),
            })
        };
        let runtimes: Vec<Value> = self.runtimes.iter().map(of).collect();
        format!("{:#}\n", json!({ "atOnce": self.at_once, "runtimes": runtimes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let times = (1..=200).rev().map(|time| [Duration::from_millis(time); CALLS.len()]).collect();
        let lives = Lives::new(times, Duration::from_secs(4));
        assert_eq!(lives.percentile(0, 50), Some(100.0));
        assert_eq!(lives.percentile(7, 99), Some(198.0));
        assert_eq!((lives.percentile(0, 0), lives.percentile(0, 100)), (Some(1.0), Some(200.0)));
        assert_eq!(lives.per_second(), 50.0);
    }

    #[test]
    fn nothing_measured_has_no_percentile() {
        assert_eq!(Lives::default().percentile(0, 50), None);
    }
}
