//! The annotations that tell an OCI runtime what it runs, under containerd's names, which kata and others read.
//!
//! Must not know: who reads them.

use std::collections::HashMap;

use pintle_cri::v1::PodSandboxConfig;

pub const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
/// `sandbox` or `container`.
pub const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// Annotations of a container.
pub(crate) fn of_container(
    sandbox_id: &str,
    sandbox: &PodSandboxConfig,
    name: &str,
    image: &str,
) -> HashMap<String, String> {
    let mut all = of_pod(sandbox_id, sandbox);
    put(&mut all, CONTAINER_TYPE, "container");
    put(&mut all, "io.kubernetes.cri.container-name", name);
    put(&mut all, "io.kubernetes.cri.image-name", image);
    all
}

/// Annotations of a sandbox's own process.
pub(crate) fn of_sandbox(id: &str, config: &PodSandboxConfig, image: &str) -> HashMap<String, String> {
    let mut all = of_pod(id, config);
    put(&mut all, CONTAINER_TYPE, "sandbox");
    put(&mut all, "io.kubernetes.cri.sandbox-log-directory", &config.log_directory);
    put(&mut all, "io.kubernetes.cri.podsandbox.image-name", image);
    if let Some(resources) = config.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
        put(&mut all, "io.kubernetes.cri.sandbox-cpu-period", &resources.cpu_period.to_string());
        put(&mut all, "io.kubernetes.cri.sandbox-cpu-quota", &resources.cpu_quota.to_string());
        put(&mut all, "io.kubernetes.cri.sandbox-cpu-shares", &resources.cpu_shares.to_string());
        put(&mut all, "io.kubernetes.cri.sandbox-memory", &resources.memory_limit_in_bytes.to_string());
    }
    all
}

fn of_pod(id: &str, config: &PodSandboxConfig) -> HashMap<String, String> {
    let metadata = config.metadata.clone().unwrap_or_default();
    let mut all = HashMap::new();
    put(&mut all, SANDBOX_ID, id);
    put(&mut all, "io.kubernetes.cri.sandbox-namespace", &metadata.namespace);
    put(&mut all, "io.kubernetes.cri.sandbox-uid", &metadata.uid);
    put(&mut all, "io.kubernetes.cri.sandbox-name", &metadata.name);
    all
}

fn put(all: &mut HashMap<String, String>, name: &str, value: &str) {
    all.insert(name.to_owned(), value.to_owned());
}
