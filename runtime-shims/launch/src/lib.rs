//! An OCI runtime: one container, one call, one throwaway process.
//!
//! The command line is runc's, so that runc and crun can stand in for it; `namespaces` alone is ours.
//! Must not know: CRI, pods, images, who calls.

pub mod apparmor;
mod bare;
mod cgroup;
mod cli;
mod create;
mod exec;
mod features;
mod hooks;
mod init;
mod join;
mod life;
mod mapped;
mod pin;
mod process;
mod report;
mod rootfs;
mod sealed;
pub mod selinux;
mod state;
mod sys;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

pub use bare::mounts as bare_mounts;
pub use mapped::Mapped;
pub use sealed::program as sealed_program;

/// Runs one call of the OCI command line. `arguments` begins with the program's name.
///
/// Must be called before the process has a second thread: it forks and enters namespaces. Errors go to stderr as one
/// line and, where `--log` names a file, there too (JSON lines with `level` and `msg`, as runc writes them).
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let call = match cli::parse(arguments) {
        Ok(call) => call,
        Err(code) => return code,
    };
    let report = report::Report::to(call.global.log.as_deref(), call.global.log_format);
    match cli::run(call, &report) {
        Ok(code) => code,
        Err(error) => {
            report.error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// `start`, in the caller's own process: it only speaks with the init that waits. Blocks until the container's program runs.
///
/// # Errors
/// There is no such container, it does not wait for its start, or its program cannot be run.
pub fn start(root: &Path, id: &str) -> anyhow::Result<()> {
    life::start(root, id, &in_process())
}

/// `delete --force`, in the caller's own process: it enters nothing. Blocks until the container's processes are gone.
///
/// # Errors
/// Processes that do not end, cgroups or files that cannot be removed.
pub fn delete(root: &Path, id: &str) -> anyhow::Result<()> {
    life::delete(root, id, true, &in_process())
}

fn in_process() -> report::Report {
    report::Report::to(None, report::Format::default())
}
