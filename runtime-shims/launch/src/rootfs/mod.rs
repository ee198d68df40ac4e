//! The container's side of its mounts: attaches what was prepared, makes what belongs to its own namespaces, masks
//! what it must not see, and makes the result its root. Runs in the container's namespaces, before its root changes.
//!
//! Must not know: users, capabilities, the program that will run.

mod descend;
mod devices;
mod options;
pub mod sources;

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, fchdir, pivot_root};
use oci_spec::runtime::Spec;

use crate::sys::mount::{self, Change, NODEV, NOEXEC, NOSUID, RDONLY};
use descend::{Links, Missing, is, kind_to_make, reach};
pub use descend::{descend, reach as reach_inside};
use sources::{Prepared, Source, Sources};

/// Files of /proc that may be mounted over (what lxcfs serves); anything else there would lie to the kernel's users.
const PROC_ALLOWED: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// The container's tree while the host's can still be seen around it.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// The host's null device, which masks files.
    null: OwnedFd,
    /// Whether /dev belongs to the container: then it is filled, and made read-only at the end if so asked.
    dev_read_only: bool,
}

/// Builds the tree. `has_cgroup_namespace`: whether cgroups are seen from the container's own.
pub fn build(spec: &Spec, sources: &Sources, has_cgroup_namespace: bool) -> Result<Tree> {
    isolate().context("cannot leave the host's mount propagation")?;
    let null = open_null()?;
    cover(sources.root.as_fd()).context("cannot attach the root")?;
    let root = sources.root.try_clone().context("no fd left")?;
    let mut tree = Tree { root, null, dev_read_only: false };
    let mut own_dev = true;
    for one in &sources.mounts {
        tree.attach(one, has_cgroup_namespace)
            .with_context(|| format!("cannot mount {}", one.destination.display()))?;
        if one.destination == Path::new("/dev") {
            own_dev = matches!(one.source, Source::New);
            tree.dev_read_only = own_dev && one.options.own.set & RDONLY != 0;
        }
    }
    if own_dev {
        devices::make(tree.root.as_fd(), spec, &sources.devices)?;
    }
    Ok(tree)
}

/// No mount of this namespace reaches the host's, nor the other way.
pub fn isolate() -> Result<()> {
    Ok(mount::change(top()?.as_fd(), true, Change { propagation: libc::MS_PRIVATE, ..Change::default() })?)
}

fn top() -> Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("cannot open /")
}

/// Attaches a detached mount on top of this process's root.
pub fn cover(root: BorrowedFd<'_>) -> Result<()> {
    Ok(mount::attach(root, top()?.as_fd())?)
}

/// Makes an attached mount this process's root, and lets go of everything that was around it.
pub fn take(root: BorrowedFd<'_>) -> Result<()> {
    fchdir(root).context("cannot enter the root")?;
    pivot_root(".", ".").context("cannot change the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot let go of the root before")?;
    chdir("/").context("cannot enter the new root")
}

fn open_null() -> Result<OwnedFd> {
    let null = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("cannot open /dev/null")?;
    ensure!(is_null(null.as_fd())?, "/dev/null is not the null device");
    Ok(null)
}

/// Whether an fd is the null device.
pub fn is_null(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = fstat(fd).context("cannot stat")?;
    let device = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    Ok(device && major(stat.st_rdev) == 1 && minor(stat.st_rdev) == 3)
}

impl Tree {
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn attach(&self, one: &Prepared, has_cgroup_namespace: bool) -> Result<()> {
        match &one.source {
            Source::Copy(copy) => self.bind(copy.as_fd(), &one.destination),
            Source::Cgroups(cgroups) if has_cgroup_namespace => self.cgroups_of_namespace(one, cgroups),
            Source::Cgroups(cgroups) => self.cgroups(
                one,
                |name| {
                    cgroups
                        .iter()
                        .find(|(one, _)| one == name)
                        .map(|(_, copy)| copy.try_clone())
                        .transpose()
                        .map_err(Into::into)
                },
                cgroups,
            ),
            Source::New => self.make(one),
        }
    }

    fn bind(&self, copy: BorrowedFd<'_>, destination: &Path) -> Result<()> {
        let target = reach(self.root(), destination, kind_to_make(copy)?, Links::Inside)?;
        if fstatfs(&target).context("cannot stat the target")?.filesystem_type() == PROC_SUPER_MAGIC {
            ensure!(PROC_ALLOWED.iter().any(|one| destination == Path::new(one)), "it is inside /proc");
        }
        mount::attach(copy, target.as_fd()).context("cannot attach")
    }

    /// A file system that belongs to the namespaces of this process.
    fn make(&self, one: &Prepared) -> Result<()> {
        let kind = match one.kind.as_str() {
            "" => bail!("a mount needs a type or a source to bind"),
            "cgroup" => "cgroup2",
            kind => kind,
        };
        let links = if matches!(kind, "proc" | "sysfs") { Links::Refused } else { Links::Inside };
        let target = reach(self.root(), &one.destination, Missing::Folder, links)?;
        ensure!(is(&target, SFlag::S_IFDIR)?, "it is no folder");
        // /dev is filled first
        let late = if one.destination == Path::new("/dev") { RDONLY } else { 0 };
        let new = mount::new(kind, &one.options.data, one.options.own.set & !late)
            .with_context(|| format!("cannot make a {kind} file system"))?;
        if let Some((propagation, all)) = one.options.propagation {
            mount::change(new.as_fd(), all, Change { propagation, ..Change::default() })?;
        }
        mount::attach(new.as_fd(), target.as_fd()).context("cannot attach")?;
        match one.label.as_deref().map_or(Ok(()), |label| mount::label(new.as_fd(), label)) {
            // a user namespace may not: it keeps the label that the policy has for such file systems
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            labelled => labelled.context("cannot label"),
        }
    }

