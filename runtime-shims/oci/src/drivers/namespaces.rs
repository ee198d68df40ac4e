//! A sandbox's namespaces: made by a thread that lives for the moment, kept by bind mounts.
//!
//! Must not know: which of them a pod asks for, or what is done to the network afterwards.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// What is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub net: bool,
    pub ipc: bool,
    /// With this host name.
    pub uts: Option<String>,
    /// `net.core.somaxconn` → value; they are of the namespaces made here.
    pub sysctls: Vec<(String, String)>,
}

impl Wanted {
    fn kinds(&self) -> impl Iterator<Item = (&'static str, CloneFlags)> {
        let kinds = [
            ("net", CloneFlags::CLONE_NEWNET, self.net),
            ("ipc", CloneFlags::CLONE_NEWIPC, self.ipc),
            ("uts", CloneFlags::CLONE_NEWUTS, self.uts.is_some()),
        ];
        kinds.into_iter().filter(|(_, _, wanted)| *wanted).map(|(name, flag, _)| (name, flag))
    }
}

/// Makes them and binds each to `dir/{net,ipc,uts}`. Blocks for some milliseconds.
pub fn pin(dir: &Path, wanted: &Wanted) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let flags = wanted.kinds().fold(CloneFlags::empty(), |flags, (_, flag)| flags | flag);
    if flags.is_empty() {
        return Ok(());
    }
    in_thread(|| {
        unshare(flags).context("making namespaces")?;
        if let Some(name) = &wanted.uts {
            nix::unistd::sethostname(name).with_context(|| format!("setting the host name {name:?}"))?;
        }
        if wanted.net {
            pintle_cni::loopback_up().context("setting the loopback link up")?;
        }
        wanted.sysctls.iter().try_for_each(|(name, value)| sysctl(name, value))?;
        wanted.kinds().try_for_each(|(name, _)| bind_own(name, &dir.join(name)))
    })
}

/// Keeps a namespace of a process (`pid`) at a path.
pub fn pin_of(pid: u32, kind: &str, at: &Path) -> anyhow::Result<()> {
    bind(Path::new(&format!("/proc/{pid}/ns/{kind}")), at)
}

/// Runs something in the network namespace at a path. Blocks.
pub fn in_network<T: Send>(path: &Path, run: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let namespace = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    in_thread(|| {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).context("entering the pod's network")?;
        run()
    })
}

/// A thread of its own: what it changed of itself ends with it.
fn in_thread<T: Send>(run: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespaces".into()).stack_size(256 << 10);
        let running = thread.spawn_scoped(scope, run).context("starting a thread")?;
        running.join().map_err(|_| anyhow::anyhow!("the thread in the namespaces crashed"))?
    })
}

fn bind_own(kind: &str, at: &Path) -> anyhow::Result<()> {
    bind(Path::new(&format!("/proc/thread-self/ns/{kind}")), at)
}

fn bind(from: &Path, at: &Path) -> anyhow::Result<()> {
    File::create(at).with_context(|| format!("making {}", at.display()))?;
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("keeping {} at {}", from.display(), at.display()))
}

/// Dots and slashes both separate; the names were checked by whoever decided.
fn sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::write(&path, value).with_context(|| format!("setting sysctl {name} to {value:?}"))
}
