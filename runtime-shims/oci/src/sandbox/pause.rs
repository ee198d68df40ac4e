//! A sandbox's own process: only where its containers share a PID namespace, whose first process it is.
//!
//! Must not know: containers.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use oci_spec::image::ConfigBuilder;
use pintle_bundle::{
    NamespacePaths, SandboxFiles, SandboxInput, SandboxNamespaces, cgroup_dir, sandbox_namespaces, sandbox_spec,
};
use pintle_cri::v1::PodSandboxConfig;
use pintle_monitor::Monitor;

use crate::container::bundle::write_json;
use crate::drivers::{monitors, mounts, namespaces, sources};
use crate::error::Result;
use crate::runtime::Shared;
use crate::state::{Entry, Sandbox};

const PROGRAM: &str = "/pause";

/// Starts it under the sandbox's monitor and keeps its PID namespace.
pub async fn start(shared: &Shared, entry: &Entry<Sandbox>, monitor: &Monitor) -> Result<()> {
    let bundle = entry.dir().join("pause");
    fs::create_dir_all(&bundle).with_context(|| format!("making {}", bundle.display()))?;
    let launcher = shared.launcher(&entry.now().handler)?;
    write_json(&bundle.join("config.json"), &spec(shared, entry)?)?;
    let pid_file = shared.state_of(&entry.id).join("pause.pid");
    let line = launcher.create(&bundle, &pid_file, false, &entry.id);
    let run = monitors::run(&entry.id, line, pid_file);
    let pid = monitor.run(run).await.context("starting the sandbox's process")?.pid;
    launcher.start(&entry.id).await?;
    namespaces::pin_of(pid, "pid", &shared.namespaces_of(&entry.id).join("pid"))?;
    Ok(())
}

fn spec(shared: &Shared, entry: &Entry<Sandbox>) -> Result<oci_spec::runtime::Spec> {
    let record = entry.now();
    let image = ConfigBuilder::default().entrypoint([PROGRAM.to_owned()]).build().map_err(anyhow::Error::from)?;
    let paths = paths(&shared.namespaces_of(&entry.id), &sandbox_namespaces(&record.config)?);
    let profile = seccomp_profile(&record.config)?;
    let input = SandboxInput {
        id: &entry.id,
        config: &record.config,
        image: Some(&image),
        image_name: "",
        rootfs: rootfs(shared)?,
        namespaces: Some(&paths),
        files: &SandboxFiles::default(),
        sysctls_set: true,
        seccomp_profile: profile.as_deref(),
        selinux_level: &record.selinux_level,
        host: &shared.host,
    };
    Ok(sandbox_spec(&input)?)
}

fn seccomp_profile(config: &PodSandboxConfig) -> Result<Option<String>> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default();
    #[allow(deprecated)]
    sources::seccomp_profile(context.seccomp.as_ref(), &context.seccomp_profile_path)
}

/// Where a sandbox's namespaces are.
pub fn paths(dir: &Path, own: &SandboxNamespaces) -> NamespacePaths {
    NamespacePaths {
        net: dir.join("net"),
        ipc: dir.join("ipc"),
        uts: dir.join("uts"),
        pid: own.pid.then(|| dir.join("pid")),
        user: own.user.as_ref().map(|_| dir.join("user")),
        target_pid: None,
    }
}

/// A root with nothing but the program, for all sandboxes; made once.
fn rootfs(shared: &Shared) -> Result<PathBuf> {
    let root = shared.config.root.join("pause");
    let program = root.join(PROGRAM.trim_start_matches('/'));
    if fs::metadata(&program).is_ok_and(|found| found.len() == pintle_cri::pause::PROGRAM.len() as u64) {
        return Ok(root);
    }
    // where its mounts go, since the root is read-only
    for dir in ["proc", "dev", "sys"] {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("making {}", root.display()))?;
    }
    label(shared, &root)?;
    let new = root.join(format!("pause.{}", crate::plan::id(rand::random())));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&new)?;
    file.write_all(pintle_cri::pause::PROGRAM)?;
    label(shared, &new)?;
    fs::rename(new, program)?;
    Ok(root)
}

/// As a file that every pod may read, whatever its categories.
fn label(shared: &Shared, path: &Path) -> anyhow::Result<()> {
    shared.host.selinux.as_ref().map_or(Ok(()), |labels| pintle_launch::selinux::relabel(path, &labels.file))
}

/// Ends it; none is no error.
pub async fn stop(shared: &Shared, entry: &Entry<Sandbox>) -> Result<()> {
    let record = entry.now();
    if !sandbox_namespaces(&record.config).is_ok_and(|own| own.pid) {
        return Ok(());
    }
    mounts::unmount(&shared.namespaces_of(&entry.id).join("pid"))?;
    let cgroup = cgroup_dir(record.cgroup_parent(), &entry.id, &shared.host)?;
    let hierarchies = shared.hierarchies.clone();
    tokio::task::spawn_blocking(move || hierarchies.kill(&cgroup)).await.context("ending the sandbox's process")??;
    shared.launcher(&record.handler)?.delete(&entry.id).await?;
    Ok(())
}
