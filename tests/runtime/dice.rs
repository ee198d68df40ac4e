//! Chance that can be repeated: the same seed gives the same throws.
//!
//! Must not know: what is decided by it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Vigna's splitmix64, which is good enough to choose moments.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// By `RUNTIME_SEED`, or else by the clock. The seed is printed, so that a failure can be told again.
    pub fn printed(story: &str) -> Self {
        let given = std::env::var("RUNTIME_SEED").ok().and_then(|text| text.parse().ok());
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").subsec_nanos();
        let seed = given.unwrap_or(u64::from(clock));
        println!("{story}: RUNTIME_SEED={seed}");
        Self(seed)
    }

    /// Another one, whose throws do not depend on when this one is thrown.
    pub fn another(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// A size that an environment variable raises from what every run of the tests can afford.
pub fn size(variable: &str, small: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(small)
}
