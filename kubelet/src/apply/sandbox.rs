//! Making a pod's sandbox.
//!
//! Must not know: containers.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use pintle_cri::v1::{NamespaceMode, PodSandboxConfig, RunPodSandboxRequest, UserNamespace};

use super::{Drivers, pod_reference};
use crate::images::print_status;
use crate::plan::sandbox_config::{self, Settings};
use crate::plan::{dns, pod};

impl Drivers {
    /// The sandbox's configuration; the runtime also wants it with every container.
    ///
    /// # Errors
    /// The pod's users have no IDs.
    pub fn sandbox_config(&self, pod: &Pod, attempt: u32) -> Result<PodSandboxConfig, String> {
        let users = match pod::own_users(pod) {
            true => self.users.of(pod::uid(pod)).map_err(|error| format!("{error:#}"))?,
            false => UserNamespace { mode: NamespaceMode::Node.into(), ..UserNamespace::default() },
        };
        let cluster =
            dns::Cluster { servers: self.config.cluster_dns.clone(), domain: self.config.cluster_domain.clone() };
        // without the node's file, pods have the cluster's names only
        let node = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        let name = sandbox_config::log_directory_name(pod::namespace(pod), pod::name(pod), pod::uid(pod));
        let (hostname, domain) = dns::hostname(pod, &self.config.cluster_domain);
        let fqdn = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true) && !domain.is_empty();
        Ok(sandbox_config::config(
            pod,
            Settings {
                attempt,
                log_directory: self.config.pod_logs_dir.join(name).display().to_string(),
                cgroup_parent: self.cgroups.parent(pod),
                hostname: if fqdn { format!("{hostname}.{domain}") } else { hostname },
                dns: dns::config(pod, &cluster, &dns::parse_resolv_conf(&node)),
                seccomp_root: &self.seccomp_root(),
                users,
            },
        ))
    }

    pub fn seccomp_root(&self) -> String {
        self.config.root_dir.join("seccomp").display().to_string()
    }

    /// Runs a new sandbox and hands back its id.
    ///
    /// # Errors
    /// The message for the pod's events, which are already written.
    pub async fn create_sandbox(&self, pod: &Pod, attempt: u32) -> Result<String, String> {
        let created = self.run_sandbox(pod, attempt).await;
        if let Err(message) = &created {
            self.recorder.warning(
                &pod_reference(pod),
                "FailedCreatePodSandBox",
                format!("Failed to create pod sandbox: {message}"),
            );
        }
        created
    }

    async fn run_sandbox(&self, pod: &Pod, attempt: u32) -> Result<String, String> {
        let runtime_handler = self.runtime_handler(pod).await?;
        if pod::own_users(pod) {
            self.can_have_users(&runtime_handler)?;
        }
        let config = self.sandbox_config(pod, attempt)?;
        std::fs::create_dir_all(&config.log_directory)
            .map_err(|error| format!("making {}: {error}", config.log_directory))?;
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler };
        match self.runtime.runtime.clone().run_pod_sandbox(request).await {
            Ok(answer) => Ok(answer.into_inner().pod_sandbox_id),
            Err(status) => {
                self.restore_sandbox_image().await;
                Err(print_status(&status))
            }
        }
    }

    /// Whether the handler says that its pods can have users of their own.
    fn can_have_users(&self, handler: &str) -> Result<(), String> {
        if self.abilities.of_handler(handler).user_namespaces {
            return Ok(());
        }
        Err(match handler {
            "" => "can't set `spec.hostUsers: false`, runtime does not support user namespaces".into(),
            name => format!(
                "can't set `spec.hostUsers: false`, RuntimeClass handler {name:?} does not support user namespaces"
            ),
        })
    }

    /// Somebody may have removed the image that sandboxes are made from; the next try has it again.
    async fn restore_sandbox_image(&self) {
        match self.runtime.ensure_sandbox_image().await {
            Ok(true) => tracing::warn!("the sandbox image was gone and was imported again"),
            Ok(false) => {}
            Err(error) => tracing::warn!("restoring the sandbox image: {error:#}"),
        }
    }

    /// The handler of the pod's RuntimeClass; empty is the runtime's default.
    pub(super) async fn runtime_handler(&self, pod: &Pod) -> Result<String, String> {
        let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.clone()).filter(|name| !name.is_empty());
        let Some(name) = class else { return Ok(String::new()) };
        let api: Api<RuntimeClass> = Api::all(self.objects.client());
        match api.get_opt(&name).await {
            Ok(Some(class)) => Ok(class.handler),
            Ok(None) => Err(format!("runtimeclass.node.k8s.io \"{name}\" not found")),
            Err(error) => Err(format!("failed to get sandbox runtime: {error}")),
        }
    }
}
