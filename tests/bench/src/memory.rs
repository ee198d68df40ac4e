//! `memory`: what the stack holds, and what it costs while nothing is asked of it.
//!
//! Must not know: the cluster's API.

use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::processes::{Meter, Selection};
use crate::report::Report;

pub async fn measure(arguments: &Arguments, stack: &Selection, report: &mut Report) {
    let programs = stack.memory();
    if programs.is_empty() {
        report.did("memory: no process matches; --match and --pid name them");
        return;
    }
    for (name, program) in &programs {
        let label = format!("PSS, {name} ({})", program.processes);
        report.figure("memory", label, program.pss_kib as f64 / 1024.0, "MiB");
    }
    report.figure("memory", "PSS, all", total_mib(stack), "MiB");
    let window = arguments.window();
    // by name: a stack that is only half matched looks like a small one
    let names = programs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    report.did(format!("memory: PSS of {names}, then their CPU time over {window:?}"));
    report.figure("memory", "CPU, all", cpu(stack, window).await, "ms/s");
}

/// CPU time of the stack while nothing is asked of it, in milliseconds per second.
pub async fn cpu(stack: &Selection, window: Duration) -> f64 {
    let (meter, began) = (Meter::begin(stack), Instant::now());
    tokio::time::sleep(window).await;
    let passed = began.elapsed().as_secs_f64();
    meter.end() / passed
}

/// PSS of all processes of the stack, in MiB.
pub fn total_mib(stack: &Selection) -> f64 {
    stack.memory().values().map(|program| program.pss_kib).sum::<u64>() as f64 / 1024.0
}
