//! `pintle runtime-conformance`: the CRI conformance suite, against any runtime's socket.
//!
//! Must not know: what is demanded.

use std::fs::File;
use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use pintle_conformance::{Options, Selection, demands};
use pintle_cri::CgroupDriver;
use regex::Regex;

use crate::progress::say;
use crate::runtime_benchmark;

/// What is tested, and where that is written.
#[derive(Args)]
#[command(
    about = "Test a container runtime: does it do what kubelets rely on?",
    after_help = "The images come from the suite itself, by way of a registry on 127.0.0.1: run it as root on\n\
                  the runtime's own machine, in its network and mount namespaces. Exit code 1: a test failed.\n\n\
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
    let selection = Selection { focus: settings.focus, skip: settings.skip };
    ensure!(demands().iter().any(|one| selection.takes(one.name)), "no test has such a name: --list names them all");
    if settings.list {
        list(&selection)?;
        return Ok(true);
    }
    // a file that cannot be written is no news for the end of a long run
    let report = |file: Option<PathBuf>| file.map(ReportFile::create).transpose();
    let (json, junit) = (report(settings.report_json)?, report(settings.report_junit)?);
    if settings.benchmark.asked() {
        let (endpoint, driver) = (settings.runtime_endpoint, settings.cgroup_driver);
        return runtime_benchmark::run(&settings.benchmark, endpoint, driver, json).await.map(|()| true);
    }
    let runtime = pintle_cri::connect(&settings.runtime_endpoint).await?;
    // as `pintle up` does: a containerd without a registry has no sandbox image
    runtime.ensure_sandbox_image().await.context("giving the runtime its sandbox image")?;
    let dir = std::env::temp_dir().join(format!("pintle-conformance-{}", std::process::id()));
    let (parallel, cgroup_driver) = (settings.parallel.into(), settings.cgroup_driver);
    let options = Options { selection, cgroup_driver, parallel, dir, stop: pintle_daemon::shutdown::on_signals()? };
    let told = |verdict: &pintle_conformance::Verdict| say(&verdict.line());
    let outcome = pintle_conformance::run(runtime, &options, told).await?;
    say(&format!("\n{}", outcome.summary()));
    for (report, text) in [(json, outcome.json()), (junit, outcome.junit())] {
        report.map_or(Ok(()), |report| report.write(&text))?;
    }
    Ok(outcome.passed())
}

/// A file for a report, made before there is one.
pub struct ReportFile {
    path: PathBuf,
    file: File,
}

impl ReportFile {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, file })
    }

    pub fn write(mut self, text: &str) -> anyhow::Result<()> {
        self.file.write_all(text.as_bytes()).with_context(|| format!("writing {}", self.path.display()))
    }
}

fn list(selection: &Selection) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    for demand in demands().into_iter().filter(|one| selection.takes(one.name)) {
        writeln!(out, "{:<32} {} [{}]", demand.name, demand.demand, demand.source)?;
    }
    Ok(())
}
