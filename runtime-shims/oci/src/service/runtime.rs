//! The runtime service.
//!
//! Must not know: how anything is done.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use pintle_cri::v1::runtime_service_server::RuntimeService;
use pintle_cri::v1::*;
use tonic::{Request, Response};

use super::{Answer, Stream, in_parts, lasting, status};
use crate::error::Error;
use crate::plan::{filter, show};
use crate::runtime::Shared;
use crate::{container, sandbox, stats, streaming};

/// Upstream's answer to `Version`.
const KUBE_RUNTIME_API_VERSION: &str = "0.1.0";

/// The calls, over what they share.
#[derive(Debug, Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

impl Service {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn sandboxes(&self, filter: Option<&PodSandboxFilter>) -> Vec<PodSandbox> {
        let all = self.shared.sandboxes.all().into_iter().map(|entry| entry.now());
        all.filter(|one| one.made && filter::sandbox(filter, one)).map(|one| show::sandbox(&one)).collect()
    }

    fn containers(&self, filter: Option<&ContainerFilter>) -> Vec<Container> {
        let all = self.shared.containers.all().into_iter().map(|entry| entry.now());
        all.filter(|one| one.made && filter::container(filter, one)).map(|one| show::container(&one)).collect()
    }

    fn statuses_of(&self, sandbox: &str) -> Vec<ContainerStatus> {
        let all = self.shared.containers_of(sandbox).into_iter().map(|entry| entry.now());
        all.filter(|one| one.made).map(|one| show::container_status(&one)).collect()
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            version: KUBE_RUNTIME_API_VERSION.into(),
            runtime_name: "pintle".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let (shared, request) = (self.shared.clone(), request.into_inner());
        lasting(async move {
            let pod_sandbox_id = sandbox::run(&shared, request).await?;
            Ok(RunPodSandboxResponse { pod_sandbox_id })
        })
        .await
    }

