//! The last steps of a container's process, its init or an exec: it gives up everything the specification does not
//! name, and becomes its program.
//!
//! Must not know: how it got into the container.

pub mod capabilities;
pub mod console;
pub mod filters;
pub mod seccomp;

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, Gid, Uid, chdir, faccessat, fchown, getcwd, setgroups, setresgid, setresuid};
use oci_spec::runtime::{PosixRlimit, Process};

use crate::init::close_but;
use crate::report::Report;
use crate::rootfs::is_null;
use crate::sys::check;
use capabilities::prctl;
use seccomp::Filter;

/// No longer part of a passwd file is looked at.
const PASSWD: u64 = 1 << 20;

/// What the launcher sets of a process from outside, with the host's rights.
pub fn prepare(pid: i32, process: &Process, report: &Report) -> Result<()> {
    if let Some(score) = process.oom_score_adj()
        && let Err(error) = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
    {
        // lowering it needs CAP_SYS_RESOURCE, which not every host gives
        report.warning(&format!("oom_score_adj {score} is not set: {error}"));
    }
    process.rlimits().iter().flatten().try_for_each(|limit| set_limit(pid, limit))
}

fn set_limit(pid: i32, limit: &PosixRlimit) -> Result<()> {
    let kind = limit_kind(&limit.typ().to_string())?;
    let value = libc::rlimit64 { rlim_cur: limit.soft(), rlim_max: limit.hard() };
    // SAFETY: the kernel reads one rlimit64 and writes none.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, kind, &raw const value, std::ptr::null::<libc::rlimit64>())
    })
    .map(drop)
    .with_context(|| format!("cannot set {} to {}:{}", limit.typ(), limit.soft(), limit.hard()))
}

fn limit_kind(name: &str) -> Result<libc::c_uint> {
    Ok(match name {
        "RLIMIT_CPU" => 0,
        "RLIMIT_FSIZE" => 1,
        "RLIMIT_DATA" => 2,
        "RLIMIT_STACK" => 3,
        "RLIMIT_CORE" => 4,
        "RLIMIT_RSS" => 5,
        "RLIMIT_NPROC" => 6,
        "RLIMIT_NOFILE" => 7,
        "RLIMIT_MEMLOCK" => 8,
        "RLIMIT_AS" => 9,
        "RLIMIT_LOCKS" => 10,
        "RLIMIT_SIGPENDING" => 11,
        "RLIMIT_MSGQUEUE" => 12,
        "RLIMIT_NICE" => 13,
        "RLIMIT_RTPRIO" => 14,
        "RLIMIT_RTTIME" => 15,
        _ => bail!("unknown limit {name}"),
    })
}

/// A process that is confined but for what its last system calls need.
#[derive(Debug)]
pub struct Ready<'a> {
    process: &'a Process,
    filter: Option<&'a Filter>,
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// Becomes the user, with the labels, limits and folder asked for. `proc` is the host's /proc; every fd but the standard
/// ones and `keep` is closed.
///
/// # Errors
/// In runc's words where the program cannot be found.
pub fn confine<'a>(
    process: &'a Process,
    filter: Option<&'a Filter>,
    proc: OwnedFd,
    keep: &[RawFd],
) -> Result<Ready<'a>> {
    label(process, proc.as_fd())?;
    drop(proc);
    stdio(process)?;
    // before any path of the specification is followed: none may lead through an fd to the host
    close_but(keep)?;
    umask(Mode::from_bits_truncate(process.user().umask().unwrap_or(0o022)));
    capabilities::bound(capabilities::sets(process.capabilities().as_ref()))?;
    capabilities::keep()?;
    let early = chdir(process.cwd());
    become_user(process)?;
    capabilities::raise_all()?;
    if let Err(error) = early {
        // what root may not enter, its owner may (NFS, FUSE)
        ensure!(matches!(error, Errno::EACCES | Errno::EPERM), "cannot enter {}: {error}", process.cwd().display());
        chdir(process.cwd()).with_context(|| format!("cannot enter {}", process.cwd().display()))?;
    }
    // a folder of the host's, kept by an fd, would have no path from here
    let here = getcwd().context("the working folder is outside the container")?;
    ensure!(here.is_absolute(), "the working folder is outside the container");
    let environment = environment(process)?;
    let arguments = process.args().as_deref().unwrap_or_default();
    let name = arguments.first().context("a process needs arguments")?;
    Ok(Ready {
        process,
        filter,
        program: find(name, &environment)?,
        arguments: arguments.iter().map(text).collect::<Result<_>>()?,
        environment: environment.iter().map(text).collect::<Result<_>>()?,
    })
}

fn text(text: impl AsRef<OsStr>) -> Result<CString> {
    CString::new(text.as_ref().as_bytes()).context("a NUL byte in an argument or the environment")
}

fn become_user(process: &Process) -> Result<()> {
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|group| Gid::from_raw(*group)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setgroups(&groups).with_context(|| format!("cannot set the groups {groups:?}"))?;
    setresgid(gid, gid, gid).with_context(|| format!("cannot become group {gid}"))?;
    setresuid(uid, uid, uid).with_context(|| format!("cannot become user {uid}"))
}

/// Labels of the program to come, from AppArmor and SELinux. A label the kernel cannot give is an error.
fn label(process: &Process, proc: BorrowedFd<'_>) -> Result<()> {
    if let Some(profile) = process.apparmor_profile().as_ref().filter(|profile| !profile.is_empty()) {
        let value = format!("exec {profile}");
        write_attribute(proc, "self/attr/apparmor/exec", &value)
            .or_else(|_| write_attribute(proc, "self/attr/exec", &value))
            .with_context(|| format!("cannot apply the AppArmor profile {profile:?}"))?;
    }
    if let Some(label) = process.selinux_label().as_ref().filter(|label| !label.is_empty()) {
        write_attribute(proc, "self/attr/exec", label)
            .with_context(|| format!("cannot apply the SELinux label {label:?}"))?;
    }
    Ok(())
}

