//! The program that `make fuzz` runs: libFuzzer's own `main`, with the target that `FUZZ_TARGET` names.
//!
//! Must not know: what targets do.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use pintle_fuzz::{Dice, Input, Target, vary};

static TARGET: LazyLock<Target> = LazyLock::new(|| Target::named(&std::env::var("FUZZ_TARGET").unwrap_or_default()));

fuzz_target!(|bytes: &[u8]| {
    TARGET.one(bytes);
});

// Choices are bytes like any others; a document is changed as one half of the times.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed.into());
    if matches!(TARGET.input, Input::Choices(_)) || dice.one_in(2) {
        return fuzzer_mutate(data, size, max_size);
    }
    let varied = vary(&data[..size], &mut dice);
    let length = varied.len().min(max_size);
    data[..length].copy_from_slice(&varied[..length]);
    length
});