    async fn stop_pod_sandbox(&self, request: Request<StopPodSandboxRequest>) -> Answer<StopPodSandboxResponse> {
        let (shared, id) = (self.shared.clone(), request.into_inner().pod_sandbox_id);
        lasting(async move {
            match shared.sandboxes.get(&id).map_err(Error::from) {
                Ok(entry) => sandbox::stop(&shared, &entry).await?,
                Err(Error::NotFound(_)) if !id.is_empty() => {}
                Err(error) => return Err(error),
            }
            Ok(StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(&self, request: Request<RemovePodSandboxRequest>) -> Answer<RemovePodSandboxResponse> {
        let (shared, id) = (self.shared.clone(), request.into_inner().pod_sandbox_id);
        lasting(async move {
            match shared.sandboxes.get(&id).map_err(Error::from) {
                Ok(entry) => sandbox::remove(&shared, &entry).await?,
                Err(Error::NotFound(_)) if !id.is_empty() => {}
                Err(error) => return Err(error),
            }
            Ok(RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(&self, request: Request<PodSandboxStatusRequest>) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        let entry = self.shared.sandboxes.get(&request.pod_sandbox_id).map_err(Error::from)?;
        let record = entry.now();
        Ok(Response::new(PodSandboxStatusResponse {
            status: Some(show::sandbox_status(&record)),
            info: if request.verbose { status::of_sandbox(&self.shared, &record) } else { Default::default() },
            containers_statuses: self.statuses_of(&record.id),
            timestamp: crate::clock::now(),
        }))
    }

    async fn list_pod_sandbox(&self, request: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        Ok(Response::new(ListPodSandboxResponse { items: self.sandboxes(request.into_inner().filter.as_ref()) }))
    }

    type StreamPodSandboxesStream = Stream<StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let items = self.sandboxes(request.into_inner().filter.as_ref());
        Ok(in_parts(items, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
    }

    async fn create_container(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let (shared, request) = (self.shared.clone(), request.into_inner());
        lasting(async move {
            let container_id = container::create(&shared, request).await?;
            Ok(CreateContainerResponse { container_id })
        })
        .await
    }

    async fn start_container(&self, request: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        let (shared, id) = (self.shared.clone(), request.into_inner().container_id);
        lasting(async move {
            let entry = shared.containers.get(&id)?;
            container::start(&shared, &entry).await?;
            Ok(StartContainerResponse {})
        })
        .await
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let (shared, request) = (self.shared.clone(), request.into_inner());
        lasting(async move {
            let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
            match shared.containers.get(&request.container_id).map_err(Error::from) {
                Ok(entry) => container::stop(&shared, &entry, grace).await?,
                Err(Error::NotFound(_)) if !request.container_id.is_empty() => {}
                Err(error) => return Err(error),
            }
            Ok(StopContainerResponse {})
        })
        .await
    }

    async fn remove_container(&self, request: Request<RemoveContainerRequest>) -> Answer<RemoveContainerResponse> {
        let (shared, id) = (self.shared.clone(), request.into_inner().container_id);
        lasting(async move {
            match shared.containers.get(&id).map_err(Error::from) {
                Ok(entry) => container::remove(&shared, &entry).await?,
                Err(Error::NotFound(_)) if !id.is_empty() => {}
                Err(error) => return Err(error),
            }
            Ok(RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        Ok(Response::new(ListContainersResponse { containers: self.containers(request.into_inner().filter.as_ref()) }))
    }

    type StreamContainersStream = Stream<StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let items = self.containers(request.into_inner().filter.as_ref());
        Ok(in_parts(items, |containers| StreamContainersResponse { containers }))
    }

    async fn container_status(&self, request: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let entry = self.shared.containers.get(&request.container_id).map_err(Error::from)?;
        let record = entry.now();
        Ok(Response::new(ContainerStatusResponse {
            status: Some(show::container_status(&record)),
            info: if request.verbose { status::of_container(&entry) } else { Default::default() },
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let (shared, request) = (self.shared.clone(), request.into_inner());
        lasting(async move {
            let entry = shared.containers.get(&request.container_id)?;
            container::update(&shared, &entry, request.linux.unwrap_or_default()).await?;
            Ok(UpdateContainerResourcesResponse {})
        })
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        let entry = self.shared.containers.get(&request.into_inner().container_id).map_err(Error::from)?;
        container::reopen_log(&self.shared, &entry).await?;
        Ok(Response::new(ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        // its caller going away ends the command: nobody would hear of it
        Ok(Response::new(container::exec_sync(&self.shared, request.into_inner()).await?))
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let url = streaming::exec(&self.shared, request.into_inner())?;
        Ok(Response::new(ExecResponse { url }))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let url = streaming::attach(&self.shared, request.into_inner())?;
        Ok(Response::new(AttachResponse { url }))
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        let url = streaming::port_forward(&self.shared, request.into_inner())?;
        Ok(Response::new(PortForwardResponse { url }))
    }

    async fn container_stats(&self, request: Request<ContainerStatsRequest>) -> Answer<ContainerStatsResponse> {
        let entry = self.shared.containers.get(&request.into_inner().container_id).map_err(Error::from)?;
        Ok(Response::new(ContainerStatsResponse { stats: Some(stats::of_container(&self.shared, &entry)) }))
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let filter = request.into_inner().filter;
        Ok(Response::new(ListContainerStatsResponse { stats: stats::containers(&self.shared, filter).await? }))
    }

    type StreamContainerStatsStream = Stream<StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let items = stats::containers(&self.shared, request.into_inner().filter).await?;
        Ok(in_parts(items, |container_stats| StreamContainerStatsResponse { container_stats }))
    }

    async fn pod_sandbox_stats(&self, request: Request<PodSandboxStatsRequest>) -> Answer<PodSandboxStatsResponse> {
        let entry = self.shared.sandboxes.get(&request.into_inner().pod_sandbox_id).map_err(Error::from)?;
        Ok(Response::new(PodSandboxStatsResponse { stats: Some(stats::sandbox(&self.shared, &entry).await?) }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter;
        Ok(Response::new(ListPodSandboxStatsResponse { stats: stats::sandboxes(&self.shared, filter).await? }))
    }

    type StreamPodSandboxStatsStream = Stream<StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let items = stats::sandboxes(&self.shared, request.into_inner().filter).await?;
        Ok(in_parts(items, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats }))
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        let network = request.into_inner().runtime_config.and_then(|config| config.network_config);
        if let Some(network) = network.filter(|network| !network.pod_cidr.is_empty()) {
            self.shared.set_pod_cidr(network.pod_cidr);
        }
        Ok(Response::new(UpdateRuntimeConfigResponse {}))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        Ok(Response::new(status::of_runtime(&self.shared, request.into_inner().verbose).await))
    }

    async fn checkpoint_container(
        &self,
        request: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        let (shared, request) = (self.shared.clone(), request.into_inner());
        lasting(async move {
            container::checkpoint::checkpoint(&shared, request).await?;
            Ok(CheckpointContainerResponse {})
        })
        .await
    }

    type GetContainerEventsStream = Stream<ContainerEventResponse>;

    async fn get_container_events(&self, _: Request<GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        Ok(Response::new(self.shared.events.follow().boxed()))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        Ok(Response::new(ListMetricDescriptorsResponse { descriptors: pintle_cri::metrics::descriptors() }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        Ok(Response::new(ListPodSandboxMetricsResponse { pod_metrics: stats::metrics::of_all(&self.shared).await? }))
    }

    type StreamPodSandboxMetricsStream = Stream<StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let items = stats::metrics::of_all(&self.shared).await?;
        Ok(in_parts(items, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics }))
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let cgroup_driver = self.shared.host.cgroup_driver.into();
        Ok(Response::new(RuntimeConfigResponse { linux: Some(LinuxRuntimeConfiguration { cgroup_driver }) }))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        let entry = self.shared.sandboxes.get(&request.pod_sandbox_id).map_err(Error::from)?;
        let _turn = entry.turn().await;
        // the pod's own cgroup is the kubelet's: what it says of it is kept
        let kept = entry.change(|record| {
            record.overhead = request.overhead;
            record.resources = request.resources;
        });
        kept.map_err(Error::from)?;
        Ok(Response::new(UpdatePodSandboxResourcesResponse {}))
    }
}
