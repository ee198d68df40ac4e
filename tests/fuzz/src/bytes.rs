//! Mutations that know nothing of form.
//!
//! Must not know: what the bytes are.

use crate::Dice;

/// Longer input shows no more.
const LONGEST: usize = 1 << 20;

/// Changes, repeats, moves, cuts and adds bytes, in up to so many places.
pub fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice, places: usize) {
    for _ in 0..dice.below(places + 1) {
        change(bytes, dice);
    }
    bytes.truncate(LONGEST);
}

fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len());
    match dice.below(8) {
        0 => flip(bytes, at, dice),
        1 => overwrite(bytes, at, &dice.odd_number().to_be_bytes()[dice.below(8)..]),
        2 => overwrite(bytes, at, &dice.odd_number().to_le_bytes()[..1 + dice.below(8)]),
        3 => bytes.truncate(at),
        4 => drop(bytes.splice(at..at, dice.bytes(64))),
        5 => drop(bytes.drain(at..at + dice.below(bytes.len() - at + 1))),
        6 => {
            let piece = bytes[at..at + dice.below((bytes.len() - at).min(4096) + 1)].to_vec();
            let to = dice.below(bytes.len() + 1);
            drop(bytes.splice(to..to, piece));
        }
        _ => {
            let digits = dice.odd_number().to_string();
            overwrite(bytes, at, digits.as_bytes());
        }
    }
}

fn flip(bytes: &mut [u8], at: usize, dice: &mut Dice) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(with) {
        *byte = *new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_mutates_the_same_and_empty_input_is_taken() {
        let mutated = |seed| {
            let mut bytes = b"some bytes to change".to_vec();
            mutate(&mut bytes, &mut Dice::new(seed), 20);
            bytes
        };
        for seed in 0..500 {
            assert_eq!(mutated(seed), mutated(seed));
            mutate(&mut Vec::new(), &mut Dice::new(seed), 20);
        }
        assert!((0..50).any(|seed| mutated(seed) != b"some bytes to change"));
    }
}
