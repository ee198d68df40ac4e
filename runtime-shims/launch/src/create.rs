//! `create`: the launcher's side, with the host's rights.
//!
//! It claims the ID, makes the cgroup, prepares mounts, and starts a short-lived child that joins namespaces and makes
//! the init there as the launcher's own child. What fails is undone.
//! Must not know: what the init does in the container (`init`).

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::cgroup::place::{self, Holder, Place};
use crate::cgroup::plan;
use crate::cgroup::{Cgroup, devices};
use crate::init::{self, Init};
use crate::join::{self, Namespaces};
use crate::process::filters;
use crate::process::seccomp::Filter;
use crate::report::{Report, utc};
use crate::rootfs::sources;
use crate::state::{Folder, State, Status, began, read_spec};
use crate::sys::clone::{Birth, Child, pidfd, spawn};
use crate::sys::pipe::Talk;
use crate::{hooks, process};

/// What `create` is told.
#[derive(clap::Args, Debug)]
pub struct Create {
    /// The bundle: a folder with config.json and the root
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// A socket that gets the terminal of a process with one
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// A file that gets the process's number
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// A mount namespace to make the container's from, instead of the host's; of no use to hooks that run in the container's
    #[arg(long, value_name = "FILE")]
    mounts: Option<PathBuf>,
    /// The container's ID
    id: String,
}

/// What there is to undo.
struct Made {
    folder: Folder,
    cgroup: Option<Cgroup>,
    /// A unit of systemd's, and what keeps it until the init is in it.
    unit: Option<String>,
    holder: Option<Holder>,
    init: Option<Child>,
}

/// Creates a container. Its init waits for `start`.
pub fn create(root: &Path, order: &Create, systemd: bool, report: &Report) -> Result<()> {
    let bundle = order.bundle.canonicalize().with_context(|| format!("cannot find {}", order.bundle.display()))?;
    let config = bundle.join("config.json");
    let spec = read_spec(&config)?;
    let folder = Folder::of(root, &order.id)?;
    folder.claim()?;
    let place = Place::of(&spec, &order.id, systemd);
    let mut made = Made { folder, cgroup: None, unit: None, holder: None, init: None };
    let done = place.and_then(|place| made.make(order, &spec, &bundle, &place, report));
    if done.is_err() {
        made.undo(report);
    }
    done
}

impl Made {
    fn make(&mut self, order: &Create, spec: &Spec, bundle: &Path, place: &Place, report: &Report) -> Result<()> {
        let linux = spec.linux().as_ref().context("the specification has no linux part")?;
        let root = spec.root().as_ref().context("the specification names no root")?.path();
        let rootfs =
            bundle.join(root).canonicalize().with_context(|| format!("cannot find the root {}", root.display()))?;
        let process = spec.process().as_ref().context("the specification has no process")?;
        fs::copy(bundle.join("config.json"), self.folder.config()).context("cannot keep the specification")?;
        let above = self.folder.path().parent().unwrap_or(Path::new("/"));
        let filter = linux.seccomp().as_ref().map(|profile| filters::of(profile, above)).transpose()?;
        keep_filter(&self.folder, filter.as_ref())?;
        let cgroup = Cgroup::at(&place.path)?;
        self.make_cgroup(&cgroup, place, spec, report)?;
        let hooks_inside = spec.hooks().as_ref().and_then(|hooks| hooks.create_container().as_ref());
        // their programs are the host's
        let mounts = order.mounts.as_deref().filter(|_| hooks_inside.is_none_or(Vec::is_empty));
        let namespaces = join::open(linux, mounts)?;
        let sources = sources::prepare(spec, bundle, &rootfs, namespaces.users.as_ref().map(AsFd::as_fd), &cgroup)?;
        let (mut here, there) = Talk::pair().context("cannot make a pair of sockets")?;
        let init = Init {
            spec,
            process,
            filter: filter.as_ref(),
            sources: &sources,
            namespaces: &namespaces,
            console: console(order.console_socket.as_deref(), process.terminal().unwrap_or(false))?,
            listener: listen(&self.folder)?,
            proc: open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("cannot open /proc")?,
            state: document(&order.id, bundle, spec, Status::Created, 0),
        };
        let birth = Birth { flags: namespaces.new as u64, cgroup: None };
        let init = enter(&cgroup, &namespaces, birth, |talk| init::run(init, talk), there)?;
        let pid = self.init.insert(init).pid;
        here.wait()?;
        process::prepare(pid.as_raw(), process, report)?;
        self.run_hooks(spec, &document(&order.id, bundle, spec, Status::Created, pid.as_raw()))?;
        here.fine()?;
        here.wait()?;
        let state = state(&order.id, bundle, &rootfs, spec, pid, place)?;
        self.folder.save(&state)?;
        write_pid(order.pid_file.as_deref(), pid)
    }

    fn make_cgroup(&mut self, cgroup: &Cgroup, place: &Place, spec: &Spec, report: &Report) -> Result<()> {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let settings = resources.map(|resources| plan::settings(resources, cgroup.version())).transpose()?;
        let mut settings = settings.unwrap_or_default();
        let devices = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
        let devices = devices::rules(devices)?;
        self.cgroup = Some(cgroup.clone());
        if let Some(scope) = &place.scope {
            place::round(&mut settings);
            self.unit = Some(scope.unit.clone());
            self.holder = Some(place::start(scope, cgroup, &settings, &devices)?);
        }
        cgroup.make()?;
        cgroup.restrict_devices(&devices)?;
        cgroup.limit(&settings, report)
    }

