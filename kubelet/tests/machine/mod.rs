//! A containerd of the test's own, with its state below a temporary directory and a shell image of busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pintle_cri::archive::{Entry, Image, ImageConfig, layer};
use pintle_cri::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use pintle_cri::{Runtime, connect};

pub const SHELL: &str = "pintle.test/shell:1";

/// Whether this machine can run containers at all; says so when not.
pub fn possible() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    let root = nix::unistd::geteuid().is_root();
    let all = root && found("containerd") && found("runc") && Path::new("/bin/busybox").exists();
    if !all {
        eprintln!("skipped: needs root, containerd, runc and a static busybox");
    }
    all
}

pub struct Machine {
    pub runtime: Runtime,
    dir: tempfile::TempDir,
    containerd: Child,
}

impl Machine {
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("kubelet-").tempdir_in("/tmp").unwrap();
        fs::write(dir.path().join("config.toml"), configuration(dir.path())).unwrap();
        let log = fs::File::create(dir.path().join("containerd.log")).unwrap();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(dir.path().join("config.toml")).stderr(log).stdout(Stdio::null());
        let containerd = command.spawn().unwrap();
        let socket = dir.path().join("c.sock");
        let runtime = until(async || connect(socket.to_str().unwrap()).await.ok()).await;
        runtime.ensure_sandbox_image().await.unwrap();
        assert_eq!(runtime.import_images(&shell()).await.unwrap(), [SHELL]);
        Self { runtime, dir, containerd }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory is empty or not there.
    pub fn is_gone(&self, name: &str) -> bool {
        fs::read_dir(self.path(name)).into_iter().flatten().next().is_none()
    }
}

fn shell() -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").unwrap();
    let entries = [
        Entry::file("bin/busybox", 0o755, &busybox),
        Entry::link("bin/sh", "busybox"),
        Entry::link("bin/sleep", "busybox"),
        Entry::directory("tmp", 0o1777),
        Entry::directory("etc", 0o755),
    ];
    let config = ImageConfig { env: vec!["PATH=/bin".into()], ..Default::default() };
    Image::build(&config, vec![layer(&entries)]).archive(SHELL)
}

impl Drop for Machine {
    fn drop(&mut self) {
        let socket = self.path("c.sock");
        // shims outlive containerd, so the pods go first; from another thread, which may block
        let cleaned = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio.block_on(remove_pods(&socket));
        });
        let _ = cleaned.join();
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
    }
}

async fn remove_pods(socket: &Path) {
    let Ok(runtime) = connect(socket.to_str().unwrap()).await else { return };
    let mut client = runtime.runtime.clone();
    let Ok(listed) = client.list_pod_sandbox(ListPodSandboxRequest::default()).await else { return };
    for sandbox in listed.into_inner().items {
        let _ = client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() }).await;
        let _ = client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.id }).await;
    }
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
  address = "{dir}/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "pintle.test/pause:1"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{dir}/net.d"
"#
    )
}

/// Looks until there is an answer, for half a minute at most.
pub async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("what the test waits for did not come");
}
