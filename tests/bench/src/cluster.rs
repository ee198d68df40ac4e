//! Connections to the cluster and the namespace a measure works in.
//!
//! Must not know: what is measured.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Where the cluster is and who asks.
#[derive(Clone)]
pub struct Cluster {
    config: Config,
    /// The longest one step may take.
    pub timeout: Duration,
}

impl Cluster {
    /// # Errors
    /// The kubeconfig is not there or says nothing usable.
    pub async fn new(kubeconfig: &Path, timeout: Duration) -> anyhow::Result<Self> {
        let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
        let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        // A request that is repeated unseen is two requests in one sample.
        config.default_retry = false;
        Ok(Self { config, timeout })
    }

    /// A client that shares no connection with others. Requests one after the other stay on one connection.
    ///
    /// # Errors
    /// The credentials are unusable.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.config.clone())?)
    }

    /// Bounds a step.
    ///
    /// # Errors
    /// The step's own, or that it took longer than any may.
    pub async fn within<T>(&self, what: &str, step: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let done = tokio::time::timeout(self.timeout, step).await;
        done.with_context(|| format!("{what}: not done after {:?}", self.timeout))?.with_context(|| what.to_owned())
    }

    /// Creates a namespace with a name of its own, which is answered.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn namespace(&self) -> anyhow::Result<String> {
        let metadata = ObjectMeta { generate_name: Some("pintle-bench-".into()), ..Default::default() };
        let namespace = Namespace { metadata, ..Default::default() };
        let made = Api::all(self.client()?).create(&PostParams::default(), &namespace).await?;
        made.metadata.name.context("a namespace without a name")
    }

    /// Asks for the namespace's end; its content goes with it where a controller manager runs.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn remove_namespace(&self, name: &str) -> anyhow::Result<()> {
        Api::<Namespace>::all(self.client()?).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits for the service account without which no pod is admitted.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn service_account(&self, namespace: &str) -> anyhow::Result<()> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client()?, namespace);
        self.within("the default service account", async {
            let there = |account: Option<&ServiceAccount>| account.is_some();
            kube::runtime::wait::await_condition(accounts, "default", there).await?;
            Ok(())
        })
        .await
    }
}
