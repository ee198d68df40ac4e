//! The demands, by area.
//!
//! Must not know: how tests are run and told.

mod checkpoint;
mod confinement;
mod container;
mod devices;
mod events;
mod exec;
mod image;
mod labels;
mod lifecycle;
mod lists;
mod log;
mod mounts;
mod namespaces;
mod ports;
mod pulls;
mod requests;
mod resources;
mod runtime;
mod sandbox;
mod security;
mod stats;
mod status;
mod streams;
mod users;

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
        status::DEMANDS,
        checkpoint::DEMANDS,
        events::DEMANDS,
        stats::DEMANDS,
        lists::DEMANDS,
        sandbox::DEMANDS,
        namespaces::DEMANDS,
        users::DEMANDS,
        lifecycle::DEMANDS,
        container::DEMANDS,
        mounts::DEMANDS,
        devices::DEMANDS,
        resources::DEMANDS,
        security::DEMANDS,
        confinement::DEMANDS,
        labels::DEMANDS,
        exec::DEMANDS,
        streams::DEMANDS,
        ports::DEMANDS,
        log::DEMANDS,
        image::DEMANDS,
        pulls::DEMANDS,
        requests::DEMANDS,
    ];
    areas.into_iter().flatten().collect()
}
