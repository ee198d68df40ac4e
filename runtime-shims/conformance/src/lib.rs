//! A CRI conformance suite: every call and field that a kubelet relies on, one test per demanded behaviour.
//!
//! Must not know: which runtime it tests.

mod bench;
pub mod benchmark;
mod cgroup;
mod controllers;
mod demand;
mod demands;
mod images;
mod registry;
mod remote;
mod report;
mod run;

pub use demand::{Demand, Selection};
pub use report::{Outcome, Report, Verdict};
pub use run::{Options, run};

/// Every demand of the suite, in the order they are shown.
pub fn demands() -> Vec<&'static Demand> {
    demands::all()
}
