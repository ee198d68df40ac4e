//! Chance that repeats: choices out of bytes that somebody gives, and out of a seed when those are used up.
//!
//! Must not know: what it decides.

/// The seed, at the beginning of given bytes.
const SEED: usize = 8;

/// Chooses as the bytes say that it was given, each choice by as few of them as it needs, so that a changed byte is a
/// changed choice; then by numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice {
    given: Vec<u8>,
    at: usize,
    seed: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { given: Vec::new(), at: 0, seed }
    }

    /// Chooses by these bytes: a seed of eight (less are filled up with zeros), then choices. [`Dice::new`] is what the
    /// seed alone makes, its lowest byte first.
    pub fn of(bytes: &[u8]) -> Self {
        let mut seed = [0; SEED];
        seed.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self { given: bytes.to_vec(), at: SEED.min(bytes.len()), seed: u64::from_le_bytes(seed) }
    }

    fn given(&mut self, length: usize) -> Option<&[u8]> {
        let found = self.given.get(self.at..self.at + length)?;
        self.at += length;
        Some(found)
    }

    fn drawn(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of so many bytes, if they are given.
    fn number_of(&mut self, length: usize) -> u64 {
        match self.given(length) {
            Some(bytes) => bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
            None => self.drawn(),
        }
    }

    pub fn number(&mut self) -> u64 {
        self.number_of(8)
    }

    /// Less than `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let length = match bound {
            0 | 1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        (self.number_of(length) % bound as u64) as usize
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// # Panics
    /// There is nothing to choose from.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Numbers at which programs go wrong.
    pub fn odd_number(&mut self) -> u64 {
        let near = self.below(5) as u64;
        let power = 1_u64 << self.below(64);
        match self.below(4) {
            0 => near,
            1 => power.wrapping_sub(2).wrapping_add(near),
            2 => u64::MAX - near,
            _ => self.number() >> self.below(64),
        }
    }

    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        match self.given(length) {
            Some(bytes) => bytes.to_vec(),
            None => (0..length).map(|_| self.drawn() as u8).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_bytes_are_the_choices_and_the_seed_goes_on_where_they_end() {
        let mut dice = Dice::of(b"\x01\0\0\0\0\0\0\0\x03\x02\x01abc");
        assert_eq!((dice.below(10), dice.below(2), dice.below(1)), (3, 0, 0));
        let mut rest = Dice { at: 10, ..dice.clone() };
        assert_eq!(rest.below(0x101), (0x01 << 8 | usize::from(b'a')) % 0x101);
        dice.at = 11;
        let mut taken = dice.clone();
        assert_eq!(taken.given(3), Some(&b"abc"[..]));
        assert_eq!(taken.number(), Dice::new(1).number());
    }

    #[test]
    fn a_seed_is_the_same_as_number_and_as_bytes() {
        for seed in [0, 1, 77, u64::MAX] {
            assert_eq!(Dice::of(&seed.to_le_bytes()).number(), Dice::new(seed).number());
        }
        assert_eq!(Dice::of(b"\x05").number(), Dice::new(5).number());
    }
}
