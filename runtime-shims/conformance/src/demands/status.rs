//! What the runtime tells of itself and is told: handlers, features, the pods' network.
//!
//! Must not know: containers' configuration.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, Skip, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "runtime/handlers",
        "tells its handlers, the default one under the empty name, each with its features",
        "runtime.v1 Status.runtime_handlers; KEP-3857, KEP-127",
        handlers
    ),
    demand!(
        "runtime/handlers-run",
        "runs a pod with each of its handlers, and tells which it was",
        "runtime.v1 RunPodSandboxRequest.runtime_handler; RuntimeClass",
        handlers_run
    ),
    demand!(
        "runtime/verbose",
        "tells more where that is asked for, and nothing more where it is not",
        "runtime.v1 Status.info, PodSandboxStatus.info, ContainerStatus.info; crictl inspect",
        verbose
    ),
    demand!(
        "runtime/pod-cidr",
        "takes the pods' address range",
        "runtime.v1 UpdateRuntimeConfig; kubelet's UpdatePodCIDR",
        pod_cidr
    ),
    demand!(
        "runtime/many-pods",
        "runs eight pods at once, each with its container",
        "kubelet: pods start at once",
        many_pods
    ),
];

async fn handlers(bench: &Bench) -> anyhow::Result<()> {
    let handlers = &bench.shared.told.runtime_handlers;
    if handlers.is_empty() {
        return Err(Skip("Status tells no handlers: the runtime is older than that".into()).into());
    }
    let default = handlers.iter().find(|one| one.name.is_empty()).context("none with the empty name")?;
    ensure!(default.features.is_some(), "the default one has no features");
    let names: std::collections::BTreeSet<_> = handlers.iter().map(|one| &one.name).collect();
    equal("how many names there are", names.len(), handlers.len())
}

async fn handlers_run(bench: &Bench) -> anyhow::Result<()> {
    let named: Vec<_> = bench.shared.told.runtime_handlers.iter().filter(|one| !one.name.is_empty()).collect();
    if named.is_empty() {
        return Err(Skip("Status names no handlers".into()).into());
    }
    for handler in named {
        let config = bench.pod_config();
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.name.clone() };
        std::fs::create_dir_all(&config.log_directory)?;
        let answer = bench.cri().run_pod_sandbox(request).await.with_context(|| handler.name.clone())?;
        let pod = Pod { id: answer.into_inner().pod_sandbox_id, config };
        equal("runtime_handler", &bench.pod_status(&pod).await?.runtime_handler, &handler.name)?;
        let filter = Some(v1::PodSandboxFilter { id: pod.id.clone(), ..Default::default() });
        let items = bench.cri().list_pod_sandbox(v1::ListPodSandboxRequest { filter }).await?.into_inner().items;
        equal("runtime_handler in a list", items.first().map(|one| &one.runtime_handler), Some(&handler.name))?;
        let said = bench.printed(&pod, bench.container(&pod, &["out", "it runs"])).await;
        equal("what a container printed", said.with_context(|| handler.name.clone())?.as_str(), "it runs\n")?;
    }
    Ok(())
}

async fn verbose(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    for verbose in [true, false] {
        let mut cri = bench.cri();
        let status = cri.status(v1::StatusRequest { verbose }).await?.into_inner().info;
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose };
        let sandbox = cri.pod_sandbox_status(request).await?.into_inner().info;
        let request = v1::ContainerStatusRequest { container_id: id.clone(), verbose };
        let container = cri.container_status(request).await?.into_inner().info;
        for (what, info) in [("Status", status), ("PodSandboxStatus", sandbox), ("ContainerStatus", container)] {
            equal(&format!("whether {what} tells more"), !info.is_empty(), verbose)?;
        }
    }
    Ok(())
}

async fn pod_cidr(bench: &Bench) -> anyhow::Result<()> {
    // that of the documentation: no runtime whose network is set up goes by it
    let network_config = Some(v1::NetworkConfig { pod_cidr: "192.0.2.0/24".into() });
    let runtime_config = Some(v1::RuntimeConfig { network_config });
    let answer = bench.cri().update_runtime_config(v1::UpdateRuntimeConfigRequest { runtime_config }).await;
    answer.map(drop).context("UpdateRuntimeConfig")?;
    bench.pod().await.map(drop)
}

async fn many_pods(bench: &Bench) -> anyhow::Result<()> {
    let one = async |_| {
        let pod = bench.pod().await?;
        let id = bench.waiting(&pod).await?;
        bench.stop(&id, 20).await?;
        bench.stop_pod(&pod).await?;
        bench.remove_pod(&pod).await
    };
    futures::future::try_join_all((0..8).map(one)).await.map(drop)
}
