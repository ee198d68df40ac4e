//! An OCI runtime: one container, one call, one throwaway process.
//!
//! The command line is runc's, so that runc and crun can stand in for it; `namespaces` alone is ours.
//! Must not know: CRI, pods, images, who calls.

mod cgroup;
mod cli;
mod create;
mod exec;
mod features;
mod hooks;
mod init;
mod join;
mod life;
mod pin;
mod process;
mod report;
mod rootfs;
mod sealed;
mod state;
mod sys;

use std::ffi::OsString;
use std::process::ExitCode;

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
