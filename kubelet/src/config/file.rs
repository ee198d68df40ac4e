//! Upstream's KubeletConfiguration (kubelet.config.k8s.io/v1beta1), the fields this kubelet has; any other field is
//! named in a warning and has no effect, as upstream goes on without what it does not know.
//!
//! Must not know: flags.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;

use super::{Authorization, CgroupDriver, Config, ServerTls};
use crate::plan::quantity;

/// Fields that nobody here reads.
type Unknown = BTreeMap<String, serde_yaml_ng::Value>;

/// The file as written: what is absent keeps its default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    api_version: String,
    kind: String,
    static_pod_path: Option<PathBuf>,
    address: Option<IpAddr>,
    port: Option<u16>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    authentication: Option<Authentication>,
    authorization: Option<AuthorizationFile>,
    #[serde(rename = "clusterDNS")]
    cluster_dns: Option<Vec<String>>,
    cluster_domain: Option<String>,
    resolv_conf: Option<PathBuf>,
    cgroup_driver: Option<String>,
    cgroup_root: Option<String>,
    #[serde(rename = "cgroupsPerQOS")]
    cgroups_per_qos: Option<bool>,
    pod_pids_limit: Option<i64>,
    #[serde(rename = "singleProcessOOMKill")]
    single_process_oom_kill: Option<bool>,
    max_pods: Option<u32>,
    user_namespaces: Option<UserNamespaces>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<usize>,
    container_log_monitor_interval: Option<String>,
    node_status_update_frequency: Option<String>,
    node_status_report_frequency: Option<String>,
    node_lease_duration_seconds: Option<u32>,
    sync_frequency: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low: Option<u8>,
    #[serde(rename = "imageMinimumGCAge")]
    image_minimum_gc_age: Option<String>,
    serialize_image_pulls: Option<bool>,
    max_parallel_image_pulls: Option<usize>,
    crash_loop_back_off: Option<CrashLoopBackOff>,
    seccomp_default: Option<bool>,
    allowed_unsafe_sysctls: Option<Vec<String>>,
    kube_reserved: Option<BTreeMap<String, String>>,
    system_reserved: Option<BTreeMap<String, String>>,
    register_with_taints: Option<Vec<Taint>>,
    register_node: Option<bool>,
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    pod_logs_dir: Option<PathBuf>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UserNamespaces {
    ids_per_pod: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authentication {
    x509: X509,
    webhook: Enabled,
    anonymous: Enabled,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct X509 {
    #[serde(rename = "clientCAFile")]
    client_ca_file: Option<PathBuf>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Enabled {
    enabled: Option<bool>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthorizationFile {
    mode: Option<String>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CrashLoopBackOff {
    max_container_restart_period: Option<String>,
    #[serde(flatten)]
    unknown: Unknown,
}

/// Reads the file over `base`.
///
/// # Errors
/// Not readable, not a KubeletConfiguration, a value of the wrong form: with the path.
pub fn load(path: &Path, base: Config) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    apply(&text, base).with_context(|| format!("in {}", path.display()))
}

/// As [`load`], from text.
///
/// # Errors
/// See [`load`].
pub fn apply(text: &str, base: Config) -> anyhow::Result<Config> {
    let file: KubeletConfiguration = serde_yaml_ng::from_str(text)?;
    anyhow::ensure!(
        file.kind == "KubeletConfiguration" && file.api_version == "kubelet.config.k8s.io/v1beta1",
        "this is {} {}, a KubeletConfiguration of kubelet.config.k8s.io/v1beta1 is needed",
        file.api_version,
        file.kind
    );
    for path in file.unknown() {
        tracing::warn!("the KubeletConfiguration's field {path} is not known here and has no effect");
    }
    file.resolve(base)
}

/// Writes `value` over `target` when there is one.
fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

impl KubeletConfiguration {
    /// The paths of the fields that nobody here reads.
    fn unknown(&self) -> Vec<String> {
        let empty = Unknown::new();
        let authentication = self.authentication.as_ref();
        let at = |prefix: &'static str, fields: &Unknown| {
            fields.keys().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>()
        };
        let mut all = at("", &self.unknown);
        all.extend(at("authentication.", authentication.map_or(&empty, |it| &it.unknown)));
        all.extend(at("authentication.x509.", authentication.map_or(&empty, |it| &it.x509.unknown)));
        all.extend(at("authentication.webhook.", authentication.map_or(&empty, |it| &it.webhook.unknown)));
        all.extend(at("authentication.anonymous.", authentication.map_or(&empty, |it| &it.anonymous.unknown)));
        all.extend(at("authorization.", self.authorization.as_ref().map_or(&empty, |it| &it.unknown)));
        all.extend(at("crashLoopBackOff.", self.crash_loop_back_off.as_ref().map_or(&empty, |it| &it.unknown)));
        all
    }

    fn resolve(mut self, mut config: Config) -> anyhow::Result<Config> {
        self.durations(&mut config)?;
        self.access(&mut config)?;
        config.static_pod_path = self.static_pod_path.or(config.static_pod_path);
        config.provider_id = self.provider_id.or(config.provider_id);
        set(&mut config.address, self.address);
        set(&mut config.port, self.port);
        set(&mut config.cluster_dns, self.cluster_dns);
        set(&mut config.cluster_domain, self.cluster_domain);
        set(&mut config.resolv_conf, self.resolv_conf);
        set(&mut config.cgroup_root, self.cgroup_root);
        set(&mut config.cgroups_per_qos, self.cgroups_per_qos);
        // -1, the default, is none
        set(&mut config.pod_pids_limit, self.pod_pids_limit.map(|limit| Some(limit).filter(|limit| *limit > 0)));
        set(&mut config.max_pods, self.max_pods);
        set(&mut config.user_ids_per_pod, self.user_namespaces.take().and_then(|users| users.ids_per_pod));
        set(&mut config.container_log_max_files, self.container_log_max_files);
        set(&mut config.image_gc_high, self.image_gc_high);
        set(&mut config.image_gc_low, self.image_gc_low);
        set(&mut config.serialize_image_pulls, self.serialize_image_pulls);
        set(&mut config.max_parallel_image_pulls, self.max_parallel_image_pulls);
        set(&mut config.seccomp_default, self.seccomp_default);
        set(&mut config.allowed_unsafe_sysctls, self.allowed_unsafe_sysctls);
        set(&mut config.kube_reserved, self.kube_reserved);
        set(&mut config.system_reserved, self.system_reserved);
        set(&mut config.register_with_taints, self.register_with_taints);
        set(&mut config.register_node, self.register_node);
        set(&mut config.single_process_oom_kill, self.single_process_oom_kill);
        set(&mut config.pod_logs_dir, self.pod_logs_dir);
        if let Some(driver) = self.cgroup_driver {
            config.cgroup_driver = match driver.as_str() {
                "cgroupfs" => CgroupDriver::Cgroupfs,
                "systemd" => CgroupDriver::Systemd,
                other => anyhow::bail!("cgroupDriver: {other:?} is neither \"cgroupfs\" nor \"systemd\""),
            };
        }
        if let Some(size) = self.container_log_max_size {
            let bytes = quantity::value(&Quantity(size.clone()));
            config.container_log_max_size = u64::try_from(bytes)
                .ok()
                .filter(|bytes| *bytes > 0)
                .with_context(|| format!("containerLogMaxSize: {size:?} is not a size"))?;
        }
        Ok(config)
    }

    fn durations(&mut self, config: &mut Config) -> anyhow::Result<()> {
        let backoff = self.crash_loop_back_off.take().and_then(|file| file.max_container_restart_period);
        for (name, target, value) in [
            (
                "nodeStatusUpdateFrequency",
                &mut config.node_status_update_frequency,
                self.node_status_update_frequency.take(),
            ),
            (
                "nodeStatusReportFrequency",
                &mut config.node_status_report_frequency,
                self.node_status_report_frequency.take(),
            ),
            ("syncFrequency", &mut config.sync_frequency, self.sync_frequency.take()),
            ("imageMinimumGCAge", &mut config.image_minimum_gc_age, self.image_minimum_gc_age.take()),
            (
                "containerLogMonitorInterval",
                &mut config.container_log_monitor_interval,
                self.container_log_monitor_interval.take(),
            ),
            ("crashLoopBackOff.maxContainerRestartPeriod", &mut config.max_container_backoff, backoff),
        ] {
            if let Some(text) = value {
                *target =
                    duration(&text).with_context(|| format!("{name}: {text:?} is not a duration like 10s or 1m30s"))?;
            }
        }
        if let Some(seconds) = self.node_lease_duration_seconds {
            config.node_lease_duration = Duration::from_secs(seconds.into());
        }
        Ok(())
    }

    fn access(&mut self, config: &mut Config) -> anyhow::Result<()> {
        let authentication = self.authentication.take().unwrap_or_default();
        set(&mut config.anonymous_auth, authentication.anonymous.enabled);
        set(&mut config.webhook_authentication, authentication.webhook.enabled);
        if let Some(mode) = self.authorization.take().and_then(|file| file.mode) {
            config.authorization = match mode.as_str() {
                "AlwaysAllow" => Authorization::AlwaysAllow,
                "Webhook" => Authorization::Webhook,
                other => anyhow::bail!("authorization.mode: {other:?} is neither \"AlwaysAllow\" nor \"Webhook\""),
            };
        }
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        let ca = authentication.x509.client_ca_file.as_deref().map(read).transpose()?;
        match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(certificate), Some(key)) => {
                config.tls = Some(ServerTls { certificate: read(certificate)?, key: read(key)?, client_ca: ca });
            }
            (None, None) => {
                if let (Some(tls), Some(ca)) = (&mut config.tls, ca) {
                    tls.client_ca = Some(ca);
                }
            }
            _ => anyhow::bail!("tlsCertFile and tlsPrivateKeyFile go together"),
        }
        Ok(())
    }
}

/// A Go duration of hours, minutes, seconds and milliseconds.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        let tail = rest.get(digits..)?;
        let unit = tail.find(|one: char| one.is_ascii_digit()).unwrap_or(tail.len());
        let seconds = match tail.get(..unit)? {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = tail.get(unit..)?;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    fn of(rest: &str) -> anyhow::Result<Config> {
        apply(&format!("{HEAD}{rest}"), Config::default())
    }

    #[test]
    fn values_replace_defaults() {
        let config = of("clusterDNS: [10.96.0.10]\nsyncFrequency: 1m30s\ncontainerLogMaxSize: 1Mi\nauthorization: {mode: AlwaysAllow}\n").unwrap();
        assert_eq!(config.cluster_dns, ["10.96.0.10"]);
        assert_eq!((config.sync_frequency.as_secs(), config.container_log_max_size), (90, 1 << 20));
        assert_eq!((config.authorization, config.max_pods), (Authorization::AlwaysAllow, 110));
    }

    #[test]
    fn what_is_not_known_is_named_and_has_no_effect() {
        let text = format!(
            "{HEAD}clusterDns: [a]\nevictionSoft: {{}}\nmaxPods: 7\nauthorization: {{mode: Webhook, webhook: {{}}}}\n"
        );
        let file: KubeletConfiguration = serde_yaml_ng::from_str(&text).unwrap();
        assert_eq!(file.unknown(), ["clusterDns", "evictionSoft", "authorization.webhook"]);
        let config = apply(&text, Config::default()).unwrap();
        assert_eq!((config.max_pods, config.cluster_dns.len()), (7, 0));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |rest: &str| format!("{:#}", of(rest).unwrap_err());
        assert!(said("syncFrequency: soon\n").contains("syncFrequency: \"soon\""));
        assert!(said("cgroupDriver: x\n").contains("cgroupDriver"));
        assert!(format!("{:#}", apply("kind: Pod\n", Config::default()).unwrap_err()).contains("KubeletConfiguration"));
    }
}
