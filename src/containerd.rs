//! A containerd of Pintle's own: its configuration, starting it so that it outlives us, finding it again.
//!
//! Must not know: CRI.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine;

/// The image of every sandbox; Pintle brings it itself.
pub const PAUSE_IMAGE: &str = "pintle.dev/pause:1";
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Where it keeps what.
#[derive(Debug, Clone)]
pub struct Containerd {
    /// Configuration, images and snapshots.
    pub root: PathBuf,
    /// Its socket, pid file and what ends with the machine.
    pub state: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub cni_bin_dir: PathBuf,
}

impl Containerd {
    pub fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    fn pid_file(&self) -> PathBuf {
        self.state.join("containerd.pid")
    }

    /// The pid of the one that runs, if it is ours and answers its socket.
    pub fn running(&self) -> Option<i32> {
        let pid: i32 = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = command.contains(self.config_file().to_str()?);
        (ours && std::os::unix::net::UnixStream::connect(self.socket()).is_ok()).then_some(pid)
    }

    fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Whether it ever ran here.
    pub fn has_state(&self) -> bool {
        self.config_file().exists()
    }

    /// Starts it, unless it runs; ready when it returns.
    pub async fn ensure(&self) -> anyhow::Result<()> {
        if self.running().is_some() {
            return Ok(());
        }
        for dir in [&self.root, &self.state, &self.cni_bin_dir] {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        fs::write(self.config_file(), self.config())
            .with_context(|| format!("writing {}", self.config_file().display()))?;
        let mut child = self.spawn()?;
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = child.try_wait().context("waiting for containerd")? {
                anyhow::bail!("containerd ended ({status}); its last words:\n{}", self.last_words());
            }
            anyhow::ensure!(started.elapsed() < START_LIMIT, "containerd does not answer {}", self.socket().display());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// In a session of its own: no signal meant for us reaches it, and it outlives us.
    fn spawn(&self) -> anyhow::Result<std::process::Child> {
        let program = machine::program("containerd").context("containerd is not installed")?;
        let log = fs::File::create(self.log_file()).context("making containerd's log")?;
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config_file()).current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
        unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
        let child = command.spawn().context("starting containerd")?;
        fs::write(self.pid_file(), child.id().to_string()).context("writing containerd's pid file")?;
        Ok(child)
    }

    pub fn log_file(&self) -> PathBuf {
        self.root.join("containerd.log")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn config(&self) -> String {
        let path = |path: &Path| format!("{:?}", path.display().to_string());
        // lowering oom_score_adj needs CAP_SYS_RESOURCE; without it runc fails with a message that says nothing
        let restrict_oom = !can_lower_oom_score();
        format!(
            r#"version = 2
root = {root}
state = {state}
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]

[grpc]
address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = {restrict_oom}
stream_server_address = "127.0.0.1"
stream_server_port = "0"
enable_unprivileged_ports = true
enable_unprivileged_icmp = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {cni_bin}
conf_dir = {cni_conf}
max_conf_num = 1
"#,
            root = path(&self.root.join("root")),
            state = path(&self.state.join("state")),
            socket = path(&self.socket()),
            cni_bin = path(&self.cni_bin_dir),
            cni_conf = path(&self.cni_conf_dir),
        )
    }

    /// Ends it. Containers' shims go on without it. One that hears SIGTERM while it starts may hang for good
    /// (containerd 1.6): then it is killed, which loses nothing of what it keeps on disk.
    pub async fn stop(&self) -> anyhow::Result<()> {
        let Some(pid) = self.running() else { return Ok(()) };
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            kill(Pid::from_raw(pid), signal).context("ending containerd")?;
            if ended_within(pid, STOP_LIMIT).await {
                return Ok(());
            }
        }
        anyhow::bail!("containerd (pid {pid}) does not end")
    }
}

/// Whether a process is gone, or waits only for its parent to notice, before `limit`.
async fn ended_within(pid: i32, limit: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

fn can_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|caps| caps >> CAP_SYS_RESOURCE & 1 == 1)
}
