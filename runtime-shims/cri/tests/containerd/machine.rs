//! A containerd of the test's own, with its state below a temporary directory, and pods in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pintle_cri::archive::{Entry, Image, ImageConfig, layer};
use pintle_cri::v1::*;
use pintle_cri::{Runtime, connect};

pub const SHELL: &str = "pintle.test/shell:1";
const SANDBOX_IMAGE: &str = "pintle.test/pause:1";

/// Whether this machine can run containers at all; says so when not.
pub fn possible() -> bool {
    let found = |program: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).exists())
    };
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
        let dir = tempfile::Builder::new().prefix("cri-").tempdir_in("/tmp").unwrap();
        let socket = dir.path().join("c.sock");
        fs::write(dir.path().join("config.toml"), configuration(dir.path())).unwrap();
        let containerd = spawn(dir.path());
        let runtime = until(|| connect(socket.to_str().unwrap())).await;
        let machine = Self { runtime, dir, containerd };
        machine.runtime.ensure_sandbox_image().await.unwrap();
        machine.import_shell().await;
        machine
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("c.sock")
    }

    async fn import_shell(&self) {
        let busybox = fs::read("/bin/busybox").unwrap();
        let applets = [
            "sh",
            "cat",
            "echo",
            "sleep",
            "stty",
            "tar",
            "nc",
            "seq",
            "true",
            "tr",
            "ls",
            "mkdir",
            "grep",
            "sha256sum",
        ];
        let paths: Vec<String> = applets.iter().map(|name| format!("bin/{name}")).collect();
        let mut entries = vec![Entry::directory("tmp", 0o1777), Entry::directory("etc", 0o755)];
        entries.push(Entry::file("bin/busybox", 0o755, &busybox));
        entries.extend(paths.iter().map(|path| Entry::link(path, "busybox")));
        let config = ImageConfig { env: vec!["PATH=/bin".into()], ..Default::default() };
        let archive = Image::build(&config, vec![layer(&entries)]).archive(SHELL);
        assert_eq!(self.runtime.import_images(&archive).await.unwrap(), [SHELL]);
        until(async || {
            let image = Some(ImageSpec { image: SHELL.into(), ..Default::default() });
            let answer = self.runtime.images.clone().image_status(ImageStatusRequest { image, verbose: false }).await;
            answer.unwrap().into_inner().image.ok_or("not yet")
        })
        .await;
    }

    /// A sandbox on the host's network, so that no CNI configuration is needed.
    pub async fn sandbox(&self, name: &str) -> (String, PodSandboxConfig) {
        let namespaces = NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() };
        let context = LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: name.into(),
                namespace: "default".into(),
                attempt: 0,
            }),
            log_directory: self.dir.path().join("logs").to_str().unwrap().into(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.dir.path().file_name().unwrap().to_str().unwrap()),
                security_context: Some(context),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let id = self.runtime.runtime.clone().run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
        (id, config)
    }

    pub async fn container(&self, sandbox: &(String, PodSandboxConfig), script: &str) -> String {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(ImageSpec { image: SHELL.into(), ..Default::default() }),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            log_path: "main.log".into(),
            stdin: true,
            linux: Some(LinuxContainerConfig::default()),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.0.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox.1.clone()),
        };
        let mut client = self.runtime.runtime.clone();
        let id = client.create_container(request).await.unwrap().into_inner().container_id;
        client.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
        id
    }

    /// Kills containerd and starts another over the same state.
    pub fn restart(&mut self) {
        self.containerd.kill().unwrap();
        self.containerd.wait().unwrap();
        self.containerd = spawn(self.dir.path());
    }

    /// The log of the container made last.
    pub fn log(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("logs/main.log")).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let socket = self.socket();
        // Shims outlive containerd, so the pods go first; from another thread, which may block.
        let cleaned = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio.block_on(remove_pods(socket))
        });
        let _ = cleaned.join();
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
        remove_cgroups(self.dir.path());
    }
}

/// The pods' parent, in every hierarchy there is.
fn remove_cgroups(dir: &Path) {
    let name = dir.file_name().unwrap();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(name));
    }
}

async fn remove_pods(socket: PathBuf) {
    let mut client = connect(socket.to_str().unwrap()).await.unwrap().runtime;
    for pod in client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items {
        let pod_sandbox_id = pod.id;
        client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await.unwrap();
        client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
    }
}

fn spawn(dir: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new("containerd");
    command.arg("--config").arg(dir.join("config.toml")).stderr(log).stdout(Stdio::null());
    command.spawn().unwrap()
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
  sandbox_image = "{SANDBOX_IMAGE}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{dir}/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"#
    )
}

/// Tries until it works; the test runner bounds it.
pub async fn until<T, E: std::fmt::Display>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    for _ in 0..600 {
        match attempt().await {
            Ok(done) => return done,
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    match attempt().await {
        Ok(done) => done,
        Err(error) => panic!("still failing: {error}"),
    }
}
