//! `pintle runtime-conformance`: the CRI conformance suite, against any runtime's socket.
//!
//! Must not know: what is demanded.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use pintle_conformance::{Options, Selection, demands};
use pintle_cri::CgroupDriver;
use regex::Regex;

use crate::runtime_benchmark;

/// What is tested, and where that is written.
#[derive(Args)]
#[command(
    about = "Test a container runtime: does it do what kubelets rely on?",
    after_help = "The images come from the suite itself, by way of a registry on 127.0.0.1: run it on the runtime's own\n\
                  machine, in its network and mount namespaces, as root. Exit code 1: a test failed.\n\
                  CRI-O pulls from that registry where /etc/containers/registries.conf has a [[registry]] with\n\
                  location = \"127.0.0.1\" and insecure = true, and wants a pause_image that it can pull.\n\n\
                  Examples:\n  pintle runtime-conformance --runtime-endpoint unix:///run/containerd/containerd.sock\n  \
                  pintle runtime-conformance --list\n  \
                  pintle runtime-conformance --focus '^exec/' --report-junit report.xml\n  \
                  pintle runtime-conformance --benchmark --beside unix:///run/containerd/containerd.sock"
)]
pub struct Settings {
    /// The runtime's socket
    #[arg(long, value_name = "ENDPOINT", default_value = "unix:///run/pintle/runtime.sock")]
    runtime_endpoint: String,
    /// Who makes cgroups, where the runtime does not tell it: cgroupfs or systemd [default: cgroupfs]
    #[arg(long, value_name = "DRIVER", value_parser = crate::units::driver)]
    cgroup_driver: Option<CgroupDriver>,
    /// Only tests in whose names this is found
    #[arg(long, value_name = "REGEX")]
    focus: Option<Regex>,
    /// Not the tests in whose names this is found
    #[arg(long, value_name = "REGEX")]
    skip: Option<Regex>,
    /// Name the tests and what each demands, and run none
    #[arg(long)]
    list: bool,
    /// How many tests run at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Write a report as JSON
    #[arg(long, value_name = "FILE")]
    report_json: Option<PathBuf>,
    /// Write a report as JUnit's XML
    #[arg(long, value_name = "FILE")]
    report_junit: Option<PathBuf>,
    #[command(flatten)]
    benchmark: runtime_benchmark::Benchmark,
}

/// Whether no test failed.
pub async fn run(settings: Settings) -> anyhow::Result<bool> {
    if settings.benchmark.asked() {
        let report = settings.report_json.as_deref();
        return runtime_benchmark::run(&settings.benchmark, settings.runtime_endpoint, settings.cgroup_driver, report)
            .await
            .map(|()| true);
    }
    let selection = Selection { focus: settings.focus, skip: settings.skip };
    if settings.list {
        list(&selection)?;
        return Ok(true);
    }
    let runtime = pintle_cri::connect(&settings.runtime_endpoint).await?;
    // as `pintle up` does: a containerd without a registry has no sandbox image
    runtime.ensure_sandbox_image().await.context("giving the runtime its sandbox image")?;
    let dir = std::env::temp_dir().join(format!("pintle-conformance-{}", std::process::id()));
    let (parallel, cgroup_driver) = (settings.parallel.into(), settings.cgroup_driver);
    let options = Options { selection, cgroup_driver, parallel, dir };
    let told = |verdict: &pintle_conformance::Verdict| println!("{}", verdict.line());
    let report = pintle_conformance::run(runtime, &options, told).await?;
    println!("\n{}", report.summary());
    for (file, text) in [(settings.report_json, report.json()), (settings.report_junit, report.junit())] {
        if let Some(file) = file {
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(report.passed())
}

fn list(selection: &Selection) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    for demand in demands().into_iter().filter(|one| selection.takes(one.name)) {
        writeln!(out, "{:<32} {} [{}]", demand.name, demand.demand, demand.source)?;
    }
    Ok(())
}
