//! The command line, compatible with runc's where runc has the call.
//!
//! Must not know: how any call is carried out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::report::{Format, Report};
use crate::{create, exec, features, life, pin, sealed};

/// One call.
#[derive(Parser)]
#[command(name = "pintle launch", about = "An OCI runtime: the command line is runc's", disable_version_flag = true)]
pub struct Call {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every call takes.
#[derive(Args)]
pub struct Global {
    /// Where the containers' state is kept (tmpfs: it must not outlive a boot)
    #[arg(long, value_name = "DIR", default_value = "/run/pintle/runtime/launch")]
    pub root: PathBuf,
    /// A file that errors and warnings are appended to
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The form of that file
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
    /// Have systemd make the cgroup of a new container; cgroupsPath is then slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Create a container; its program waits for start
    Create(create::Create),
    /// Run a created container's program
    Start { id: String },
    /// Run a further process in a container
    Exec(exec::Exec),
    /// Print a container's state
    State { id: String },
    /// Send a signal to a container's init
    Kill {
        /// To every process of the container
        #[arg(short, long)]
        all: bool,
        id: String,
        #[arg(default_value = "SIGTERM")]
        signal: String,
    },
    /// Remove what is left of a container
    Delete {
        /// Kill it first if it runs
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// Freeze a container's processes
    Pause { id: String },
    /// Thaw them
    Resume { id: String },
    /// Change a container's limits
    Update {
        /// A file of OCI resources; - is stdin
        #[arg(short, long, value_name = "FILE")]
        resources: PathBuf,
        id: String,
    },
    /// Print what this runtime can do
    Features,
    /// Make namespaces of a sandbox and pin them as files
    Namespaces(pin::Namespaces),
}

/// The call that `arguments` (program name first) spell, or the exit code after help or an error was printed.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Call, ExitCode> {
    Call::try_parse_from(arguments).map_err(|error| {
        let shown = error.print();
        let failed = error.use_stderr() || shown.is_err();
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}

/// Carries a call out. Those that enter a container do so from a program that the container cannot change.
pub fn run(call: Call, report: &Report) -> Result<ExitCode> {
    let root = call.global.root.as_path();
    let done = match &call.command {
        Command::Create(order) => {
            sealed::ensure_sealed().and_then(|()| create::create(root, order, call.global.systemd_cgroup, report))
        }
        Command::Start { id } => life::start(root, id, report),
        Command::Exec(order) => return sealed::ensure_sealed().and_then(|()| exec::exec(root, order, report)),
        Command::State { id } => life::state(root, id),
        Command::Kill { id, signal, all } => life::kill(root, id, signal, *all),
        Command::Delete { id, force } => life::delete(root, id, *force, report),
        Command::Pause { id } => life::freeze(root, id, true),
        Command::Resume { id } => life::freeze(root, id, false),
        Command::Update { id, resources } => life::update(root, id, resources, report),
        Command::Features => features::print(),
        Command::Namespaces(namespaces) => pin::pin(namespaces),
    };
    done.map(|()| ExitCode::SUCCESS)
}
