//! What a test works with: pods of its own, containers, what they print.
//!
//! Must not know: any one demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pintle_cri::{ImageClient, RuntimeClient, log, v1};

use crate::controllers::Controllers;
use crate::demand::{Skip, image};
use crate::images::{PROGRAM_PATH, TOOLS};
use crate::registry::Registry;

/// The label by which everything that a run made is found again.
pub const MARK: &str = "pintle-conformance";
/// What a sandbox's containers may have to end by themselves, where a runtime gives them what its caller's deadline leaves.
pub const STOP_SOON: Duration = Duration::from_secs(10);
/// How much later than a container's end its log may be written on a busy machine.
const LOG_LAG: Duration = Duration::from_secs(5);
/// How often a state is looked at that the CRI has no event for in every runtime.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Within which a state must come; the test's own bound is longer.
const WITHIN: Duration = Duration::from_secs(30);

/// What all tests of a run share.
pub struct Shared {
    pub runtime: pintle_cri::Runtime,
    pub registry: Registry,
    /// Whether the runtime has a pod network; without one, pods are on the host's.
    pub pod_network: bool,
    /// What the runtime told of itself.
    pub told: v1::StatusResponse,
    /// It serves `RuntimeConfig`, so it is of CRI 1.28 or younger.
    pub modern: bool,
    /// Who makes cgroups.
    pub cgroup_driver: v1::CgroupDriver,
    pub controllers: Controllers,
    /// Below it are the logs of containers and the files of tests.
    pub dir: PathBuf,
}

pub struct Bench {
    pub shared: Arc<Shared>,
    /// Names this test's pods.
    pub mark: String,
    number: AtomicU32,
}

/// A pod that runs.
#[derive(Debug, Clone)]
pub struct Pod {
    pub id: String,
    pub config: v1::PodSandboxConfig,
}

impl Bench {
    pub fn new(shared: Arc<Shared>, mark: String) -> Self {
        Self { shared, mark, number: AtomicU32::new(0) }
    }

    pub fn cri(&self) -> RuntimeClient {
        self.shared.runtime.runtime.clone()
    }

    pub fn image_service(&self) -> ImageClient {
        self.shared.runtime.images.clone()
    }

    /// A folder of this test's own on the host.
    pub fn dir(&self) -> anyhow::Result<PathBuf> {
        let dir = self.shared.dir.join(&self.mark);
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }

