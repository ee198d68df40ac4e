//! A containerd of the test's own without its CRI, and our runtime over it.
//!
//! Must not know: what is tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pintle_bundle::CgroupDriver;
use pintle_containerd::{Config, Runtime};
use pintle_cri::archive::{Entry, Image, ImageConfig, layer};
use pintle_cri::v1::*;
use pintle_cri::{ImageClient, RuntimeClient};

pub const SHELL: &str = "pintle.test/shell:1";

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
    pub runtime: RuntimeClient,
    pub images: ImageClient,
    dir: tempfile::TempDir,
    containerd: Child,
}

impl Machine {
    pub async fn start() -> Self {
        // The one provider, which the product installs in `main`; the first test of a process does it here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::Builder::new().prefix("bundle-").tempdir_in("/tmp").unwrap();
        fs::write(dir.path().join("config.toml"), configuration(dir.path())).unwrap();
        let containerd = spawn(dir.path());
        let started = until(|| Runtime::start(config(dir.path()))).await;
        let channel = started.channel();
        let (runtime, images) = (RuntimeClient::new(channel.clone()), ImageClient::new(channel));
        let machine = Self { runtime, images, dir, containerd };
        machine.import_shell().await;
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Our runtime ends without a word, and another starts over what it left.
    pub async fn restart_runtime(&mut self) {
        let started = Runtime::start(config(self.dir.path())).await.unwrap();
        self.runtime = RuntimeClient::new(started.channel());
        self.images = ImageClient::new(started.channel());
    }

    /// containerd is killed and started again; its shims live on.
    pub async fn restart_containerd(&mut self) {
        self.containerd.kill().unwrap();
        self.containerd.wait().unwrap();
        self.containerd = spawn(self.dir.path());
        until(async || self.runtime.clone().list_containers(ListContainersRequest::default()).await).await;
    }

    async fn import_shell(&self) {
        let busybox = fs::read("/bin/busybox").unwrap();
        let applets = ["sh", "cat", "echo", "sleep", "seq", "true", "id", "ls", "mount", "hostname"];
        let paths: Vec<String> = applets.iter().map(|name| format!("bin/{name}")).collect();
        let passwd = b"root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        let mut entries = vec![Entry::directory("tmp", 0o1777), Entry::directory("etc", 0o755)];
        entries.push(Entry::file("etc/passwd", 0o644, passwd));
        entries.push(Entry::file("etc/group", 0o644, b"root:x:0:\naudio:x:63:ann\n"));
        entries.push(Entry::file("bin/busybox", 0o755, &busybox));
        entries.extend(paths.iter().map(|path| Entry::link(path, "busybox")));
        let config = ImageConfig { env: vec!["PATH=/bin".into()], ..Default::default() };
        let archive = Image::build(&config, vec![layer(&entries)]).archive(SHELL);
        let socket = containerd_client::connect(self.path("c.sock")).await.unwrap();
        assert_eq!(pintle_cri::import_into_containerd(socket, &archive).await.unwrap(), [SHELL]);
    }

    /// A sandbox on the host's network, so that no plugin is needed.
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
            log_directory: self.path("logs").display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.dir.path().file_name().unwrap().to_str().unwrap()),
                security_context: Some(context),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let answer = self.runtime.clone().run_pod_sandbox(request).await.unwrap();
        (answer.into_inner().pod_sandbox_id, config)
    }

    /// A container whose log is `<name>.log`, made and started.
    pub async fn container(&self, sandbox: &(String, PodSandboxConfig), name: &str, script: &str) -> String {
        let id = self.create(sandbox, name, script, LinuxContainerConfig::default()).await.unwrap();
        self.runtime.clone().start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
        id
    }

    pub async fn create(
        &self,
        sandbox: &(String, PodSandboxConfig),
        name: &str,
        script: &str,
        linux: LinuxContainerConfig,
    ) -> Result<String, tonic::Status> {
        self.create_as(sandbox, ContainerConfig { linux: Some(linux), ..shell(name, script) }).await
    }

    pub async fn create_as(
        &self,
        sandbox: &(String, PodSandboxConfig),
        config: ContainerConfig,
    ) -> Result<String, tonic::Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.0.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox.1.clone()),
        };
        Ok(self.runtime.clone().create_container(request).await?.into_inner().container_id)
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.runtime.clone().container_status(request).await.unwrap().into_inner().status.unwrap()
    }

    /// The status of a container once it has ended.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        until(async || {
            let status = self.status(id).await;
            if status.state() == ContainerState::ContainerExited { Ok(status) } else { Err("it runs") }
        })
        .await
    }

    pub async fn exec(&self, id: &str, script: &str) -> (i32, String) {
        let cmd = vec!["/bin/sh".into(), "-c".into(), script.into()];
        let request = ExecSyncRequest { container_id: id.into(), cmd, timeout: 20 };
        let answer = self.runtime.clone().exec_sync(request).await.unwrap().into_inner();
        (answer.exit_code, String::from_utf8(answer.stdout).unwrap() + std::str::from_utf8(&answer.stderr).unwrap())
    }

    /// What a container wrote, without times.
    pub fn log(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("logs").join(format!("{name}.log"))).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

/// A container that runs a script and logs it.
pub fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: SHELL.into(), ..Default::default() }),
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        log_path: format!("{name}.log"),
        ..Default::default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Shims outlive containerd, so the pods go first; from another thread, which may block.
        let config = config(self.dir.path());
        let cleaned = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio.block_on(async {
                let runtime = RuntimeClient::new(Runtime::start(config).await.unwrap().channel());
                remove_pods(runtime).await;
            });
        });
        let _ = cleaned.join();
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
        let name = self.dir.path().file_name().unwrap().to_owned();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(&name));
        }
    }
}

async fn remove_pods(mut client: RuntimeClient) {
    for pod in client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items {
        client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod.id }).await.unwrap();
    }
}

fn config(dir: &Path) -> Config {
    Config {
        socket: dir.join("c.sock"),
        state: dir.join("run"),
        root: dir.join("lib"),
        cni_conf_dir: dir.join("net.d"),
        cni_bin_dirs: vec!["/usr/lib/cni".into()],
        snapshotter: "overlayfs".into(),
        cgroup_driver: CgroupDriver::Cgroupfs,
        namespaces: Vec::new(),
        registries: pintle_images::Config::default(),
    }
}

fn spawn(dir: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new("containerd");
    command.arg("--config").arg(dir.join("config.toml")).stderr(log).stdout(Stdio::null());
    command.spawn().unwrap()
}

/// As Docker ships containerd: without its CRI.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{dir}/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
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
        Err(error) => panic!("still failing: {error:#}"),
    }
}
