//! The demands, by area.
//!
//! Must not know: how tests are run and told.

mod container;
mod exec;
mod image;
mod lifecycle;
mod log;
mod namespaces;
mod runtime;
mod sandbox;
mod security;
mod streams;

use crate::demand::Demand;

/// A demand: its name, what it is, where it comes from, its test.
macro_rules! demand {
    ($name:literal, $demand:literal, $source:literal, $test:path) => {
        $crate::demand::Demand { name: $name, demand: $demand, source: $source, test: |bench| Box::pin($test(bench)) }
    };
}
use demand;

pub fn all() -> Vec<&'static Demand> {
    let areas = [
        runtime::DEMANDS,
        sandbox::DEMANDS,
        namespaces::DEMANDS,
        lifecycle::DEMANDS,
        container::DEMANDS,
        exec::DEMANDS,
        streams::DEMANDS,
        image::DEMANDS,
        log::DEMANDS,
        security::DEMANDS,
    ];
    areas.into_iter().flatten().collect()
}
