//! What the launcher prepares of a container's mounts while it still has the host's rights: copies of everything that
//! is bound in, with their attributes, ID maps and propagation, detached from any tree.
//!
//! Must not know: the container's side.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::libc;
use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};

use super::devices;
use super::options::{self, Options};
use crate::cgroup::{Cgroup, plan::Version};
use crate::pin::{Range, write_map};
use crate::selinux;
use crate::sys::clone::{Birth, spawn};
use crate::sys::mount::{self, Change, IDMAP};
use crate::sys::pipe::Talk;

/// What one mount of the specification takes.
#[derive(Debug)]
pub enum Source {
    /// A copy of something of the host's.
    Copy(OwnedFd),
    /// A file system the container makes in its own namespaces.
    New,
    /// Cgroups of v1 without a namespace of their own: `(folder's name, copy)`.
    Cgroups(Vec<(String, OwnedFd)>),
}

/// A mount, ready to be attached at its destination.
#[derive(Debug)]
pub struct Prepared {
    pub destination: PathBuf,
    pub kind: String,
    pub options: Options,
    pub source: Source,
    /// SELinux' label of a file system that takes it from its first file on.
    pub label: Option<String>,
}

impl Prepared {
    /// With SELinux' label on a file system of the container's own: those that are made with one, and message queues.
    fn labelled(mut self, label: Option<&str>) -> Self {
        let Some(label) = label.filter(|_| matches!(self.source, Source::New)) else { return self };
        match self.kind.as_str() {
            "tmpfs" | "devpts" => self.options.data.push(("context".to_owned(), Some(label.to_owned()))),
            "mqueue" => self.label = Some(label.to_owned()),
            _ => {}
        }
        self
    }
}

/// All that is prepared.
#[derive(Debug)]
pub struct Sources {
    pub root: OwnedFd,
    pub mounts: Vec<Prepared>,
    /// Copies of device nodes, where a user namespace cannot make them.
    pub devices: Vec<(PathBuf, OwnedFd)>,
}

/// Prepares the mounts of `spec`. `users` is the user namespace it runs in, None for the host's.
pub fn prepare(
    spec: &Spec,
    bundle: &Path,
    rootfs: &Path,
    users: Option<BorrowedFd<'_>>,
    cgroup: &Cgroup,
) -> Result<Sources> {
    let root = mount::copy(rootfs, true).with_context(|| format!("cannot open the root {}", rootfs.display()))?;
    let private = Change { propagation: libc::MS_PRIVATE, ..Change::default() };
    mount::change(root.as_fd(), true, private).context("cannot make the root private")?;
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    let label = label.filter(|label| !label.is_empty() && selinux::is_enabled());
    let mut mounts = Vec::new();
    for one in spec.mounts().iter().flatten() {
        let prepared = prepare_one(one, bundle, users, cgroup).map(|prepared| prepared.labelled(label));
        mounts.push(prepared.with_context(|| format!("cannot prepare the mount at {}", one.destination().display()))?);
    }
    let devices = if users.is_some() { devices::copies(spec)? } else { Vec::new() };
    Ok(Sources { root, mounts, devices })
}

fn prepare_one(one: &Mount, bundle: &Path, users: Option<BorrowedFd<'_>>, cgroup: &Cgroup) -> Result<Prepared> {
    let options = options::read(one.options().as_deref().unwrap_or_default());
    let kind = one.typ().clone().unwrap_or_default();
    let destination = one.destination().clone();
    ensure!(destination.file_name().is_some(), "nothing can be mounted on the root itself");
    let source = if options.bind || kind == "bind" || kind == "none" {
        let path = one.source().as_ref().context("a bind mount needs a source")?;
        Source::Copy(bind(&bundle.join(path), &options, one, users)?)
    } else if kind == "cgroup" && cgroup.version() == Version::V1 {
        Source::Cgroups(cgroups(cgroup)?)
    } else {
        Source::New
    };
    Ok(Prepared { destination, kind, options, source, label: None })
}

fn bind(source: &Path, options: &Options, one: &Mount, users: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let copy =
        mount::copy(source, options.recursive_bind).with_context(|| format!("cannot open {}", source.display()))?;
    if let Some((recursive, users)) = id_map(options, one, users)? {
        let change = Change { set: IDMAP, users: users.as_raw_fd() as u64, ..Change::default() };
        mount::change(copy.as_fd(), recursive, change)
            .with_context(|| format!("the file system of {} cannot map IDs", source.display()))?;
    }
    settle(copy.as_fd(), options)?;
    Ok(copy)
}

/// Attributes and propagation of a detached mount. What nobody asked to propagate does not.
pub fn settle(copy: BorrowedFd<'_>, options: &Options) -> Result<()> {
    let (propagation, all) = options.propagation.unwrap_or((libc::MS_PRIVATE, true));
    mount::change(copy, all, Change { propagation, ..Change::default() }).context("cannot change what propagates")?;
    if options.own != Change::default() {
        mount::change(copy, false, options.own).context("cannot change attributes")?;
    }
    if options.recursive != Change::default() {
        mount::change(copy, true, options.recursive).context("cannot change attributes of all below")?;
    }
    Ok(())
}

/// The user namespace whose map a mount gets, and whether for all below it too.
fn id_map(options: &Options, one: &Mount, users: Option<BorrowedFd<'_>>) -> Result<Option<(bool, OwnedFd)>> {
    let recursive = options.id_mapped.unwrap_or(false);
    match (one.uid_mappings(), one.gid_mappings()) {
        (Some(user_map), Some(group_map)) if !user_map.is_empty() && !group_map.is_empty() => {
            Ok(Some((recursive, namespace_of(&ranges(user_map), &ranges(group_map))?)))
        }
        _ if options.id_mapped.is_none() => Ok(None),
        _ => {
            let users = users.context("IDs can be mapped as the container's only where it has a user namespace")?;
            Ok(Some((recursive, users.try_clone_to_owned().context("no fd left")?)))
        }
    }
}

/// The lines of a map.
pub fn ranges(mappings: &[LinuxIdMapping]) -> Vec<Range> {
    let range = |m: &LinuxIdMapping| Range { inside: m.container_id(), host: m.host_id(), length: m.size() };
    mappings.iter().map(range).collect()
}

/// A user namespace that exists for its maps alone: the process it was made with ends at once.
pub fn namespace_of(user_map: &[Range], group_map: &[Range]) -> Result<OwnedFd> {
    let (_here, mut there) = Talk::pair().context("cannot make a pair of sockets")?;
    let birth = Birth { flags: libc::CLONE_NEWUSER as u64, cgroup: None };
    let waiting = || {
        there.leave_other();
        i32::from(there.wait().is_err())
    };
    let child = spawn(birth, waiting).context("cannot make a user namespace")?;
    let opened = write_map(child.pid, "uid_map", user_map)
        .and_then(|()| write_map(child.pid, "gid_map", group_map))
        .and_then(|()| File::open(format!("/proc/{}/ns/user", child.pid)).context("cannot open the user namespace"));
    child.end();
    opened.map(OwnedFd::from)
}

fn cgroups(cgroup: &Cgroup) -> Result<Vec<(String, OwnedFd)>> {
    let copy = |(name, folder): (&str, PathBuf)| {
        let copy = mount::copy(&folder, false).with_context(|| format!("cannot open {}", folder.display()))?;
        Ok((name.to_owned(), copy))
    };
    cgroup.folders_v1().map(copy).collect()
}
