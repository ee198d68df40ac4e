//! The kubelet's settings, resolved: every default filled in, every value checked. `file` reads upstream's file format.
//!
//! Must not know: where a setting came from.

pub mod file;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use crate::plan::admission;

/// How the node agent is set up. `Default` is upstream's defaults with anonymous access off and webhooks on.
#[derive(Debug, Clone)]
pub struct Config {
    /// The Node object's name, lower case.
    pub node_name: String,
    /// State of pods: volumes, hosts files. `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// Containers' logs, `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// Symbolic links to them with upstream's older names, `/var/log/containers`.
    pub container_logs_dir: PathBuf,
    /// Manifests of static pods; none: no static pods.
    pub static_pod_path: Option<PathBuf>,
    /// The node's own addresses; empty: the address of the default route.
    pub node_ips: Vec<IpAddr>,
    pub node_labels: BTreeMap<String, String>,
    pub register_with_taints: Vec<Taint>,
    pub register_node: bool,
    pub provider_id: Option<String>,
    /// Where the server listens.
    pub address: IpAddr,
    pub port: u16,
    pub tls: Option<ServerTls>,
    pub anonymous_auth: bool,
    /// Bearer tokens are checked by TokenReview.
    pub webhook_authentication: bool,
    pub authorization: Authorization,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub resolv_conf: PathBuf,
    /// Used where the runtime does not tell its own.
    pub cgroup_driver: CgroupDriver,
    /// The parent of `kubepods`, `/` by default.
    pub cgroup_root: String,
    pub cgroups_per_qos: bool,
    /// Processes that a pod may have together; `None` without a limit of the kubelet's.
    pub pod_pids_limit: Option<i64>,
    /// Under cgroup v2: the OOM killer takes one process and not its whole container.
    pub single_process_oom_kill: bool,
    pub max_pods: u32,
    /// IDs of the host for the users of each pod that has its own: a multiple of 65,536.
    pub user_ids_per_pod: u32,
    pub container_log_max_size: u64,
    pub container_log_max_files: usize,
    pub container_log_monitor_interval: Duration,
    pub node_status_update_frequency: Duration,
    pub node_status_report_frequency: Duration,
    pub node_lease_duration: Duration,
    /// The slow resync behind the events.
    pub sync_frequency: Duration,
    /// Percent of the image disk at which images are collected, and down to which.
    pub image_gc_high: u8,
    pub image_gc_low: u8,
    pub image_minimum_gc_age: Duration,
    pub serialize_image_pulls: bool,
    pub max_parallel_image_pulls: usize,
    pub max_container_backoff: Duration,
    pub seccomp_default: bool,
    /// Sysctls that pods may set beyond the safe ones; a pattern ends in `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Taken from capacity: resource name to quantity.
    pub kube_reserved: BTreeMap<String, String>,
    pub system_reserved: BTreeMap<String, String>,
}

/// How the server on 10250 shows itself and whom it trusts, all PEM.
#[derive(Clone)]
pub struct ServerTls {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// The authority of client certificates; none: no client certificate is accepted.
    pub client_ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("client_ca", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    AlwaysAllow,
    /// SubjectAccessReview.
    Webhook,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            container_logs_dir: "/var/log/containers".into(),
            static_pod_path: None,
            node_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            register_node: true,
            provider_id: None,
            address: IpAddr::from([0, 0, 0, 0]),
            port: 10250,
            tls: None,
            anonymous_auth: false,
            webhook_authentication: true,
            authorization: Authorization::Webhook,
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_root: "/".into(),
            cgroups_per_qos: true,
            pod_pids_limit: None,
            single_process_oom_kill: false,
            max_pods: 110,
            user_ids_per_pod: crate::users::UNIT,
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            container_log_monitor_interval: Duration::from_secs(10),
            node_status_update_frequency: Duration::from_secs(10),
            node_status_report_frequency: Duration::from_secs(300),
            node_lease_duration: Duration::from_secs(40),
            sync_frequency: Duration::from_secs(60),
            image_gc_high: 85,
            image_gc_low: 80,
            image_minimum_gc_age: Duration::from_secs(120),
            serialize_image_pulls: false,
            max_parallel_image_pulls: 5,
            max_container_backoff: Duration::from_secs(300),
            seccomp_default: false,
            allowed_unsafe_sysctls: Vec::new(),
            kube_reserved: BTreeMap::new(),
            system_reserved: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Checks what no single field can say.
    ///
    /// # Errors
    /// Every violation, one per line.
    pub fn validate(&self) -> anyhow::Result<()> {
        let mut wrong = Vec::new();
        if self.node_name.is_empty() {
            wrong.push("the node name is empty".to_string());
        }
        if self.image_gc_low >= self.image_gc_high || self.image_gc_high > 100 {
            let (high, low) = (self.image_gc_high, self.image_gc_low);
            wrong.push(format!(
                "imageGCHighThresholdPercent ({high}) must be at most 100 and above imageGCLowThresholdPercent ({low})"
            ));
        }
        if self.container_log_max_files < 2 {
            wrong.push(format!("containerLogMaxFiles ({}) must be at least 2", self.container_log_max_files));
        }
        if self.max_container_backoff < Duration::from_secs(1) {
            wrong.push("crashLoopBackOff.maxContainerRestartPeriod must be at least 1s".to_string());
        }
        let patterns = self.allowed_unsafe_sysctls.iter().map(|pattern| admission::check_pattern(pattern));
        wrong.extend(patterns.filter_map(|checked| Some(format!("allowedUnsafeSysctls: {}", checked.err()?))));
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// A pod's own directory.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }
}
