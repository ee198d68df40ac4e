//! `pintle runtime-conformance --benchmark`: what calls cost on any runtime's socket, several runtimes side by side.
//!
//! Must not know: what is measured.

use anyhow::Context as _;
use clap::Args;
use pintle_conformance::benchmark::{self, Options};
use pintle_cri::CgroupDriver;

use crate::runtime_conformance::ReportFile;

/// How much is measured, and beside whom.
#[derive(Args)]
pub struct Benchmark {
    /// Instead of testing, measure: the time of each call (p50, p99), lives of pods in a second, memory per pod
    #[arg(long, conflicts_with_all = ["focus", "skip", "list", "report_junit"])]
    benchmark: bool,
    /// A further runtime, measured in turns with the first; may be given more than once
    #[arg(long, value_name = "ENDPOINT", requires = "benchmark")]
    beside: Vec<String>,
    /// How many lives of pods are measured one at a time, and how many several at once
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000), requires = "benchmark")]
    lives: u16,
    /// How many lives go on at once; 1 leaves that part out
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=500), requires = "benchmark")]
    at_once: u16,
    /// How many pods stand while memory is measured; 0 leaves that part out
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=500), requires = "benchmark")]
    standing: u16,
}

impl Benchmark {
    pub fn asked(&self) -> bool {
        self.benchmark
    }
}

/// Measures, prints a table, writes a report where one is asked for.
pub async fn run(
    settings: &Benchmark,
    endpoint: String,
    cgroup_driver: Option<CgroupDriver>,
    report: Option<ReportFile>,
) -> anyhow::Result<()> {
    let mut runtimes = Vec::new();
    for endpoint in std::iter::once(&endpoint).chain(&settings.beside) {
        let runtime = pintle_cri::connect(endpoint).await?;
        runtime.ensure_sandbox_image().await.context("giving the runtime its sandbox image")?;
        runtimes.push((endpoint.clone(), runtime));
    }
    let options = Options {
        lives: settings.lives.into(),
        at_once: settings.at_once.into(),
        standing: settings.standing.into(),
        cgroup_driver,
        dir: std::env::temp_dir().join(format!("pintle-benchmark-{}", std::process::id())),
    };
    let compared = benchmark::run(runtimes, &options, |doing| eprintln!("{doing}")).await?;
    print!("{}", compared.table());
    report.map_or(Ok(()), |report| report.write(&compared.json()))
}
