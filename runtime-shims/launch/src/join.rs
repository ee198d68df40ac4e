//! The namespaces of a container: those it gets new, those it joins, and how a process comes into them.
//!
//! Must not know: what the process does there.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::rootfs::sources::{namespace_of, ranges};
use crate::sys::check;

/// Every kind: its file in /proc/PID/ns, its flag.
const KINDS: [(&str, libc::c_int); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("pid", libc::CLONE_NEWPID),
    ("mnt", libc::CLONE_NEWNS),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", 0x80),
];

/// What a container's specification says of namespaces, opened.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Flags of those it gets new, cgroups and users apart.
    pub new: libc::c_int,
    /// A cgroup namespace can only be made once its process is in its cgroup.
    pub new_cgroup: bool,
    joined: Vec<(libc::c_int, OwnedFd)>,
    /// The user namespace it runs in, made for it or joined; None for the host's.
    pub users: Option<OwnedFd>,
}

/// Opens what is joined, and makes the user namespace where the container gets one of its own. `mounts` is the mount
/// namespace its own is made from, where that is not this process's.
pub fn open(linux: &Linux, mounts: Option<&Path>) -> Result<Namespaces> {
    let mut found = Namespaces::default();
    if let Some(path) = mounts {
        found.join(LinuxNamespaceType::Mount, libc::CLONE_NEWNS, path)?;
    }
    for one in linux.namespaces().iter().flatten() {
        let flag = flag(one.typ());
        match (one.typ(), one.path()) {
            (LinuxNamespaceType::Mount, Some(_)) => bail!("a container's mount namespace is always its own"),
            (LinuxNamespaceType::User, None) => {
                let map = |map: &Option<Vec<_>>| ranges(map.as_deref().unwrap_or_default());
                found.users = Some(namespace_of(&map(linux.uid_mappings()), &map(linux.gid_mappings()))?);
            }
            (LinuxNamespaceType::Cgroup, None) => found.new_cgroup = true,
            (_, None) => found.new |= flag,
            (kind, Some(path)) => found.join(kind, flag, path)?,
        }
    }
    ensure!(found.new & libc::CLONE_NEWNS != 0, "a container needs a mount namespace");
    ensure!(linux.time_offsets().as_ref().is_none_or(|offsets| offsets.is_empty()), "time offsets are not supported");
    Ok(found)
}

fn flag(kind: LinuxNamespaceType) -> libc::c_int {
    match kind {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => 0x80,
    }
}

impl Namespaces {
    fn join(&mut self, kind: LinuxNamespaceType, flag: libc::c_int, path: &Path) -> Result<()> {
        let file = File::open(path).with_context(|| format!("cannot open the namespace {}", path.display()))?;
        if kind != LinuxNamespaceType::User {
            self.joined.push((flag, file.into()));
        } else if !same(&path.metadata()?, Path::new("/proc/self/ns/user")) {
            self.users = Some(file.into());
        }
        Ok(())
    }

    /// Brings this process (its children, for processes' numbers) into what is joined; the user namespace last, since
    /// it takes the right to join others.
    pub fn enter(&self) -> Result<()> {
        for (flag, fd) in &self.joined {
            set(fd.as_fd(), *flag).with_context(|| format!("cannot join a namespace of kind {flag:#x}"))?;
        }
        if let Some(users) = &self.users {
            set(users.as_fd(), libc::CLONE_NEWUSER).context("cannot join the user namespace")?;
        }
        Ok(())
    }
}

/// Becomes the root of the user namespace that was joined.
pub fn become_root() -> Result<()> {
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).context("cannot leave the host's groups")?;
    setresgid(group, group, group).context("the group map has no group 0")?;
    setresuid(user, user, user).context("the user map has no user 0")
}

/// The namespaces in which a process differs from this one.
pub fn differing(pid: i32) -> Result<libc::c_int> {
    let mut flags = 0;
    for (name, flag) in KINDS {
        let theirs = match fs::metadata(format!("/proc/{pid}/ns/{name}")) {
            Ok(theirs) => theirs,
            // a kernel without the kind
            Err(error) if error.kind() == io::ErrorKind::NotFound && name == "time" => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot see the {name} namespace of {pid}")),
        };
        if !same(&theirs, &Path::new("/proc/self/ns").join(name)) {
            flags |= flag;
        }
    }
    Ok(flags)
}

fn same(one: &fs::Metadata, other: &Path) -> bool {
    fs::metadata(other).is_ok_and(|other| (other.dev(), other.ino()) == (one.dev(), one.ino()))
}

/// setns: by a namespace's fd one kind, by a pidfd all kinds named at once.
pub fn set(fd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags) }.into()).map(drop)
}
