//! Pods and containers as a kubelet asks for them.
//!
//! Must not know: any story.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pintle_cri::v1;

use crate::node::Node;

/// A bound, not an expectation.
const WITHIN: Duration = Duration::from_secs(30);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A pod that runs.
#[derive(Debug, Clone)]
pub struct Pod {
    pub id: String,
    pub config: v1::PodSandboxConfig,
}

/// A pod's configuration: a network of its own, nothing special.
pub fn pod_config(name: &str) -> v1::PodSandboxConfig {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.into(),
            uid: format!("{name}-{number}"),
            namespace: "stories".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: format!("/var/log/pods/{name}-{number}"),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("/stories/{name}-{number}"),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// As the kubelet asks for by default.
pub fn namespaces() -> v1::NamespaceOption {
    v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() }
}

/// On the host's network.
pub fn on_host_network(mut config: v1::PodSandboxConfig) -> v1::PodSandboxConfig {
    security(&mut config).network = v1::NamespaceMode::Node.into();
    config.hostname.clear();
    config
}

pub fn security(config: &mut v1::PodSandboxConfig) -> &mut v1::NamespaceOption {
    let context = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
    context.and_then(|context| context.namespace_options.as_mut()).expect("namespaces")
}

/// A container that runs a line of shell.
pub fn container_config(node: &Node, pod: &Pod, name: &str, line: &str) -> v1::ContainerConfig {
    shell_config(&node.images.shell, &pod.config, name, line)
}

/// The same, of an image with a shell, for a pod of this configuration.
pub fn shell_config(image: &str, pod: &v1::PodSandboxConfig, name: &str, line: &str) -> v1::ContainerConfig {
    let context = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let namespaces = context.and_then(|context| context.namespace_options.clone());
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: image.into(), ..Default::default() }),
        command: vec!["/bin/sh".into(), "-c".into(), line.into()],
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: namespaces,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Node {
    pub async fn run_pod(&self, config: v1::PodSandboxConfig) -> Pod {
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let id = self.cri().run_pod_sandbox(request).await.expect("a sandbox").into_inner().pod_sandbox_id;
        Pod { id, config }
    }

    pub async fn create(&self, pod: &Pod, config: v1::ContainerConfig) -> String {
        self.try_create(pod, config).await.expect("a container")
    }

    pub async fn try_create(&self, pod: &Pod, config: v1::ContainerConfig) -> Result<String, tonic::Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        Ok(self.cri().create_container(request).await?.into_inner().container_id)
    }

    /// Created and started.
    pub async fn run(&self, pod: &Pod, name: &str, line: &str) -> String {
        let id = self.create(pod, container_config(self, pod, name, line)).await;
        self.start_container(&id).await.expect("a start");
        id
    }

    pub async fn start_container(&self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::StartContainerRequest { container_id: id.into() };
        self.cri().start_container(request).await.map(drop)
    }

    pub async fn stop_container(&self, id: &str, timeout: i64) {
        let request = v1::StopContainerRequest { container_id: id.into(), timeout };
        self.cri().stop_container(request).await.expect("a stop");
    }

    pub async fn status(&self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.cri().container_status(request).await.expect("a status").into_inner().status.expect("a status")
    }

    pub async fn exec(&self, id: &str, line: &str) -> v1::ExecSyncResponse {
        let cmd = vec!["/bin/sh".into(), "-c".into(), line.into()];
        let request = v1::ExecSyncRequest { container_id: id.into(), cmd, timeout: 20 };
        self.cri().exec_sync(request).await.expect("an exec").into_inner()
    }

    /// What a command printed.
    pub async fn output(&self, id: &str, line: &str) -> String {
        let done = self.exec(id, line).await;
        assert_eq!(done.exit_code, 0, "{line}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Waits until a container has exited.
    pub async fn exited(&self, id: &str) -> v1::ContainerStatus {
        self.until("it exits", async || self.status(id).await.state() == v1::ContainerState::ContainerExited).await;
        self.status(id).await
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !is_so().await {
            assert!(started.elapsed() < WITHIN, "waited too long until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn stop_pod(&self, pod: &Pod) {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.cri().stop_pod_sandbox(request).await.expect("a stop");
    }

    pub async fn remove_pod(&self, pod: &Pod) {
        self.stop_pod(pod).await;
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.cri().remove_pod_sandbox(request).await.expect("a removal");
    }

    pub async fn pod_status(&self, pod: &Pod) -> v1::PodSandboxStatus {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
        self.cri().pod_sandbox_status(request).await.expect("a status").into_inner().status.expect("a status")
    }

    /// A container's log, without its timestamps.
    pub fn container_log(&self, pod: &Pod, name: &str) -> String {
        let path = format!("{}/{name}.log", pod.config.log_directory);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| format!("{rest}\n")).collect()
    }
}
