//! Durations of one kind, and their percentiles.
//!
//! Must not know: what was measured.

use std::time::Duration;

/// Durations in the order they were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds, by nearest rank: the smallest sample that at least `percent` of all do not exceed. `None` where
    /// there are no samples.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).map(|sample| milliseconds(*sample))
    }
}

impl Extend<Duration> for Samples {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, samples: T) {
        self.0.extend(samples);
    }
}

impl IntoIterator for Samples {
    type Item = Duration;
    type IntoIter = std::vec::IntoIter<Duration>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(milliseconds: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        samples.extend(milliseconds.into_iter().map(Duration::from_millis));
        samples
    }

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let hundred = samples((1..=100).rev());
        assert_eq!(hundred.percentile(50.0), Some(50.0));
        assert_eq!(hundred.percentile(99.0), Some(99.0));
        assert_eq!(hundred.percentile(100.0), Some(100.0));
        assert_eq!(samples([7, 3]).percentile(50.0), Some(3.0));
        assert_eq!(samples([7, 3]).percentile(99.0), Some(7.0));
    }

    #[test]
    fn the_edges_are_the_least_and_the_only_sample() {
        assert_eq!(samples([4, 2, 9]).percentile(0.0), Some(2.0));
        assert_eq!(samples([5]).percentile(50.0), Some(5.0));
    }

    #[test]
    fn no_samples_have_no_percentile() {
        assert_eq!(Samples::default().percentile(50.0), None);
    }
}
