//! The calls on a container that is there: start, state, kill, delete, pause, resume, update.
//!
//! Must not know: how it was made.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use oci_spec::runtime::LinuxResources;
use serde_json::json;

use crate::cgroup::place::{self, Place};
use crate::cgroup::{Cgroup, plan};
use crate::create::{document, short};
use crate::report::Report;
use crate::state::{Folder, State, Status, ended, signal_number};
use crate::sys::clone;
use crate::{hooks, init};

/// How long a killed init may take to end.
const ENDING: u16 = 10_000;

fn status(folder: &Folder, state: &State) -> Result<Status> {
    let status = folder.status(state);
    let frozen = status == Status::Running && Cgroup::at(&state.cgroup)?.frozen();
    Ok(if frozen { Status::Paused } else { status })
}

/// Lets a created container's program run; fails as its exec does.
pub fn start(root: &Path, id: &str, report: &Report) -> Result<()> {
    let folder = Folder::of(root, id)?;
    let state = folder.load()?;
    match folder.status(&state) {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        _ => bail!("cannot start an already running container"),
    }
    let (_fd, path) = short(&folder)?;
    let connection = UnixStream::connect(&path).context("the container's init does not wait for its start")?;
    let started = init::answer(connection);
    let _ = fs::remove_file(folder.socket());
    started?;
    let spec = folder.spec()?;
    let document = document(id, &state.bundle, &spec, Status::Running, state.pid);
    // the program runs: too late to fail
    if let Some(Err(error)) = spec.hooks().as_ref().map(|all| hooks::run(all.poststart().as_ref(), &document)) {
        report.warning(&format!("{error:#}"));
    }
    Ok(())
}

/// Prints the state as the OCI specification has it, with runc's further fields.
pub fn state(root: &Path, id: &str) -> Result<()> {
    let folder = Folder::of(root, id)?;
    let state = folder.load()?;
    let status = status(&folder, &state)?;
    let document = json!({
        "ociVersion": state.oci_version, "id": state.id, "pid": if status == Status::Stopped { 0 } else { state.pid },
        "status": status, "bundle": state.bundle, "rootfs": state.rootfs, "created": state.created,
        "annotations": state.annotations, "owner": "",
    });
    let text = serde_json::to_string_pretty(&document)?;
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}

/// Sends a signal to the init, or to every process of the container.
pub fn kill(root: &Path, id: &str, signal: &str, all: bool) -> Result<()> {
    let signal = signal_number(signal)?;
    let state = Folder::of(root, id)?.load()?;
    let init = state.init();
    if all {
        Cgroup::at(&state.cgroup)?.signal_all(signal);
        return Ok(());
    }
    let init = init.context("container not running")?;
    clone::signal(init.as_fd(), signal).with_context(|| format!("cannot send signal {signal}"))
}

/// Removes every trace of a container. One that runs only if `force`; one that is not there is then no error.
pub fn delete(root: &Path, id: &str, force: bool, report: &Report) -> Result<()> {
    let folder = Folder::of(root, id)?;
    let state = match folder.load() {
        Ok(state) => state,
        Err(_) if force && !folder.path().exists() => return Ok(()),
        Err(_) if force => return remove_half_made(&folder, id),
        Err(error) => return Err(error),
    };
    let status = status(&folder, &state)?;
    let name = serde_json::to_value(status).unwrap_or_default();
    let may = force || matches!(status, Status::Stopped | Status::Created);
    ensure!(may, "cannot delete container {id} that is not stopped: {}", name.as_str().unwrap_or_default());
    end(&state)?;
    // in this order: systemd awaits word of who leaves, and none comes of a cgroup that is gone
    state.unit.as_deref().map_or(Ok(()), place::stop)?;
    Cgroup::at(&state.cgroup)?.remove()?;
    let spec = folder.spec()?;
    let document = document(id, &state.bundle, &spec, Status::Stopped, 0);
    if let Some(Err(error)) = spec.hooks().as_ref().map(|all| hooks::run(all.poststop().as_ref(), &document)) {
        report.warning(&format!("{error:#}"));
    }
    folder.remove()
}

/// Kills what is left of a container and waits for its init's end.
fn end(state: &State) -> Result<()> {
    let cgroup = Cgroup::at(&state.cgroup)?;
    let init = state.init();
    cgroup.signal_all(libc::SIGKILL);
    if cgroup.frozen() {
        // a frozen process of v1 ends only when thawed
        cgroup.freeze(false)?;
    }
    let Some(init) = init else { return Ok(()) };
    // its cgroup may have been left, by a move from outside
    let _ = clone::signal(init.as_fd(), libc::SIGKILL);
    ensure!(ended(&init, ENDING), "the container's init does not end");
    Ok(())
}

/// A create that was killed half-way left a folder, perhaps a cgroup with an init that nobody will start.
fn remove_half_made(folder: &Folder, id: &str) -> Result<()> {
    if let Ok(spec) = folder.spec() {
        let place = Place::found(&spec, id)?;
        let cgroup = Cgroup::at(&place.path)?;
        cgroup.signal_all(libc::SIGKILL);
        place.scope.map_or(Ok(()), |scope| place::stop(&scope.unit))?;
        cgroup.remove()?;
    }
    folder.remove()
}

/// Freezes or thaws a running container.
pub fn freeze(root: &Path, id: &str, frozen: bool) -> Result<()> {
    let folder = Folder::of(root, id)?;
    let state = folder.load()?;
    match (status(&folder, &state)?, frozen) {
        (Status::Running | Status::Created, true) | (Status::Paused, false) => {}
        (_, true) => bail!("container not running"),
        (_, false) => bail!("container not paused"),
    }
    Cgroup::at(&state.cgroup)?.freeze(frozen)
}

/// Changes a container's limits to those of a file of `LinuxResources` (`-`: stdin).
pub fn update(root: &Path, id: &str, resources: &Path, report: &Report) -> Result<()> {
    let state = Folder::of(root, id)?.load()?;
    ensure!(state.init().is_some(), "container not running");
    let text = if resources == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().take(1 << 20).read_to_end(&mut text).context("cannot read stdin")?;
        text
    } else {
        fs::read(resources).with_context(|| format!("cannot read {}", resources.display()))?
    };
    let wanted: LinuxResources = serde_json::from_slice(&text).context("these are no OCI resources")?;
    let cgroup = Cgroup::at(&state.cgroup)?;
    let mut settings = plan::settings(&wanted, cgroup.version())?;
    state.unit.map_or(Ok(()), |unit| place::update(&unit, &cgroup, &mut settings))?;
    cgroup.limit(&settings, report)
}
