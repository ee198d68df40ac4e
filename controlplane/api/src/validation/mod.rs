//! Checks of objects that hold for many kinds, with upstream's field paths and words.
//!
//! Must not know: how a verb is carried out.

pub mod names;
