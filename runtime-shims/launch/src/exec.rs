//! `exec`: a further process in a running container, as confined as its init.
//!
//! It joins the init's cgroups in every hierarchy and all its namespaces at once by pidfd, the user namespace included,
//! and loads the container's own seccomp filter; the rest is the process's specification.
//! Must not know: how the container was made.

use std::convert::Infallible;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::setsid;
use oci_spec::runtime::Process;

use crate::cgroup::{Cgroup, plan::Version};
use crate::create::{between, console, write_pid};
use crate::join;
use crate::process::seccomp::Filter;
use crate::process::{self, console as terminal};
use crate::report::Report;
use crate::state::{Folder, State};
use crate::sys::clone::{Birth, Child};
use crate::sys::pipe::Talk;

/// What `exec` is told.
#[derive(clap::Args, Debug)]
pub struct Exec {
    /// The process, as in an OCI specification
    #[arg(short, long, value_name = "FILE")]
    process: PathBuf,
    /// A socket that gets the terminal of a process with one
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// A file that gets the process's number
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Return once it runs, instead of with its exit code
    #[arg(short, long)]
    detach: bool,
    /// The container's ID
    id: String,
}

/// What the new process inherits.
struct Entrant<'a> {
    process: &'a Process,
    filter: Option<&'a Filter>,
    in_users: bool,
    console: Option<UnixStream>,
    /// The host's /proc.
    proc: OwnedFd,
}

/// Runs a process in a container.
pub fn exec(root: &Path, order: &Exec, report: &Report) -> Result<ExitCode> {
    let folder = Folder::of(root, &order.id)?;
    let state = folder.load()?;
    let init = state.init().context("cannot exec in a stopped container")?;
    let cgroup = Cgroup::at(&state.cgroup)?;
    ensure!(!cgroup.frozen(), "cannot exec in a paused container");
    let process = read_process(&order.process)?;
    let filter = read_filter(&folder)?;
    let flags = join::differing(state.pid)?;
    let entrant = Entrant {
        process: &process,
        filter: filter.as_ref(),
        in_users: flags & libc::CLONE_NEWUSER != 0,
        console: console(order.console_socket.as_deref(), process.terminal().unwrap_or(false))?,
        proc: open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("cannot open /proc")?,
    };
    let (mut here, there) = Talk::pair().context("cannot make a pair of sockets")?;
    let way = || join::set(init.as_fd(), flags).context("cannot join the container's namespaces");
    let born_in = birthplace(&cgroup, &state);
    let child = between(&cgroup, born_in.as_deref(), way, Birth::default(), |talk| entrant.run(talk), there)?;
    let started =
        start(&child, &process, &mut here, report).and_then(|()| write_pid(order.pid_file.as_deref(), child.pid));
    if started.is_err() {
        child.end();
    }
    started?;
    if order.detach { Ok(ExitCode::SUCCESS) } else { wait(&child) }
}

fn start(child: &Child, process: &Process, talk: &mut Talk, report: &Report) -> Result<()> {
    talk.wait()?;
    process::prepare(child.pid.as_raw(), process, report)?;
    talk.fine()?;
    talk.end()
}

fn read_process(path: &Path) -> Result<Process> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no OCI process", path.display()))
}

/// The filter the container was created with: missing where its specification has one, exec must fail.
fn read_filter(folder: &Folder) -> Result<Option<Filter>> {
    match fs::read(folder.filter()) {
        Ok(bytes) => Filter::from_bytes(&bytes).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let filtered = folder.spec()?.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
            ensure!(!filtered, "the container's seccomp filter is lost");
            Ok(None)
        }
        Err(error) => Err(error).context("cannot read the container's seccomp filter"),
    }
}

/// Where in v2 the process is born: the container's cgroup or, where its init made cgroups of its own below (then none
/// may live in the cgroup itself), the init's. None on a host of v1, and for a container of a hybrid one that an earlier
/// version of this program made.
fn birthplace(cgroup: &Cgroup, state: &State) -> Option<PathBuf> {
    let own = cgroup.unified_folder().filter(|own| cgroup.version() == Version::V2 || own.is_dir())?;
    if !cgroup.passes_controllers() {
        return Some(own);
    }
    let text = fs::read_to_string(format!("/proc/{}/cgroup", state.pid)).unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    match Path::new(path).strip_prefix(&state.cgroup) {
        Ok(below) => Some(own.join(below)),
        Err(_) => Some(own),
    }
}

impl Entrant<'_> {
    fn run(self, talk: &mut Talk) -> Result<Infallible> {
        if self.in_users {
            join::become_root()?;
        }
        setsid().context("cannot begin a session")?;
        talk.fine()?;
        talk.wait()?;
        if let Some(socket) = &self.console {
            let (master, slave) = terminal::make(terminal::devpts()?.as_fd(), self.process)?;
            terminal::send(socket, master.as_fd())?;
            terminal::take(slave.as_fd())?;
        }
        drop(self.console);
        let ready = process::confine(self.process, self.filter, self.proc, &[talk.as_raw_fd()])?;
        Err(ready.exec())
    }
}

/// The process's own exit code; 128 and the signal's number where one ended it.
fn wait(child: &Child) -> Result<ExitCode> {
    loop {
        let code = match waitpid(child.pid, None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("cannot wait for the process"),
        };
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
    }
}
