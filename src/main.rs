//! `pintle`: Kubernetes for a Linux host in one program. A file per subcommand; this one only chooses.
//!
//! Must not know: what any subcommand does.

mod config;
mod containerd;
mod cri;
mod detach;
mod down;
mod host;
mod identity;
mod images;
mod machine;
mod native;
mod parts;
mod preflight;
mod progress;
mod reset;
mod runtime;
mod runtime_benchmark;
mod runtime_conformance;
mod units;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use config::{Config, Settings};

/// Kubernetes for a Linux host in one program.
#[derive(Parser)]
#[command(
    name = "pintle",
    version,
    after_help = "Examples:\n  pintle up                         a cluster on this machine, in the foreground\n  \
                  pintle up --detach                the same, in the background\n  \
                  pintle up --secure-port 7443      at another port\n  \
                  pintle down                       stop the cluster and its pods, keep its state\n  \
                  pintle reset --yes                remove every trace of it"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster on this machine: control plane, node, network
    #[command(after_help = "Stopping it (Ctrl-C, SIGTERM) leaves containers running; the next start takes them over.")]
    Up(Up),
    /// Stop the cluster and its pods; state, images and certificates are kept
    Down(Common),
    /// List, pull, import, export and remove the images of the embedded runtime
    Images(images::Images),
    /// Remove every trace: containers, links, rules, cgroups, files
    Reset(Reset),
    /// Run the container runtime alone, for any kubelet or crictl
    Runtime(runtime::Settings),
    /// Test a container runtime: does it do what kubelets rely on?
    RuntimeConformance(runtime_conformance::Settings),
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    common: Common,
    /// Return once the cluster is ready, and leave it running in the background
    #[arg(long)]
    detach: bool,
    /// What is logged, in the syntax of RUST_LOG
    #[arg(long, default_value = "info,h2=warn,hyper=warn,tower=warn", value_name = "FILTER")]
    log: String,
    /// Log as JSON
    #[arg(long)]
    log_json: bool,
}

#[derive(Args)]
struct Reset {
    #[command(flatten)]
    common: Common,
    /// Really do it
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
struct Common {
    /// A configuration file [default: /etc/pintle/config.yaml, where it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Common {
    fn resolve(self) -> anyhow::Result<Config> {
        self.settings.over_file(self.config.as_deref())?.resolve(&machine::identify())
    }
}

fn main() -> ExitCode {
    // containerd calls the CNI plugin by its name; the program is the same
    if let Some(code) = pintle_cni::plugin::invoked() {
        return code;
    }
    // an OCI runtime enters namespaces: before any thread, and before anything else is set up
    if let Some(call) = launch_call() {
        return pintle_launch::main(call);
    }
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pintle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments of `pintle launch …`, program name first; None for every other subcommand.
fn launch_call() -> Option<impl Iterator<Item = OsString>> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    (arguments.next()? == "launch").then(|| std::iter::once(program).chain(arguments))
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Up(up) if up.detach => detach::run(&up.common.resolve()?),
        Command::Up(up) => {
            let config = up.common.resolve()?;
            pintle_daemon::telemetry::install(&up.log, up.log_json)?;
            runtime()?.block_on(up::run(config))
        }
        Command::Down(common) => runtime()?.block_on(down::run(&common.resolve()?)),
        Command::Images(images) => runtime()?.block_on(images::run(images)),
        Command::Runtime(settings) => {
            pintle_daemon::telemetry::install(&settings.log, false)?;
            runtime()?.block_on(runtime::run(settings))
        }
        Command::RuntimeConformance(settings) => {
            let passed = runtime()?.block_on(runtime_conformance::run(settings))?;
            return Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Reset(reset) => runtime()?.block_on(reset::run(&reset.common.resolve()?, reset.yes)),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
