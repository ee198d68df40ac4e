//! CRI's runtime service.
//!
//! Must not know: images.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use pintle_cri::v1::runtime_service_server::RuntimeService;
use pintle_cri::v1::*;
use tonic::{Request, Response, Status, async_trait};

use super::{Answers, given, pages};
use crate::Inner;
use crate::client::internal;
use crate::record::{ContainerRecord, SandboxRecord, now};
use crate::status::{has, matches_id};

/// What the CRI's version call answers beside our name (upstream's `kubeAPIVersion` and `constants.CRIVersion`).
const KUBE_API_VERSION: &str = "0.1.0";
const CRI_VERSION: &str = "v1";

type Answer<T> = Result<Response<T>, Status>;

fn ok<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn not_served<T>(call: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{call} is not served by the containerd runtime shim")))
}

impl Inner {
    /// Itself, for work that goes on after the call.
    fn shared(&self) -> Result<Arc<Inner>, Status> {
        self.this.upgrade().ok_or_else(|| Status::unavailable("the runtime is ending"))
    }

    async fn conditions(&self) -> Vec<RuntimeCondition> {
        let condition = |name: &str, reason: Option<(&str, String)>| {
            let status = reason.is_none();
            let (reason, message) = reason.map(|(reason, text)| (reason.to_owned(), text)).unwrap_or_default();
            RuntimeCondition { r#type: name.to_owned(), status, reason, message }
        };
        let network = self.network.status().await.err();
        let network = network.map(|error| ("NetworkPluginNotReady", internal(error).message().to_owned()));
        vec![condition("RuntimeReady", None), condition("NetworkReady", network)]
    }

    async fn filtered_stats(&self, filter: Option<ContainerStatsFilter>) -> Result<Vec<ContainerStats>, Status> {
        let filter = filter.unwrap_or_default();
        let mut list = Vec::new();
        for container in self.all::<ContainerConfig>().await? {
            let fits = matches_id(&filter.id, &container.id)
                && matches_id(&filter.pod_sandbox_id, &container.state.sandbox)
                && has(&container.config.labels, &filter.label_selector);
            if fits && container.state.finished_at == 0 {
                list.push(self.stats_of(&container).await?);
            }
        }
        Ok(list)
    }

    async fn all_pod_stats(&self, filter: Option<PodSandboxStatsFilter>) -> Result<Vec<PodSandboxStats>, Status> {
        let filter = filter.unwrap_or_default();
        let mut list = Vec::new();
        for sandbox in self.all::<PodSandboxConfig>().await? {
            if matches_id(&filter.id, &sandbox.id) && has(&sandbox.config.labels, &filter.label_selector) {
                list.push(self.stats_of_pod(&sandbox).await?);
            }
        }
        Ok(list)
    }
}

#[async_trait]
impl RuntimeService for Inner {
    type StreamPodSandboxesStream = Answers<StreamPodSandboxesResponse>;
    type StreamContainersStream = Answers<StreamContainersResponse>;
    type StreamContainerStatsStream = Answers<StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Answers<StreamPodSandboxStatsResponse>;
    type GetContainerEventsStream = Answers<ContainerEventResponse>;
    type StreamPodSandboxMetricsStream = Answers<StreamPodSandboxMetricsResponse>;

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        ok(VersionResponse {
            version: KUBE_API_VERSION.to_owned(),
            runtime_name: "containerd".to_owned(),
            runtime_version: self.client.version.clone(),
            runtime_api_version: CRI_VERSION.to_owned(),
        })
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let RunPodSandboxRequest { config, runtime_handler } = request.into_inner();
        let pod_sandbox_id = self.run_sandbox(given(config, "config")?, runtime_handler).await?;
        ok(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(&self, request: Request<StopPodSandboxRequest>) -> Answer<StopPodSandboxResponse> {
        self.stop_sandbox(&request.into_inner().pod_sandbox_id).await?;
        ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(&self, request: Request<RemovePodSandboxRequest>) -> Answer<RemovePodSandboxResponse> {
        self.remove_sandbox(&request.into_inner().pod_sandbox_id).await?;
        ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(&self, request: Request<PodSandboxStatusRequest>) -> Answer<PodSandboxStatusResponse> {
        let PodSandboxStatusRequest { pod_sandbox_id, verbose } = request.into_inner();
        let sandbox: SandboxRecord = self.get(&pod_sandbox_id).await?;
        let status = Some(self.sandbox_status(&sandbox).await?);
        let info = if verbose { self.sandbox_info(&sandbox).await? } else { HashMap::new() };
        let mut containers_statuses = Vec::new();
        for container in self.containers_of(&sandbox.id).await? {
            containers_statuses.push(Inner::container_status(self, &container).await?);
        }
        ok(PodSandboxStatusResponse { status, containers_statuses, timestamp: now(), info })
    }

    async fn list_pod_sandbox(&self, request: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        let items = self.sandboxes(request.into_inner().filter.unwrap_or_default()).await?;
        ok(ListPodSandboxResponse { items })
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let items = self.sandboxes(request.into_inner().filter.unwrap_or_default()).await?;
        pages(items, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes })
    }

    async fn create_container(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let CreateContainerRequest { pod_sandbox_id, config, sandbox_config } = request.into_inner();
        let (config, pod) = (given(config, "config")?, given(sandbox_config, "sandbox_config")?);
        let container_id = Inner::create_container(self, &pod_sandbox_id, config, &pod).await?;
        ok(CreateContainerResponse { container_id })
    }

    async fn start_container(&self, request: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        Inner::start_container(self, &request.into_inner().container_id).await?;
        ok(StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let StopContainerRequest { container_id, timeout } = request.into_inner();
        Inner::stop_container(self, &container_id, timeout).await?;
        ok(StopContainerResponse {})
    }

    async fn remove_container(&self, request: Request<RemoveContainerRequest>) -> Answer<RemoveContainerResponse> {
        Inner::remove_container(self, &request.into_inner().container_id).await?;
        ok(RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let containers = self.containers_list(request.into_inner().filter.unwrap_or_default()).await?;
        ok(ListContainersResponse { containers })
    }

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let items = self.containers_list(request.into_inner().filter.unwrap_or_default()).await?;
        pages(items, |containers| StreamContainersResponse { containers })
    }

    async fn container_status(&self, request: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let ContainerStatusRequest { container_id, verbose } = request.into_inner();
        let record: ContainerRecord = self.get(&container_id).await?;
        let status = Some(Inner::container_status(self, &record).await?);
        let info = if verbose { self.container_info(&record).await? } else { HashMap::new() };
        ok(ContainerStatusResponse { status, info })
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let UpdateContainerResourcesRequest { container_id, linux, .. } = request.into_inner();
        self.update_container(&container_id, &linux.unwrap_or_default()).await?;
        ok(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        let record: ContainerRecord = self.get(&request.into_inner().container_id).await?;
        self.reopen_log(&record).await.map_err(internal)?;
        ok(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        ok(Inner::exec_sync(self.shared()?, request.into_inner()).await?)
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        ok(ExecResponse { url: self.exec_url(request.into_inner()).await? })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        ok(AttachResponse { url: self.attach_url(request.into_inner()).await? })
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        ok(PortForwardResponse { url: self.port_forward_url(request.into_inner()).await? })
    }

    async fn container_stats(&self, request: Request<ContainerStatsRequest>) -> Answer<ContainerStatsResponse> {
        let record: ContainerRecord = self.get(&request.into_inner().container_id).await?;
        ok(ContainerStatsResponse { stats: Some(self.stats_of(&record).await?) })
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let stats = self.filtered_stats(request.into_inner().filter).await?;
        ok(ListContainerStatsResponse { stats })
    }

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let stats = self.filtered_stats(request.into_inner().filter).await?;
        pages(stats, |container_stats| StreamContainerStatsResponse { container_stats })
    }

    async fn pod_sandbox_stats(&self, request: Request<PodSandboxStatsRequest>) -> Answer<PodSandboxStatsResponse> {
        let sandbox: SandboxRecord = self.get(&request.into_inner().pod_sandbox_id).await?;
        ok(PodSandboxStatsResponse { stats: Some(self.stats_of_pod(&sandbox).await?) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let stats = self.all_pod_stats(request.into_inner().filter).await?;
        ok(ListPodSandboxStatsResponse { stats })
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let stats = self.all_pod_stats(request.into_inner().filter).await?;
        pages(stats, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats })
    }

    /// The pod CIDR is the network plugin's to know.
    async fn update_runtime_config(
        &self,
        _: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        ok(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let config = &self.config;
        let about = serde_json::json!({
            "socket": config.socket, "root": config.root, "state": config.state, "snapshotter": config.snapshotter,
            "cniConfDir": config.cni_conf_dir, "cniBinDirs": config.cni_bin_dirs,
        });
        let told = request.into_inner().verbose.then(|| ("config".to_owned(), about.to_string()));
        let recursive_read_only_mounts = self.host.recursive_read_only;
        let user_namespaces = self.user_namespaces;
        let features = Some(RuntimeHandlerFeatures { recursive_read_only_mounts, user_namespaces });
        let handler = |name: &str| RuntimeHandler { name: name.to_owned(), features };
        ok(StatusResponse {
            status: Some(RuntimeStatus { conditions: self.conditions().await }),
            runtime_handlers: vec![handler(""), handler("runc")],
            features: Some(RuntimeFeatures { supplemental_groups_policy: true, ..Default::default() }),
            info: told.into_iter().collect(),
        })
    }

    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        not_served("CheckpointContainer")
    }

    async fn get_container_events(&self, _: Request<GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        ok(self.told.follow().await?.boxed())
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        ok(ListMetricDescriptorsResponse { descriptors: pintle_cri::metrics::descriptors() })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        ok(ListPodSandboxMetricsResponse { pod_metrics: self.metrics().await? })
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        pages(self.metrics().await?, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics })
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let mut linux = LinuxRuntimeConfiguration::default();
        linux.set_cgroup_driver(self.config.cgroup_driver);
        ok(RuntimeConfigResponse { linux: Some(linux) })
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        // The pod's cgroup is the kubelet's, and changed already: this only tells.
        let _: SandboxRecord = self.get(&request.into_inner().pod_sandbox_id).await?;
        ok(UpdatePodSandboxResourcesResponse {})
    }
}