    fn run_hooks(&self, spec: &Spec, state: &Value) -> Result<()> {
        let Some(all) = spec.hooks() else { return Ok(()) };
        #[allow(deprecated)] // upstream's name for what CDI still writes
        hooks::run(all.prestart().as_ref(), state)?;
        hooks::run(all.create_runtime().as_ref(), state)
    }

    fn undo(&mut self, report: &Report) {
        if let Some(init) = &self.init {
            init.end();
        }
        self.holder = None;
        if let Some(Err(error)) = self.unit.as_deref().map(place::stop) {
            report.warning(&format!("{error:#}"));
        }
        if let Some(Err(error)) = self.cgroup.as_ref().map(Cgroup::remove) {
            report.warning(&format!("{error:#}"));
        }
        if let Err(error) = self.folder.remove() {
            report.warning(&format!("{error:#}"));
        }
    }
}

fn keep_filter(folder: &Folder, filter: Option<&Filter>) -> Result<()> {
    let Some(filter) = filter else { return Ok(()) };
    fs::write(folder.filter(), filter.bytes()).context("cannot keep the seccomp filter")
}

/// A child in the cgroup and namespaces, which is this process's own. The process between ends at once.
pub fn enter(
    cgroup: &Cgroup,
    namespaces: &Namespaces,
    birth: Birth<'_>,
    body: impl FnOnce(&mut Talk) -> Result<std::convert::Infallible>,
    talk: Talk,
) -> Result<Child> {
    between(cgroup, cgroup.unified_folder().as_deref(), || namespaces.enter(), birth, body, talk)
}

/// As `enter`, by any way into the namespaces; `born_in` is where in the hierarchy of v2 the child is born.
pub fn between(
    cgroup: &Cgroup,
    born_in: Option<&Path>,
    way: impl FnOnce() -> Result<()>,
    birth: Birth<'_>,
    body: impl FnOnce(&mut Talk) -> Result<std::convert::Infallible>,
    mut talk: Talk,
) -> Result<Child> {
    let born_in = born_in.map(File::open).transpose().context("cannot open the cgroup")?;
    let (mut here, mut there) = Talk::pair().context("cannot make a pair of sockets")?;
    let middle = Birth { flags: 0, cgroup: born_in.as_ref().map(AsFd::as_fd) };
    let child = spawn(middle, || {
        let made = (|| {
            cgroup.join()?;
            way()?;
            let birth = Birth { flags: birth.flags | libc::CLONE_PARENT as u64, ..birth };
            spawn(birth, || ending(body, &mut talk)).context("cannot make a process in the container's namespaces")
        })();
        match made {
            Ok(child) => i32::from(there.tell(child.pid.as_raw()).is_err()),
            Err(error) => {
                there.failed(&error);
                1
            }
        }
    });
    let child = child.context("cannot make a process in the cgroup")?;
    // its copy is the only one: if it is killed, nobody waits for its word
    drop(there);
    let number = here.told();
    let pid = match waitpid(child.pid, None) {
        // nobody else kills it; runc's words
        Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) if number.is_err() => {
            bail!("the process in the container's cgroup was OOM-killed (memory limit too low?)")
        }
        _ => Pid::from_raw(number?),
    };
    Ok(Child { pid, pidfd: pidfd(pid).context("the container's process is gone")? })
}

fn ending(body: impl FnOnce(&mut Talk) -> Result<std::convert::Infallible>, talk: &mut Talk) -> i32 {
    talk.leave_other();
    match body(talk) {
        Ok(never) => match never {},
        Err(error) => {
            talk.failed(&error);
            1
        }
    }
}

/// The console socket, connected; a terminal needs one.
pub fn console(path: Option<&Path>, terminal: bool) -> Result<Option<UnixStream>> {
    match (path, terminal) {
        (Some(path), true) => Ok(Some(
            UnixStream::connect(path).with_context(|| format!("cannot reach the console socket {}", path.display()))?,
        )),
        (None, true) => bail!("cannot allocate tty if runc will detach without setting console socket"),
        (Some(_), false) => bail!("cannot use console socket if runc will not detach or allocate tty"),
        (None, false) => Ok(None),
    }
}

fn listen(folder: &Folder) -> Result<OwnedFd> {
    let path = short(folder)?;
    Ok(UnixListener::bind(&path.1).context("cannot make the socket that start uses")?.into())
}

/// The start socket by a path short enough for a socket's address, valid while the fd is open.
pub fn short(folder: &Folder) -> Result<(OwnedFd, PathBuf)> {
    let fd = open(folder.path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .context("cannot open the container's folder")?;
    let path = format!("/proc/self/fd/{}/start.sock", std::os::fd::AsRawFd::as_raw_fd(&fd));
    Ok((fd, path.into()))
}

fn state(id: &str, bundle: &Path, rootfs: &Path, spec: &Spec, init: Pid, place: &Place) -> Result<State> {
    Ok(State {
        id: id.to_owned(),
        bundle: bundle.to_owned(),
        rootfs: rootfs.to_owned(),
        pid: init.as_raw(),
        began: began(init).context("the init is gone")?,
        created: utc(SystemTime::now()),
        cgroup: place.path.clone(),
        unit: place.scope.as_ref().map(|scope| scope.unit.clone()),
        annotations: spec.annotations().clone().unwrap_or_default(),
        oci_version: spec.version().clone(),
    })
}

/// The state that the OCI specification gives to hooks and prints.
pub fn document(id: &str, bundle: &Path, spec: &Spec, status: Status, pid: i32) -> Value {
    json!({ "ociVersion": spec.version(), "id": id, "status": status, "pid": pid, "bundle": bundle,
            "annotations": spec.annotations().clone().unwrap_or_default() })
}

/// Writes a process's number so that a reader sees all of it or no file.
pub fn write_pid(path: Option<&Path>, pid: Pid) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
