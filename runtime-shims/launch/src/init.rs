//! The container's init, from its birth in new namespaces to its program.
//!
//! Must not know: the launcher's files; it sees only what it inherits.

use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};
use nix::libc;
use nix::unistd::{sethostname, setsid};
use oci_spec::runtime::{Process, Spec};
use serde_json::Value;

use crate::hooks;
use crate::join::{self, Namespaces};
use crate::pin::{loopback_up, set_sysctl};
use crate::process::seccomp::Filter;
use crate::process::{self, console};
use crate::rootfs::sources::Sources;
use crate::rootfs::{self, LinksOnTheWay, Tree, WhenMissing, reach_inside};
use crate::sys::check;
use crate::sys::mount;
use crate::sys::pipe::Talk;

/// What an init inherits.
pub struct Init<'a> {
    pub spec: &'a Spec,
    pub process: &'a Process,
    pub filter: Option<&'a Filter>,
    pub sources: &'a Sources,
    pub namespaces: &'a Namespaces,
    pub console: Option<UnixStream>,
    /// `start` connects to it.
    pub listener: OwnedFd,
    /// The host's /proc.
    pub proc: OwnedFd,
    pub state: Value,
}

/// Sets the container up, waits for `start`, becomes the program.
///
/// Says `fine` when its namespaces and mounts are there (then the launcher's hooks run), and when it waits for `start`.
pub fn run(init: Init<'_>, talk: &mut Talk) -> Result<Infallible> {
    let spec = init.spec;
    if init.namespaces.users.is_some() {
        join::become_root()?;
    }
    setsid().context("cannot begin a session")?;
    set_up_namespaces(&init)?;
    let tree = rootfs::build(spec, init.sources, init.namespaces.new_cgroup)?;
    talk.fine()?;
    talk.wait()?;
    if let Some(all) = spec.hooks() {
        hooks::run(all.create_container().as_ref(), &init.state)?;
    }
    let parameters = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    parameters.into_iter().flatten().try_for_each(|(name, value)| set_sysctl(name, value))?;
    // a working folder that the image lacks is made, as by runc
    reach_inside(tree.root(), init.process.cwd(), WhenMissing::Folder, LinksOnTheWay::Inside)?;
    let terminal = init.console.as_ref().map(|socket| terminal(&tree, init.process, socket)).transpose()?;
    tree.protect(spec)?;
    tree.enter(spec)?;
    if let Some(terminal) = terminal {
        console::take(terminal.as_fd())?;
    }
    drop(init.console);
    let keep = [init.listener.as_raw_fd(), talk.as_raw_fd()];
    let ready = process::confine(init.process, init.filter, init.proc, &keep)?;
    talk.fine()?;
    talk.close();
    let mut starter = wait_for_start(init.listener)?;
    let started = spec.hooks().as_ref().map_or(Ok(()), |all| hooks::run(all.start_container().as_ref(), &init.state));
    let error = match started {
        Ok(()) => ready.exec(),
        Err(error) => error,
    };
    let _ = starter.write_all(format!("{error:#}").as_bytes());
    Err(error)
}

fn set_up_namespaces(init: &Init<'_>) -> Result<()> {
    let (spec, new) = (init.spec, init.namespaces.new);
    if init.namespaces.new_cgroup {
        // SAFETY: takes a number.
        check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).context("cannot make a cgroup namespace")?;
    }
    if new & libc::CLONE_NEWUTS != 0 {
        if let Some(name) = spec.hostname() {
            sethostname(name).with_context(|| format!("cannot set the hostname {name:?}"))?;
        }
        if let Some(name) = spec.domainname() {
            fs::write("/proc/sys/kernel/domainname", name)
                .with_context(|| format!("cannot set the domainname {name:?}"))?;
        }
    }
    if new & libc::CLONE_NEWNET != 0 {
        loopback_up().context("cannot set the loopback interface up")?;
    }
    Ok(())
}

/// A terminal of the container's, at /dev/console too; its other side is sent away.
fn terminal(tree: &Tree, process: &Process, socket: &UnixStream) -> Result<OwnedFd> {
    let folder = reach_inside(tree.root(), Path::new("/dev/pts"), WhenMissing::Folder, LinksOnTheWay::Inside)?;
    let (master, slave) = console::make(folder.as_fd(), process)?;
    let copy = mount::copy_of(slave.as_fd(), false).context("cannot copy the terminal's node")?;
    let target = reach_inside(tree.root(), Path::new("/dev/console"), WhenMissing::File, LinksOnTheWay::Inside)?;
    mount::attach(copy.as_fd(), target.as_fd()).context("cannot mount /dev/console")?;
    console::send(socket, master.as_fd())?;
    Ok(slave)
}

/// Waits until `start` connects. The connection closes with the exec, which tells `start` that all went well.
fn wait_for_start(listener: OwnedFd) -> Result<UnixStream> {
    let (connection, _) = UnixListener::from(listener).accept().context("cannot wait for start")?;
    Ok(connection)
}

/// Closes every fd but the standard ones and `keep`.
pub fn close_but(keep: &[RawFd]) -> Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep.into_iter().chain(std::iter::once(u32::MAX)) {
        if from < fd {
            // SAFETY: what this process still owns is in `keep`; the others belong to its parent's frames, to which it
            // never returns.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) }).context("cannot close fds")?;
        }
        from = fd.saturating_add(1);
    }
    Ok(())
}

/// What `start` reads: nothing when the program runs, else why it does not.
pub fn answer(mut connection: UnixStream) -> Result<()> {
    let mut text = String::new();
    connection.read_to_string(&mut text).context("the init gives no answer")?;
    if text.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(text)) }
}