    fn cgroups_of_namespace(&self, one: &Prepared, cgroups: &[(String, OwnedFd)]) -> Result<()> {
        let attributes = NOSUID | NODEV | NOEXEC | one.options.own.set & RDONLY;
        let new = |name: &str| -> Result<Option<OwnedFd>> {
            let option = match name {
                "systemd" => ("name".to_owned(), Some(name.to_owned())),
                _ => (name.to_owned(), None),
            };
            Ok(Some(mount::new("cgroup", &[option], attributes)?))
        };
        self.cgroups(one, new, cgroups)
    }

    /// Cgroups of v1: a small tmpfs with a folder per hierarchy.
    fn cgroups(
        &self,
        one: &Prepared,
        source: impl Fn(&str) -> Result<Option<OwnedFd>>,
        all: &[(String, OwnedFd)],
    ) -> Result<()> {
        let folder = reach(self.root(), &one.destination, Missing::Folder, Links::Inside)?;
        let mode = [("mode".to_owned(), Some("755".to_owned()))];
        let tmpfs = mount::new("tmpfs", &mode, NOSUID | NODEV | NOEXEC).context("cannot make a tmpfs")?;
        mount::attach(tmpfs.as_fd(), folder.as_fd()).context("cannot attach the tmpfs")?;
        for (name, _) in all {
            let Some(copy) = source(name).with_context(|| format!("cannot mount the cgroup {name}"))? else { continue };
            let own = Change { set: NOSUID | NODEV | NOEXEC | one.options.own.set & RDONLY, ..Change::default() };
            mount::change(copy.as_fd(), false, own).context("cannot change attributes")?;
            let target = reach(tmpfs.as_fd(), Path::new(name), Missing::Folder, Links::Refused)?;
            mount::attach(copy.as_fd(), target.as_fd()).with_context(|| format!("cannot attach the cgroup {name}"))?;
        }
        if one.options.own.set & RDONLY != 0 {
            mount::change(tmpfs.as_fd(), false, Change { set: RDONLY, ..Change::default() })?;
        }
        Ok(())
    }

    /// What must not be seen or written, and the root itself where it is read-only.
    pub fn protect(&self, spec: &Spec) -> Result<()> {
        let Some(linux) = spec.linux() else { return Ok(()) };
        for path in linux.readonly_paths().iter().flatten() {
            self.read_only(Path::new(path)).with_context(|| format!("cannot make {path} read-only"))?;
        }
        for path in linux.masked_paths().iter().flatten() {
            self.mask(Path::new(path)).with_context(|| format!("cannot mask {path}"))?;
        }
        let read_only = Change { set: RDONLY, ..Change::default() };
        if self.dev_read_only {
            let dev = reach(self.root(), Path::new("/dev"), Missing::Folder, Links::Inside)?;
            mount::change(dev.as_fd(), false, read_only).context("cannot make /dev read-only")?;
        }
        if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
            mount::change(self.root(), false, read_only).context("cannot make the root read-only")?;
        }
        Ok(())
    }

    fn read_only(&self, path: &Path) -> Result<()> {
        let Some(target) = descend(self.root(), path, Missing::Tell, Links::Inside)? else { return Ok(()) };
        let copy = mount::copy_of(target.as_fd(), true)?;
        mount::change(copy.as_fd(), true, Change { set: RDONLY, ..Change::default() })?;
        Ok(mount::attach(copy.as_fd(), target.as_fd())?)
    }

    fn mask(&self, path: &Path) -> Result<()> {
        let Some(target) = descend(self.root(), path, Missing::Tell, Links::Inside)? else { return Ok(()) };
        let cover = if is(&target, SFlag::S_IFDIR)? {
            mount::new("tmpfs", &[("mode".to_owned(), Some("755".to_owned()))], RDONLY | NOSUID | NODEV | NOEXEC)?
        } else {
            mount::copy_of(self.null.as_fd(), false)?
        };
        Ok(mount::attach(cover.as_fd(), target.as_fd())?)
    }

    /// Makes the tree this process's root.
    pub fn enter(self, spec: &Spec) -> Result<()> {
        take(self.root())?;
        self.propagate(spec)
    }

    /// What propagates from the root. The kernel changes to no root that is shared: this comes last.
    fn propagate(&self, spec: &Spec) -> Result<()> {
        let asked = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
        match asked.and_then(options::propagation) {
            Some((propagation, all)) if propagation != libc::MS_PRIVATE => {
                let change = Change { propagation, ..Change::default() };
                mount::change(self.root(), all, change).context("cannot change what propagates from the root")
            }
            _ => Ok(()),
        }
    }
}

pub use descend::{Links as LinksOnTheWay, Missing as WhenMissing};