fn write_attribute(proc: BorrowedFd<'_>, path: &str, value: &str) -> Result<()> {
    use nix::fcntl::{OFlag, openat};
    let file = openat(proc, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(File::from(file).write_all(value.as_bytes())?)
}

/// The container's own null device instead of the host's, and what it may open again by name belongs to its user.
fn stdio(process: &Process) -> Result<()> {
    for number in 0..3 {
        // SAFETY: looked at only here; a closed fd gives an error.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        if is_null(fd).unwrap_or(false) {
            reopen_null(number)?;
        } else {
            // a read-only file system and the like are no reason to fail
            let _ = fchown(fd, Some(Uid::from_raw(process.user().uid())), None);
        }
    }
    Ok(())
}

fn reopen_null(number: RawFd) -> Result<()> {
    let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") else { return Ok(()) };
    ensure!(is_null(null.as_fd())?, "the container's /dev/null is not the null device");
    // SAFETY: both are fds; the standard ones are owned by nobody.
    check(unsafe { libc::dup2(null.as_raw_fd(), number) }.into()).map(drop).context("cannot replace /dev/null")
}

/// The environment as asked for, the last of a name winning, with HOME from the container's passwd if none is given.
fn environment(process: &Process) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for one in process.env().iter().flatten() {
        let name = one.split('=').next().unwrap_or_default();
        ensure!(one.contains('='), "invalid environment variable {one:?}");
        all.retain(|other| other.split('=').next() != Some(name));
        all.push(one.clone());
    }
    if !all.iter().any(|one| one.starts_with("HOME=")) {
        all.push(format!("HOME={}", home(process.user().uid())));
    }
    Ok(all)
}

fn home(uid: u32) -> String {
    let mut passwd = String::new();
    let plain = fs::metadata("/etc/passwd").is_ok_and(|passwd| passwd.is_file());
    if plain && let Ok(file) = File::open("/etc/passwd") {
        let _ = file.take(PASSWD).read_to_string(&mut passwd);
    }
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let own = passwd.lines().map(fields).find(|line| line.get(2).and_then(|id| id.parse().ok()) == Some(uid));
    own.and_then(|line| line.get(5).cloned()).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned())
}

/// The program's path: itself if it has a slash, else the first in PATH that can be run.
fn find(name: &str, environment: &[String]) -> Result<CString> {
    if name.contains('/') {
        runnable(Path::new(name)).map_err(|error| anyhow::anyhow!("exec: {name:?}: {error}"))?;
        return text(name);
    }
    let path = environment.iter().find_map(|one| one.strip_prefix("PATH=")).unwrap_or_default();
    let folders = path.split(':').map(|folder| if folder.is_empty() { "." } else { folder });
    let found: Option<PathBuf> = folders.map(|folder| Path::new(folder).join(name)).find(|path| runnable(path).is_ok());
    match found.filter(|_| !name.is_empty()) {
        Some(path) => text(path),
        None => bail!("exec: {name:?}: executable file not found in $PATH"),
    }
}

fn runnable(path: &Path) -> Result<()> {
    let there = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!("stat {}: no such file or directory", path.display()),
        _ => anyhow::anyhow!("stat {}: {error}", path.display()),
    })?;
    ensure!(!there.is_dir(), "is a directory");
    ensure!(!there.file_type().is_socket() && there.permissions().mode() & 0o111 != 0, "permission denied");
    faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
        .map_err(|_| anyhow::anyhow!("permission denied"))
}

impl Ready<'_> {
    /// Gives up the rest and becomes the program. Returns only with an error.
    pub fn exec(self) -> anyhow::Error {
        match self.try_exec() {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn try_exec(self) -> Result<std::convert::Infallible> {
        let sets = capabilities::sets(self.process.capabilities().as_ref());
        let no_new_privileges = self.process.no_new_privileges().unwrap_or(false);
        default_signals()?;
        // SAFETY: marks every fd but the standard ones, whoever owns them; they are all closed by the exec.
        check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
            .context("cannot mark fds to be closed")?;
        if no_new_privileges {
            prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).context("cannot set no_new_privs")?;
            capabilities::drop_to(sets)?;
            self.filter.map(Filter::load).transpose()?;
        } else {
            // loading a filter needs a capability that goes right after it
            self.filter.map(Filter::load).transpose()?;
            capabilities::drop_to(sets)?;
        }
        let error = match nix::unistd::execve(&self.program, &self.arguments, &self.environment) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        bail!("exec {}: {}", self.program.to_string_lossy(), error.desc().to_lowercase())
    }
}

/// No signal is blocked or ignored, whatever the caller's were (Rust ignores SIGPIPE).
fn default_signals() -> Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(signal, &default) }.with_context(|| format!("cannot reset {signal}"))?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).context("cannot unblock signals")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_or_named_as_runc_does() {
        let environment = ["PATH=/nowhere:/bin".to_owned()];
        assert_eq!(find("sh", &environment).unwrap().to_str(), Ok("/bin/sh"));
        let error = |name| find(name, &environment).unwrap_err().to_string();
        assert_eq!(error("no-such"), "exec: \"no-such\": executable file not found in $PATH");
        assert_eq!(error("/no/such"), "exec: \"/no/such\": stat /no/such: no such file or directory");
        assert_eq!(error("/etc"), "exec: \"/etc\": is a directory");
        assert_eq!(error("/etc/passwd"), "exec: \"/etc/passwd\": permission denied");
    }
}
