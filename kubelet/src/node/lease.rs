//! The node's lease in kube-node-lease: renewed every quarter of its duration.
//!
//! Must not know: the node's status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};
use pintle_client::error::chain;

use crate::config::Config;

const NAMESPACE: &str = "kube-node-lease";

/// Renews for ever; a failure is tried again soon.
pub async fn run(client: Client, config: Arc<Config>) {
    let api: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let nodes: Api<Node> = Api::all(client);
    let mut held: Option<Lease> = None;
    loop {
        let renewed = match held.take() {
            Some(lease) => renew(&api, lease).await,
            None => take(&api, &nodes, &config).await,
        };
        let pause = match renewed {
            Ok(lease) => {
                held = Some(lease);
                config.node_lease_duration / 4
            }
            Err(error) => {
                tracing::debug!("renewing the node's lease: {}", chain(&error));
                Duration::from_secs(1)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew(api: &Api<Lease>, mut lease: Lease) -> kube::Result<Lease> {
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
    let name = lease.metadata.name.clone().unwrap_or_default();
    api.replace(&name, &PostParams::default(), &lease).await
}

/// Takes over the lease that is there, or makes it.
async fn take(api: &Api<Lease>, nodes: &Api<Node>, config: &Config) -> kube::Result<Lease> {
    let name = &config.node_name;
    if let Some(mut lease) = api.get_opt(name).await? {
        lease.spec.get_or_insert_default().holder_identity = Some(name.clone());
        return renew(api, lease).await;
    }
    // owned by the node, so that it goes with it; the node has to be there first
    let node = nodes.get(name).await?;
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    };
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: i32::try_from(config.node_lease_duration.as_secs()).ok(),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let metadata =
        ObjectMeta { name: Some(name.clone()), owner_references: Some(vec![owner]), ..ObjectMeta::default() };
    api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
}
