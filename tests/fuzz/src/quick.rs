//! A few inputs of fixed seeds: what a target is tried with where nothing guides the choice.
//!
//! Must not know: targets.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Dice, Input, Target, vary};

/// Inputs for a target.
const FEW: u64 = 200;

/// Panics of any thread since the program began: a task that panics must not go unseen.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tries a target with a few inputs, the same every time: `FUZZ_INPUTS` of them, from the seed `FUZZ_SEED` on.
///
/// # Panics
/// As the target does, after it named the seed; and where there is no target of this name.
pub fn few(target: &str) {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(count_panics);
    let known = Target::named(target);
    let examples = examples(&known);
    let first = setting("FUZZ_SEED").unwrap_or(1);
    for count in 0..setting("FUZZ_INPUTS").unwrap_or(FEW) {
        let seed = first.wrapping_add(count);
        try_one(target, seed, || once(&known, &examples, &mut Dice::new(seed)));
    }
}

fn once(target: &Target, examples: &[Vec<u8>], dice: &mut Dice) {
    match target.input {
        Input::Choices(one) => one(dice),
        Input::Bytes(one) => one(&vary(&examples[dice.below(examples.len())], dice)),
    }
}

fn try_one(target: &str, seed: u64, one: impl FnOnce()) {
    let before = PANICS.load(Ordering::Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(one));
    let panicked = PANICS.load(Ordering::Relaxed) != before;
    if outcome.is_err() || panicked {
        eprintln!("{target}: the input of this seed fails: FUZZ_SEED={seed} FUZZ_INPUTS=1 cargo test -p pintle-fuzz");
    }
    match outcome {
        Err(panic) => resume_unwind(panic),
        Ok(()) => assert!(!panicked, "{target}: a task panicked"),
    }
}

/// The sound inputs of a target that takes bytes, in the order of their names.
fn examples(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name);
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
}
