//! Hostile input for whatever reads what others wrote: made by rules that know its form, from choices that libFuzzer
//! varies towards code that no input has reached yet.
//!
//! Each target is one function (`targets/`) with two callers: the tests try it with the choices of a few fixed seeds,
//! `make fuzz` lets libFuzzer choose (`main.rs`).
//!
//! Must not know: what is fuzzed (`targets/` alone does).

mod bytes;
mod dice;
pub mod json;
mod quick;
mod tar;
mod targets;

pub use bytes::mutate;
pub use dice::Dice;
pub use quick::few;
pub use targets::TARGETS;

/// Something that reads what others wrote.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub input: Input,
}

/// How a target's input comes about. Each panics where something does not hold that must for every input.
#[derive(Debug, Clone, Copy)]
pub enum Input {
    /// Made by the target, which throws dice for it.
    Choices(fn(&mut Dice)),
    /// The bytes themselves; sound examples are in the folder `seeds/NAME`.
    Bytes(fn(&[u8])),
}

impl Target {
    /// # Panics
    /// There is none of this name.
    pub fn named(name: &str) -> Self {
        let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(" ");
        *TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("{name:?} is none of: {}", known()))
    }

    /// One try, with bytes that libFuzzer made.
    pub fn one(&self, bytes: &[u8]) {
        match self.input {
            Input::Choices(one) => one(&mut Dice::of(bytes)),
            Input::Bytes(one) => one(bytes),
        }
    }
}

/// Changes bytes by whichever rules fit them: as a JSON document, if they are one.
pub fn vary(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut varied = bytes.to_vec();
    if let (Ok(mut document), false) = (serde_json::from_slice(bytes), dice.one_in(4)) {
        json::mutate(&mut document, dice, 3);
        varied = document.to_string().into_bytes();
    }
    if dice.one_in(3) {
        mutate(&mut varied, dice, 4);
    }
    varied
}
