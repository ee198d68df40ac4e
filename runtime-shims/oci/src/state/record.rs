//! What is written down of a sandbox and of a container: protobuf, as the configurations in it are.
//!
//! Must not know: files.

use pintle_cri::v1;

/// Version of the records that this program writes. Fields are only ever added.
pub const VERSION: u32 = 1;

/// What a [`Table`](super::Table) keeps.
pub trait Record: prost::Message + Default + Clone {
    fn id(&self) -> &str;

    /// No two records have the same: what a kubelet gave as metadata, in one string.
    fn name(&self) -> String;
}

/// A pod sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sandbox {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(message, required, tag = "3")]
    pub config: v1::PodSandboxConfig,
    /// The runtime handler asked for; empty is the default one.
    #[prost(string, tag = "4")]
    pub handler: String,
    /// The call that made it was finished. What was not is removed by the next start.
    #[prost(bool, tag = "5")]
    pub made: bool,
    /// Stopped, or its namespaces or monitor are gone.
    #[prost(bool, tag = "6")]
    pub stopped: bool,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "7")]
    pub created_at: i64,
    /// The first is the pod's IP. None on the host's network.
    #[prost(string, repeated, tag = "8")]
    pub ips: Vec<String>,
    /// The network was asked to add it, and has not been asked to remove it since.
    #[prost(bool, tag = "9")]
    pub on_network: bool,
    /// As last given by `UpdatePodSandboxResources`.
    #[prost(message, optional, tag = "10")]
    pub overhead: Option<v1::LinuxContainerResources>,
    #[prost(message, optional, tag = "11")]
    pub resources: Option<v1::LinuxContainerResources>,
    /// SELinux' level of its containers that are given none; empty where the host has no SELinux.
    #[prost(string, tag = "12")]
    pub selinux_level: String,
    /// It is to be stopped: nothing begins in it any more.
    #[prost(bool, tag = "13")]
    pub stopping: bool,
}

/// A container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Container {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(string, tag = "3")]
    pub sandbox_id: String,
    #[prost(message, required, tag = "4")]
    pub config: v1::ContainerConfig,
    /// As a sandbox's.
    #[prost(bool, tag = "5")]
    pub made: bool,
    #[prost(enumeration = "v1::ContainerState", tag = "6")]
    pub state: i32,
    /// These three are nanoseconds since 1970, or 0.
    #[prost(int64, tag = "7")]
    pub created_at: i64,
    #[prost(int64, tag = "8")]
    pub started_at: i64,
    #[prost(int64, tag = "9")]
    pub finished_at: i64,
    #[prost(int32, tag = "10")]
    pub exit_code: i32,
    #[prost(string, tag = "11")]
    pub reason: String,
    #[prost(string, tag = "12")]
    pub message: String,
    /// Its first process, in the runtime's PID namespace; 0 before it is started.
    #[prost(uint32, tag = "13")]
    pub pid: u32,
    #[prost(string, tag = "14")]
    pub image_id: String,
    /// How the image's content is named: `repo@sha256:…`, or its ID.
    #[prost(string, tag = "15")]
    pub image_ref: String,
    #[prost(message, optional, tag = "16")]
    pub user: Option<v1::LinuxContainerUser>,
    /// A number as `kill` takes it.
    #[prost(int32, tag = "17")]
    pub stop_signal: i32,
    /// Absolute, or empty where nothing is logged.
    #[prost(string, tag = "18")]
    pub log_path: String,
    /// Below each hierarchy's root, with a leading slash.
    #[prost(string, tag = "19")]
    pub cgroup: String,
    /// The images that are mounted as volumes, by ID: held as long as it exists.
    #[prost(string, repeated, tag = "20")]
    pub volume_images: Vec<String>,
}

impl Record for Sandbox {
    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> String {
        let metadata = self.config.metadata.clone().unwrap_or_default();
        format!("{}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt)
    }
}

impl Record for Container {
    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> String {
        let metadata = self.config.metadata.clone().unwrap_or_default();
        format!("{}_{}_{}", metadata.name, self.sandbox_id, metadata.attempt)
    }
}

impl Sandbox {
    /// Containers can be made and started in it.
    pub fn is_ready(&self) -> bool {
        self.made && !self.stopping && !self.stopped
    }

    pub fn metadata(&self) -> v1::PodSandboxMetadata {
        self.config.metadata.clone().unwrap_or_default()
    }

    /// The namespaces asked for.
    pub fn namespaces(&self) -> v1::NamespaceOption {
        let security = self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        security.and_then(|security| security.namespace_options.clone()).unwrap_or_default()
    }

    pub fn cgroup_parent(&self) -> &str {
        self.config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent)
    }
}

impl Container {
    /// The namespaces asked for.
    pub fn namespaces(&self) -> v1::NamespaceOption {
        let security = self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        security.and_then(|security| security.namespace_options.clone()).unwrap_or_default()
    }

    pub fn is(&self, state: v1::ContainerState) -> bool {
        self.state() == state
    }
}
