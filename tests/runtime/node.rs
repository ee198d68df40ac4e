//! The machine's runtime: started, killed, started again; and a registry with images.
//!
//! Must not know: any story.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_cri::{ImageClient, RuntimeClient, v1};
use pintle_harness::Registry;
use pintle_harness::images::{Images, build_and_push};

use crate::isolation::SCRATCH;
use crate::others::installed;

pub const SOCKET: &str = "/run/pintle/runtime.sock";
/// A bound, not an expectation.
const UP_WITHIN: Duration = Duration::from_secs(60);
const NETWORK: &str = r#"{"cniVersion":"1.0.0","name":"stories","plugins":[{"type":"pintle-cni",
    "podCIDR":"10.99.0.0/24","dataDir":"/var/lib/pintle/cni","capabilities":{"portMappings":true}}]}"#;

pub struct Node {
    _registry: Registry,
    pub images: Images,
    runtime: Option<Child>,
    connected: Option<pintle_cri::Runtime>,
}

impl Node {
    /// A machine whose runtime runs and has the images of the stories.
    pub async fn prepare() -> Self {
        let registry = Registry::start().await.expect("a registry");
        let images = build_and_push(&registry).await.expect("the images");
        // a kubelet's or its proxy's to set
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a router");
        fs::create_dir_all("/etc/cni/net.d").expect("a folder");
        fs::write("/etc/cni/net.d/10-stories.conflist", NETWORK).expect("a network");
        let mut node = Self { _registry: registry, images, runtime: None, connected: None };
        node.start().await;
        for name in [node.images.shell.clone(), node.images.web1.clone()] {
            let image = Some(v1::ImageSpec { image: name, ..Default::default() });
            node.image().pull_image(v1::PullImageRequest { image, ..Default::default() }).await.expect("a pull");
        }
        node
    }

    pub async fn start(&mut self) {
        self.start_from(&pintle()).await;
    }

    /// Started from another file with the same program.
    pub async fn start_from(&mut self, program: &Path) {
        let log = File::options().create(true).append(true).open(log_file()).expect("a log");
        let mut command = Command::new(program);
        command.args(["runtime", "--log", "info,pintle_oci=debug"]);
        command.args(["--handler", &format!("runc={}", installed("runc").display())]);
        // `RUNTIME_OCI=/usr/sbin/runc cargo test …` tells the stories with another OCI runtime
        if let Ok(other) = std::env::var("RUNTIME_OCI") {
            command.args(["--oci-runtime", &other]);
        }
        let child = command.stdout(log.try_clone().expect("the log")).stderr(log).stdin(Stdio::null()).spawn();
        self.runtime = Some(child.expect("pintle"));
        let started = Instant::now();
        loop {
            match pintle_cri::connect(SOCKET).await {
                Ok(connected) => {
                    self.connected = Some(connected);
                    return;
                }
                Err(error) => assert!(started.elapsed() < UP_WITHIN, "{error:#}; its log:\n{}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn cri(&self) -> RuntimeClient {
        self.connected.as_ref().expect("a running runtime").runtime.clone()
    }

    pub fn image(&self) -> ImageClient {
        self.connected.as_ref().expect("a running runtime").images.clone()
    }

    /// The runtime's process.
    pub fn pid(&self) -> u32 {
        self.runtime.as_ref().expect("a running runtime").id()
    }

    /// kill -9, and no other goodbye.
    pub fn kill(&mut self) {
        let mut child = self.runtime.take().expect("a running runtime");
        child.kill().expect("kill");
        child.wait().expect("its end");
    }

    /// SIGTERM, as an init system would.
    pub fn stop(&mut self) {
        let mut child = self.runtime.take().expect("a running runtime");
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("a signal");
        let status = child.wait().expect("its end");
        assert!(status.success(), "pintle ended with {status}");
    }

    pub fn log(&self) -> String {
        let text = fs::read_to_string(log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Pintle; `RUNTIME_PROGRAM=target/release/pintle cargo test …` tells the stories with another build of it.
pub fn pintle() -> PathBuf {
    std::env::var_os("RUNTIME_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_pintle").into(), PathBuf::from)
}

fn log_file() -> PathBuf {
    Path::new(SCRATCH).join("runtime.log")
}
