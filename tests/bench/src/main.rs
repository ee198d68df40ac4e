//! `pintle-bench`: the same measures for any cluster that a kubeconfig leads to.
//!
//! Must not know: what any measure does.

mod arguments;
mod cluster;
mod compare;
mod memory;
mod objects;
mod pods;
mod processes;
mod report;
mod samples;
mod start;
mod watches;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use arguments::{Arguments, Command, Compare, Measure};
use cluster::Cluster;
use processes::Selection;
use report::Report;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(Command::Compare(compare)) => compared(compare),
        None => measured(&arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pintle-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compared(compare: &Compare) -> anyhow::Result<()> {
    let read = |paths: &[PathBuf]| paths.iter().map(|path| read_json(path)).collect::<anyhow::Result<Vec<_>>>();
    print!("{}", compare::markdown(&read(&compare.these)?, &read(&compare.beside)?));
    Ok(())
}

async fn measured(arguments: &Arguments) -> anyhow::Result<()> {
    let mut report = Report::default();
    let beside = arguments.beside.as_deref().map(read_json).transpose();
    let result = match &beside {
        Ok(_) => run(arguments, &mut report).await,
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    // What was measured before an error is worth telling, too.
    print!("{}", report.table(beside.ok().flatten().as_ref()));
    let written = write_json(arguments, &report);
    result.and(written)
}

async fn run(arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    // Fails only where a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    about(report);
    let stack = Selection::new(&arguments.pid, &arguments.patterns)?;
    let _started = match &arguments.start_command {
        Some(command) if arguments.wants(Measure::Start) => Some(start::measure(arguments, command, report).await?),
        _ => None,
    };
    if arguments.wants(Measure::Memory) {
        memory::measure(arguments, &stack, report).await;
    }
    if !arguments.wants(Measure::Pods) && !arguments.wants(Measure::Objects) {
        return Ok(());
    }
    let cluster = Cluster::new(&arguments.kubeconfig, arguments.timeout()).await?;
    let version = cluster.client()?.apiserver_version().await.context("asking the API server's version")?;
    report.about("server", version.git_version);
    if arguments.wants(Measure::Pods) {
        pods::measure(arguments, &cluster, &stack, report).await.context("pods")?;
    }
    if arguments.wants(Measure::Objects) {
        objects::measure(arguments, &cluster, &stack, report).await.context("objects")?;
    }
    Ok(())
}

/// What figures depend on beside the cluster.
fn about(report: &mut Report) {
    report.about("arguments", std::env::args().skip(1).collect::<Vec<_>>().join(" "));
    report.about("client build", if cfg!(debug_assertions) { "debug" } else { "release" });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    report.about("cores", cores.to_string());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.about("kernel", kernel.trim());
}

fn read_json(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))
}

fn write_json(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    let Some(path) = &arguments.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}
