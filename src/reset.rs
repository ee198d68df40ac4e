//! `pintle reset --yes`: every trace goes, and what went is told.
//!
//! Must not know: how any of it came to be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::Config;
use crate::progress::say;
use crate::{down, host, parts, units};

/// What containerd, its shims and CNI make outside the folders they were given, the innermost first. Others use them
/// too, so they go only where they are empty.
const RUNTIME_FOLDERS: [&str; 8] = [
    "/run/containerd/runc/k8s.io",
    "/run/containerd/runc",
    "/run/containerd/s",
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/etc/cni",
];

pub async fn run(config: &Config, sure: bool) -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "not root: run it with sudo");
    anyhow::ensure!(sure, "this removes the cluster with everything in it: say `pintle reset --yes`");
    down::process(config).await?;
    down::pods(config).await?;
    parts::containerd(config).stop().await?;
    let mut removed = Removed::default();
    removed.all("rules and links", pintle_proxy::cleanup().await?);
    removed.all("links and leases", pintle_cni::cleanup(&config.data_dir.join("cni/state")).await?);
    mounts(config, &mut removed)?;
    removed.all("slice", units::stop_slices()?);
    cgroups(&mut removed)?;
    let unloaded = pintle_launch::apparmor::unload_default()?;
    removed
        .all("AppArmor profile", unloaded.then(|| pintle_launch::apparmor::DEFAULT.to_owned()).into_iter().collect());
    removed.all("kernel setting", host::restore(&config.data_dir)?);
    files(config, &mut removed)?;
    removed.tell();
    Ok(())
}

#[derive(Default)]
struct Removed(Vec<String>);

impl Removed {
    fn all(&mut self, what: &str, names: Vec<String>) {
        self.0.extend(names.into_iter().map(|name| format!("{what}: {name}")));
    }

    fn tell(&self) {
        if self.0.is_empty() {
            return say("there was nothing to remove");
        }
        for line in &self.0 {
            say(&format!("  removed {line}"));
        }
    }
}

/// Everything mounted below our folders, the innermost first.
fn mounts(config: &Config, removed: &mut Removed) -> anyhow::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    let ours = [&config.kubelet_root_dir, &config.data_dir, &config.run_dir];
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut points: Vec<PathBuf> = points.filter(|point| ours.iter().any(|dir| point.starts_with(dir))).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    for point in points {
        nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("unmounting {}", point.display()))?;
        removed.all("mount", vec![point.display().to_string()]);
    }
    Ok(())
}

/// The kernel writes a space in a mount point as `\040`.
fn unescape(text: &str) -> PathBuf {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\").into()
}

/// The cgroups of pods and of the monitors that watch over them, in every hierarchy.
fn cgroups(removed: &mut Removed) -> anyhow::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        for name in ["kubepods", "kubepods.slice", "pintle-monitors", "pintle"] {
            let dir = hierarchy.join(name);
            if dir.is_dir() {
                match remove_cgroup(&dir) {
                    Ok(()) => removed.all("cgroup", vec![dir.display().to_string()]),
                    // all our pods are gone: what still runs there is another kubelet's
                    Err(error) if is_busy(&error) => say(&format!("  kept cgroup {}: it has processes", dir.display())),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

/// A cgroup is removed by removing its folder, the innermost first; the files in it are not files.
pub fn remove_cgroup(dir: &Path) -> anyhow::Result<()> {
    for child in fs::read_dir(dir).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&child.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing cgroup {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
}

fn files(config: &Config, removed: &mut Removed) -> anyhow::Result<()> {
    let logs = ["/var/log/pods", "/var/log/containers"].map(PathBuf::from);
    let folders = [&config.data_dir, &config.run_dir, &config.kubelet_root_dir, &logs[0], &logs[1]];
    for folder in folders {
        if folder.exists() {
            pintle_daemon::tree::remove(folder).with_context(|| format!("removing {}", folder.display()))?;
            removed.all("folder", vec![folder.display().to_string()]);
        }
    }
    removed.all("file", pintle_cni::conf::uninstall(&config.cni_conf_dir)?);
    for folder in parts::plugin_folders(config) {
        removed.all("CNI plugin", pintle_cni::conf::uninstall_plugin(&folder)?);
    }
    if config.kubeconfig.exists() {
        fs::remove_file(&config.kubeconfig).with_context(|| format!("removing {}", config.kubeconfig.display()))?;
        removed.all("file", vec![config.kubeconfig.display().to_string()]);
    }
    // what a person put there stays: only empty folders go
    let configured =
        [config.kubeconfig.parent(), Some(config.cni_conf_dir.as_path()), Some(config.pod_manifest_path.as_path())];
    for folder in configured.into_iter().flatten().chain(RUNTIME_FOLDERS.map(Path::new)) {
        if fs::remove_dir(folder).is_ok() {
            removed.all("empty folder", vec![folder.display().to_string()]);
        }
    }
    Ok(())
}
