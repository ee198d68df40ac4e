//! Starting the monitor's program.
//!
//! Must not know: what is said to it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::connection;
use crate::error::{Error, io};

/// The program, static and at fixed addresses; see `program/main.rs`.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/monitor"));

/// How often a start is tried whose cgroup vanished.
const TRIES: u32 = 5;

/// Starts a monitor that listens in `dir` and lives in `cgroups`; it serves when this returns.
pub(crate) fn start(dir: &Path, cgroups: &[PathBuf]) -> Result<(), Error> {
    // an empty cgroup of v1 is removed by systemd whenever its own units cease to need the controller: made, it may be
    // gone before it is joined
    let mut more = 1..TRIES;
    loop {
        match start_once(dir, cgroups) {
            Err(Error::Start(_)) if !all_there(cgroups) && more.next().is_some() => {}
            done => return done,
        }
    }
}

fn all_there(cgroups: &[PathBuf]) -> bool {
    cgroups.iter().all(|cgroup| cgroup.exists())
}

fn start_once(dir: &Path, cgroups: &[PathBuf]) -> Result<(), Error> {
    for cgroup in cgroups {
        fs::create_dir_all(cgroup).map_err(io(format!("make cgroup {}", cgroup.display())))?;
    }
    let program = sealed().map_err(io("keep the monitor's program in memory"))?;
    let listener = connection::listen(dir)?;
    let mut title = OsString::from("pintle-monitor ");
    title.push(dir.file_name().unwrap_or_default());
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0(title).arg(dir).args(cgroups).env_clear();
    command.stdin(listener).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output();
    drop(command);
    match output {
        Ok(output) if output.status.success() && output.stderr.is_empty() => Ok(()),
        failed => {
            // Nobody will ever listen there.
            let _ = fs::remove_file(dir.join(crate::SOCKET));
            let output = failed.map_err(io("run the monitor's program"))?;
            let text = String::from_utf8_lossy(&output.stderr);
            Err(Error::Start(format!("{} ({})", text.trim_end(), output.status)))
        }
    }
}

/// The program in memory, once for all monitors that this process starts: they share its pages, nothing can change it,
/// and no file system has to be executable or to outlive an upgrade.
fn sealed() -> io::Result<&'static OwnedFd> {
    static SEALED: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = SEALED.get() {
        return Ok(program);
    }
    let made = seal()?;
    Ok(SEALED.get_or_init(|| made))
}

fn seal() -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // `MFD_EXEC`; kernels before 6.3 do not know the flag, and need none.
    let executable = MFdFlags::from_bits_retain(0x10);
    let memory =
        memfd_create(c"pintle-monitor", flags | executable).or_else(|_| memfd_create(c"pintle-monitor", flags))?;
    let mut file = fs::File::from(memory);
    file.write_all(PROGRAM)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}
