//! Other runtimes beside the machine's: ours over runc and crun, Debian's containerd, ours over containerd's own API.
//!
//! Must not know: any story.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::isolation::SCRATCH;

/// A bound, not an expectation.
const UP_WITHIN: Duration = Duration::from_secs(60);
const NETWORK: &str = r#"{"cniVersion":"1.0.0","name":"others","plugins":[{"type":"pintle-cni",
    "podCIDR":"10.98.0.0/24","dataDir":"/var/lib/others/cni",
    "capabilities":{"portMappings":true,"bandwidth":true,"ips":true,"mac":true}}]}"#;

/// It ends when it is dropped; the suite has removed what ran in it.
pub struct Other {
    pub socket: PathBuf,
    /// In the order of their start.
    programs: Vec<Child>,
}

impl Other {
    /// The embedded runtime with another OCI runtime in place of the launcher.
    pub async fn with(oci_runtime: &str) -> Self {
        let dir = folder(&format!("with-{oci_runtime}"));
        let program = installed(oci_runtime).display().to_string();
        let mut other = Self { socket: dir.join("runtime.sock"), programs: Vec::new() };
        other.pintle(&dir, &["--oci-runtime", &program, "--monitors-cgroup", "/others-monitors"]).await;
        other
    }

    pub async fn containerd() -> Self {
        let dir = folder("containerd");
        let mut other = Self { socket: dir.join("c.sock"), programs: Vec::new() };
        other.start_containerd(&dir, "").await;
        other
    }

    /// A containerd without its CRI, as Docker ships it, and CRI over it.
    pub async fn native_containerd() -> Self {
        let dir = folder("native");
        let below = dir.join("c.sock");
        let mut other = Self { socket: below.clone(), programs: Vec::new() };
        other.start_containerd(&dir, ", \"io.containerd.grpc.v1.cri\"").await;
        other.socket = dir.join("runtime.sock");
        other.pintle(&dir, &["--containerd", &below.display().to_string()]).await;
        other
    }

    async fn pintle(&mut self, dir: &Path, arguments: &[&str]) {
        let mut command = Command::new(crate::node::pintle());
        command.args(["runtime", "--log", "info"]).args(arguments).arg("--listen").arg(&self.socket);
        command.arg("--root").arg(dir.join("root")).arg("--state").arg(dir.join("state"));
        command.arg("--cni-conf-dir").arg(dir.join("net.d")).arg("--cni-bin-dir").arg(dir.join("bin"));
        self.start(command, &dir.join("pintle.log")).await;
    }

    async fn start_containerd(&mut self, dir: &Path, disabled: &str) {
        let file = dir.join("config.toml");
        fs::write(&file, configuration(dir, disabled)).expect("a configuration");
        let mut command = Command::new(installed("containerd"));
        command.arg("--config").arg(file);
        self.start(command, &dir.join("containerd.log")).await;
    }

    async fn start(&mut self, mut command: Command, log: &Path) {
        let out = File::create(log).expect("a log");
        command.stdout(out.try_clone().expect("the log")).stderr(out).stdin(Stdio::null());
        self.programs.push(command.spawn().expect("a program"));
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            let said = || fs::read_to_string(log).unwrap_or_default();
            assert!(started.elapsed() < UP_WITHIN, "nobody at {}:\n{}", self.socket.display(), said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        for mut program in self.programs.drain(..).rev() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// A folder with the pod network in it.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(SCRATCH).join(name);
    for below in ["net.d", "bin"] {
        fs::create_dir_all(dir.join(below)).expect("a folder");
    }
    fs::write(dir.join("net.d/10-others.conflist"), NETWORK).expect("a network");
    for plugin in ["pintle-cni", "loopback"] {
        std::os::unix::fs::symlink(crate::node::pintle(), dir.join("bin").join(plugin)).expect("a plugin");
    }
    dir
}

/// A program that the tests need: `make test` installs its package.
pub fn installed(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|dir| dir.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed: make test-packages"))
}

/// Without the lowering of OOM scores, which needs a capability that test machines may lack.
fn configuration(dir: &Path, disabled: &str) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root-of-containerd"
state = "{dir}/state-of-containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"{disabled}]
[grpc]
address = "{dir}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "pintle.dev/pause:1"
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{dir}/bin"
conf_dir = "{dir}/net.d"
"#
    )
}
