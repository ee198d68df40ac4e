//! The kubelet alone: `kubelet KUBECONFIG RUNTIME-SOCKET CONFIG.yaml NODE-NAME ROOT-DIR`. It works under any API server
//! and with any CRI runtime, and is what the swap under upstream's API server runs.
//!
//! Must not know: the rest of Pintle.

use std::path::Path;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // the one provider of the process; a second call would be the only failure
    let _ = rustls::crypto::ring::default_provider().install_default();
    pintle_daemon::telemetry::install("info", false)?;
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("{what} is missing"));
    let kubeconfig = Kubeconfig::read_from(next("the kubeconfig's path")?)?;
    let socket = next("the runtime's socket")?;
    let file = next("the configuration's path")?;
    let base = pintle_kubelet::Config { node_name: next("the node's name")?, ..pintle_kubelet::Config::default() };
    let root = next("the directory for pods")?;
    let mut config = pintle_kubelet::config::file::load(Path::new(&file), base)?;
    config.root_dir = root.clone().into();
    config.pod_logs_dir = format!("{root}/logs").into();
    config.container_logs_dir = format!("{root}/container-logs").into();
    let client = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(client)?;
    let runtime = pintle_cri::connect(&socket).await?;
    let cancel = pintle_daemon::shutdown::on_signals()?;
    pintle_kubelet::run(client, runtime, config, pintle_daemon::metrics::Metrics::default(), cancel).await
}
