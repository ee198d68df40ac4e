//! The command line, compatible with runc's where runc has the call.
//!
//! Must not know: how any call is carried out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::pin;
use crate::report::{Format, Report};

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
}

#[derive(Subcommand)]
enum Command {
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

/// Carries a call out.
pub fn run(call: Call, _report: &Report) -> Result<ExitCode> {
    match call.command {
        Command::Namespaces(namespaces) => pin::pin(&namespaces).map(|()| ExitCode::SUCCESS),
    }
}