    /// As a kubelet asks for by default: a network for the pod, PIDs for each container.
    pub fn pod_config(&self) -> v1::PodSandboxConfig {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let network = if self.shared.pod_network { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Node };
        let namespaces = v1::NamespaceOption {
            network: network.into(),
            pid: v1::NamespaceMode::Container.into(),
            ..Default::default()
        };
        let name = format!("{}-{number}", self.mark);
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                uid: name.clone(),
                namespace: "conformance".into(),
                name: name.clone(),
                attempt: 0,
            }),
            log_directory: self.shared.dir.join(&self.mark).join(&name).display().to_string(),
            labels: [(MARK.to_owned(), self.mark.clone())].into(),
            linux: Some(v1::LinuxPodSandboxConfig {
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..Default::default()
                }),
                cgroup_parent: self.cgroup_parent().into(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Kubelets always name one. Where none is, runtimes choose for themselves, but under systemd not all of them can:
    /// there it is the slice that upstream's critest names.
    fn cgroup_parent(&self) -> &'static str {
        match self.shared.cgroup_driver {
            v1::CgroupDriver::Systemd => "system.slice",
            v1::CgroupDriver::Cgroupfs => "",
        }
    }

    /// Asks for namespaces other than the default ones.
    pub fn pod_config_with(&self, change: impl FnOnce(&mut v1::NamespaceOption)) -> v1::PodSandboxConfig {
        let mut config = self.pod_config();
        let context = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
        if let Some(namespaces) = context.and_then(|context| context.namespace_options.as_mut()) {
            change(namespaces);
        }
        config
    }

    pub async fn pod(&self) -> anyhow::Result<Pod> {
        self.run_pod(self.pod_config()).await
    }

    pub async fn run_pod(&self, config: v1::PodSandboxConfig) -> anyhow::Result<Pod> {
        std::fs::create_dir_all(&config.log_directory)?;
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let answer = self.cri().run_pod_sandbox(request).await.context("RunPodSandbox")?;
        Ok(Pod { id: answer.into_inner().pod_sandbox_id, config })
    }

    pub async fn pod_status(&self, pod: &Pod) -> Result<v1::PodSandboxStatus, tonic::Status> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
        let answer = self.cri().pod_sandbox_status(request).await?.into_inner();
        answer.status.ok_or_else(|| tonic::Status::data_loss("an answer without a status"))
    }

    pub async fn stop_pod(&self, pod: &Pod) -> anyhow::Result<()> {
        self.shared.runtime.stop_sandbox(&pod.id, STOP_SOON).await.context("StopPodSandbox")
    }

    pub async fn remove_pod(&self, pod: &Pod) -> anyhow::Result<()> {
        self.shared.runtime.remove_sandbox(&pod.id, STOP_SOON).await.context("RemovePodSandbox")
    }

    /// A container `main` of the tools' image that does this.
    pub fn container(&self, pod: &Pod, words: &[&str]) -> v1::ContainerConfig {
        let context = pod.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let namespace_options = context.and_then(|context| context.namespace_options.clone());
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(image(&self.shared.registry.tagged(TOOLS))),
            command: command(words),
            labels: pod.config.labels.clone(),
            log_path: "main.log".into(),
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext { namespace_options, ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The same with another security context.
    pub fn secured(
        &self,
        pod: &Pod,
        words: &[&str],
        change: impl FnOnce(&mut v1::LinuxContainerSecurityContext),
    ) -> v1::ContainerConfig {
        let mut config = self.container(pod, words);
        if let Some(context) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
            change(context);
        }
        config
    }

    pub async fn create(&self, pod: &Pod, config: v1::ContainerConfig) -> anyhow::Result<String> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let answer = self.cri().create_container(request).await.context("CreateContainer")?;
        Ok(answer.into_inner().container_id)
    }

    pub async fn start(&self, id: &str) -> Result<(), tonic::Status> {
        self.cri().start_container(v1::StartContainerRequest { container_id: id.into() }).await.map(drop)
    }

    /// Another container of the same pod: its name, and its log's.
    pub fn named(mut config: v1::ContainerConfig, name: &str) -> v1::ContainerConfig {
        config.metadata = Some(v1::ContainerMetadata { name: name.into(), attempt: 0 });
        config.log_path = format!("{name}.log");
        config
    }

    /// A container with limits.
    pub fn limited(&self, pod: &Pod, words: &[&str], limits: v1::LinuxContainerResources) -> v1::ContainerConfig {
        let mut config = self.container(pod, words);
        if let Some(linux) = config.linux.as_mut() {
            linux.resources = Some(limits);
        }
        config
    }

    /// Started, and has said that it is ready.
    pub async fn ready(&self, pod: &Pod, config: v1::ContainerConfig) -> anyhow::Result<String> {
        let path = config.log_path.clone();
        let id = self.run(pod, config).await?;
        self.until("it is ready", async || Ok(self.log(pod, &path).contains("ready"))).await?;
        Ok(id)
    }

    /// Created and started.
    pub async fn run(&self, pod: &Pod, config: v1::ContainerConfig) -> anyhow::Result<String> {
        let id = self.create(pod, config).await?;
        self.start(&id).await.context("StartContainer")?;
        Ok(id)
    }

    /// A container that waits for SIGTERM, and is ready for it.
    pub async fn waiting(&self, pod: &Pod) -> anyhow::Result<String> {
        self.ready(pod, self.container(pod, &["wait"])).await
    }

    pub async fn stop(&self, id: &str, timeout: i64) -> anyhow::Result<()> {
        let request = v1::StopContainerRequest { container_id: id.into(), timeout };
        self.cri().stop_container(request).await.map(drop).context("StopContainer")
    }

    pub async fn remove(&self, id: &str) -> anyhow::Result<()> {
        let request = v1::RemoveContainerRequest { container_id: id.into() };
        self.cri().remove_container(request).await.map(drop).context("RemoveContainer")
    }

    pub async fn status(&self, id: &str) -> Result<v1::ContainerStatus, tonic::Status> {
        let request = v1::ContainerStatusRequest { container_id: id.into(), verbose: false };
        let answer = self.cri().container_status(request).await?.into_inner();
        answer.status.ok_or_else(|| tonic::Status::data_loss("an answer without a status"))
    }

    /// The status of a container that has exited, once it has.
    pub async fn exited(&self, id: &str) -> anyhow::Result<v1::ContainerStatus> {
        let has = async || Ok(self.status(id).await?.state() == v1::ContainerState::ContainerExited);
        self.until("the container exits", has).await?;
        Ok(self.status(id).await?)
    }

    /// What a container printed that ran until its end, its status 0.
    pub async fn printed(&self, pod: &Pod, config: v1::ContainerConfig) -> anyhow::Result<String> {
        let path = config.log_path.clone();
        let id = self.run(pod, config).await?;
        let status = self.exited(&id).await?;
        // that a log is whole once its container's end is told, `log/much` demands; containerd 1.6 may be late on a busy
        // machine, and nothing else shall fail for that
        let written = self.until("something was printed", async || Ok(!self.log(pod, &path).is_empty()));
        let _ = tokio::time::timeout(LOG_LAG, written).await;
        let text = self.log(pod, &path);
        ensure!(status.exit_code == 0, "it exited with {}: {text}", status.exit_code);
        Ok(text)
    }

    /// The text of a log, both streams, without what the log adds.
    pub fn log(&self, pod: &Pod, path: &str) -> String {
        let bytes = std::fs::read(Path::new(&pod.config.log_directory).join(path)).unwrap_or_default();
        let records = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| log::parse(line).ok());
        records.map(|record| String::from_utf8_lossy(record.content).into_owned()).collect()
    }

    pub async fn exec(&self, id: &str, words: &[&str]) -> Result<v1::ExecSyncResponse, tonic::Status> {
        let request = v1::ExecSyncRequest { container_id: id.into(), cmd: command(words), timeout: 20 };
        Ok(self.cri().exec_sync(request).await?.into_inner())
    }

    /// What a command printed that went well, without the last newline.
    pub async fn said(&self, id: &str, words: &[&str]) -> anyhow::Result<String> {
        let done = self.exec(id, words).await.context("ExecSync")?;
        let complaint = String::from_utf8_lossy(&done.stderr);
        ensure!(done.exit_code == 0, "{words:?} exited with {}: {complaint}", done.exit_code);
        Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
    }

    /// What a command complained that did not go well.
    pub async fn complained(&self, id: &str, words: &[&str]) -> anyhow::Result<String> {
        let done = self.exec(id, words).await.context("ExecSync")?;
        ensure!(done.exit_code != 0, "{words:?} went well");
        Ok(String::from_utf8_lossy(&done.stderr).trim_end().to_owned())
    }

    /// Looks again until something is so.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let looked = async {
            while !is_so().await? {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(())
        };
        tokio::time::timeout(WITHIN, looked).await.with_context(|| format!("waited too long until {what}"))?
    }

    /// # Errors
    /// [`Skip`] where the runtime is older than what is demanded, so that kubelets do without it.
    pub fn needs_modern(&self, what: &str) -> anyhow::Result<()> {
        let older = || Skip(format!("{what} came to CRI after this runtime, which serves no RuntimeConfig"));
        if self.shared.modern { Ok(()) } else { Err(older().into()) }
    }

    /// # Errors
    /// [`Skip`] where the runtime says that its default handler cannot do that, so that kubelets ask nobody for it.
    pub fn needs_handler(&self, what: &str, can: impl Fn(&v1::RuntimeHandlerFeatures) -> bool) -> anyhow::Result<()> {
        let default = self.shared.told.runtime_handlers.iter().find(|one| one.name.is_empty());
        let told = default.and_then(|one| one.features.as_ref());
        if told.is_some_and(can) { Ok(()) } else { Err(Skip(format!("Status tells no {what}")).into()) }
    }

    /// # Errors
    /// [`Skip`] where the kernel lacks one of these cgroup controllers.
    pub fn needs_controllers(&self, names: &[&str]) -> anyhow::Result<()> {
        self.shared.controllers.need(names)
    }

    /// # Errors
    /// [`Skip`] where pods have no network of their own.
    pub fn needs_pod_network(&self) -> anyhow::Result<()> {
        if self.shared.pod_network { Ok(()) } else { Err(Skip("the runtime's network is not ready".into()).into()) }
    }
}

/// The program's path and what it is to do.
pub fn command(words: &[&str]) -> Vec<String> {
    std::iter::once(PROGRAM_PATH).chain(words.iter().copied()).map(str::to_owned).collect()
}

/// The value of a line `NAME:\tvalue` of a process's status.
pub fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}
