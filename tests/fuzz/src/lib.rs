//! Fuzzing without a special compiler: input is made from a seed, by rules that know its form, and mutated.
//!
//! `make test` gives each target a moment, `make fuzz` as long as `FUZZ_SECONDS` says. A failure names the seed of its
//! input, and `FUZZ_SEED` makes that input again.
//!
//! Must not know: what is fuzzed.

mod bytes;
mod dice;
pub mod json;
pub mod tar;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use bytes::mutate;
pub use dice::Dice;

/// Inputs for a target when no time is given.
const FEW: u64 = 200;

/// Panics of any thread since the program began: a task that panics must not go unseen.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// How long a target is tried.
enum Budget {
    Inputs(u64),
    Time(Duration),
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn budget() -> Budget {
    match setting("FUZZ_SECONDS") {
        Some(seconds) => Budget::Time(Duration::from_secs(seconds)),
        None => Budget::Inputs(setting("FUZZ_INPUTS").unwrap_or(FEW)),
    }
}

/// The seed of the first input: `FUZZ_SEED`; a fixed one where inputs are counted, so that `make test` tests the same
/// every time; else one of the time.
fn first_seed(budget: &Budget) -> u64 {
    let of_time = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    setting("FUZZ_SEED").unwrap_or_else(|| if matches!(budget, Budget::Inputs(_)) { 1 } else { of_time() })
}

/// Tries a target with input after input, each from a seed of its own.
///
/// # Panics
/// As the target does, after it named the seed.
pub fn run(target: &str, mut one: impl FnMut(&mut Dice)) {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(count_panics);
    let (budget, started) = (budget(), Instant::now());
    let first = first_seed(&budget);
    let mut count = 0;
    while match budget {
        Budget::Inputs(inputs) => count < inputs,
        Budget::Time(time) => started.elapsed() < time,
    } {
        let seed = first.wrapping_add(count);
        let before = PANICS.load(Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| one(&mut Dice::new(seed))));
        let panicked = PANICS.load(Ordering::Relaxed) != before;
        if outcome.is_err() || panicked {
            eprintln!(
                "{target}: the input of this seed fails: FUZZ_SEED={seed} FUZZ_INPUTS=1 cargo test -p pintle-fuzz"
            );
        }
        match outcome {
            Err(panic) => resume_unwind(panic),
            Ok(()) => assert!(!panicked, "{target}: a task panicked"),
        }
        count += 1;
    }
    println!("fuzz {target}: {count} inputs in {:.1} s from seed {first}", started.elapsed().as_secs_f32());
}

fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
}
