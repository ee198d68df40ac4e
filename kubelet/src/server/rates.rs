//! How fast processor time is used: by how much a counter grew since it was last looked at. Source: upstream's
//! getAndUpdateContainerUsageNanoCores.
//!
//! Must not know: what is counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Looks that follow each other faster get the rate of the one before: counters are no finer.
const LEAST: u64 = 1_000_000_000;

/// What was last seen, by whose it is.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<String, Sample>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    /// Nanoseconds.
    at: u64,
    used: u64,
    rate: Option<u64>,
}

impl Rates {
    /// Nanoseconds of processor time in a second, from looks `(whose, when, core-nanoseconds so far)` at everybody there
    /// is; who is not named is forgotten. Nothing is known of who is seen for the first time.
    pub fn look(&self, looks: impl Iterator<Item = (String, u64, u64)>) -> HashMap<String, u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = looks.map(|(id, at, used)| {
            let sample = next(known.get(&id), at, used);
            (id, sample)
        });
        let seen: HashMap<String, Sample> = seen.collect();
        *known = seen;
        known.iter().filter_map(|(id, sample)| Some((id.clone(), sample.rate?))).collect()
    }
}

fn next(before: Option<&Sample>, at: u64, used: u64) -> Sample {
    // a counter that went back is another one's
    let Some(before) = before.filter(|before| before.used <= used) else { return Sample { at, used, rate: None } };
    let passed = at.saturating_sub(before.at);
    if passed < LEAST {
        return *before;
    }
    let rate = u128::from(used - before.used) * 1_000_000_000 / u128::from(passed);
    Sample { at, used, rate: u64::try_from(rate).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_used_in_the_time_that_passed() {
        const SECOND: u64 = 1_000_000_000;
        let rates = Rates::default();
        let look = |at: u64, used: u64| rates.look([("a".to_owned(), at, used)].into_iter()).get("a").copied();
        assert_eq!(look(SECOND, 100), None, "seen for the first time");
        assert_eq!(look(3 * SECOND, 100 + SECOND), Some(SECOND / 2));
        assert_eq!(look(3 * SECOND + 5, 200 + SECOND), Some(SECOND / 2), "too soon");
        assert_eq!(look(5 * SECOND, 100 + SECOND), Some(0));
        assert_eq!(look(7 * SECOND, 5), None, "another counter");
        assert!(rates.look(std::iter::empty()).is_empty());
        assert_eq!(look(9 * SECOND, 10), None, "forgotten");
    }
}
