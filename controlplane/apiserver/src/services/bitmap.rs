//! A bounded set of numbers, handed out at random. The lower part of the range is handed out last: it is where
//! people choose by hand (`k8s.io/kubernetes/pkg/registry/core/service/{ipallocator,portallocator}`).
//!
//! Must not know: what the numbers stand for.

/// `size` numbers from 0.
#[derive(Debug, Clone)]
pub struct Bitmap {
    words: Vec<u64>,
    size: usize,
    /// Numbers below are handed out only when the rest is gone.
    reserved: usize,
}

impl Bitmap {
    pub fn new(size: usize, reserved: usize) -> Self {
        Self { words: vec![0; size.div_ceil(64)], size, reserved: reserved.min(size) }
    }

    pub fn contains(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Takes `number`; false where it is taken already or out of range.
    pub fn take(&mut self, number: usize) -> bool {
        if number >= self.size || self.contains(number) {
            return false;
        }
        self.words[number / 64] |= 1 << (number % 64);
        true
    }

    pub fn free(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// Takes any; `random` says where to begin looking.
    pub fn take_any(&mut self, random: u64) -> Option<usize> {
        let found = self.find(self.reserved, self.size, random).or_else(|| self.find(0, self.reserved, random))?;
        self.take(found);
        Some(found)
    }

    fn find(&self, from: usize, to: usize, random: u64) -> Option<usize> {
        let length = to.checked_sub(from).filter(|l| *l > 0)?;
        let start = usize::try_from(random % length as u64).ok()?;
        (0..length).map(|step| from + (start + step) % length).find(|number| !self.contains(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_handed_out_once_the_reserved_ones_last() {
        let mut bits = Bitmap::new(130, 16);
        let mut seen: Vec<usize> = (0..130).map(|n| bits.take_any(n * 7919).unwrap()).collect();
        assert!(seen[..114].iter().all(|n| *n >= 16));
        assert_eq!(bits.take_any(3), None);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..130));
        bits.free(5);
        assert_eq!(bits.take_any(1), Some(5));
    }

    #[test]
    fn what_is_out_of_range_or_taken_is_not_given() {
        let mut bits = Bitmap::new(10, 0);
        assert!(bits.take(9) && !bits.take(9) && !bits.take(10));
    }
}
