//! Exponential back-off with a bound and jitter, as values: the caller sleeps.
//!
//! Must not know: what is retried.

use std::time::Duration;

/// Delays `initial`, `initial * 2`, … up to `max`; each with up to `jitter` (a fraction) added.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    jitter: f64,
    next: Duration,
}

impl Backoff {
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, jitter: 0.1, next: initial }
    }

    /// The delay before the next try.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.max);
        delay.mul_f64(1.0 + rand::random::<f64>() * self.jitter)
    }

    /// It worked: the next failure starts over.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound_and_starts_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
        let seen: Vec<u64> = (0..4).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(seen, [1, 2, 3, 3]);
        backoff.reset();
        assert_eq!(backoff.next_delay().as_secs(), 1);
    }
}
