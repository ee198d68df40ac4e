//! Which rules a kind has.
//!
//! Must not know: how a verb is carried out.

use super::{Hooks, Kind};

/// The hooks of a row.
pub(super) fn of(_kind: &Kind) -> Hooks {
    Hooks::NONE
}
