//! EndpointSlice mirroring: Endpoints that somebody wrote by hand for a Service without a selector, as EndpointSlices.
//!
//! Must not know: pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use pintle_client::ObjectKey;

use super::slices::{self, MANAGED_BY, Plan, PortKey, SERVICE_NAME};
use super::{LAG, facts};
use crate::context::Context;
use crate::ledger::Ledger;
use crate::work::Outcome;
use crate::{api, owner};

const NAME: &str = "endpointslicemirroring-controller";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses mirrored of each subset.
const MAX_ADDRESSES: usize = 1000;

struct Controller {
    context: Context,
    client: Client,
    ledger: Ledger,
}

/// Keys are those of the Endpoints, and so of their Service.
pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.services.synced(), caches.endpoints.synced(), caches.endpoint_slices.synced());
    let queue = context.queue("endpoint_slice_mirroring");
    context.feed(&caches.endpoints, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    context.feed(&caches.services, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    context.feed(&caches.endpoint_slices, &queue, |change| {
        let slice = change.object();
        let service = slice.labels().get(SERVICE_NAME).filter(|_| is_mirror(slice));
        service.map(|service| ObjectKey::new(slice.namespace().unwrap_or_default(), service)).into_iter().collect()
    });
    let client = context.client(NAME);
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client, ledger: Ledger::default() });
    queue.run(5, cancel, |key| controller.clone().sync(key)).await;
}

fn is_mirror(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// Whether these Endpoints are to be mirrored.
fn wants_mirror(service: &Service, endpoints: &Endpoints) -> bool {
    let skipped = endpoints.labels().get(SKIP).is_some_and(|skip| skip == "true");
    let by_hand = service.spec.as_ref().is_some_and(|spec| spec.selector.as_ref().is_none_or(BTreeMap::is_empty));
    by_hand
        && !skipped
        && !endpoints.annotations().contains_key(LEADER)
        && endpoints.metadata.deletion_timestamp.is_none()
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let caches = &self.context.caches;
        // writes are remembered by the key: Endpoints may be replaced under the same name
        let id = key.to_string();
        if self.ledger.is_behind(&id, &caches.endpoint_slices) {
            return Ok(Some(LAG));
        }
        let mut present = caches.endpoint_slices.list_namespace(&key.namespace);
        present.retain(|slice| is_mirror(slice) && slice.labels().get(SERVICE_NAME) == Some(&key.name));
        present.sort_by_key(|slice| slice.metadata.name.clone());
        let service = caches.services.get(&key.namespace, &key.name);
        let endpoints = caches.endpoints.get(&key.namespace, &key.name);
        let source = service.zip(endpoints).filter(|(service, endpoints)| wants_mirror(service, endpoints));
        let plan = match source {
            Some((service, endpoints)) => plan(&service, &endpoints, present),
            None if present.is_empty() => {
                self.ledger.forget(&id);
                return Ok(None);
            }
            None => Plan { delete: present, ..Plan::default() },
        };
        self.apply(&key, &id, plan).await.context("mirroring Endpoints")?;
        Ok(None)
    }

    async fn apply(&self, key: &ObjectKey, id: &str, plan: Plan) -> Result<(), kube::Error> {
        let slices: Api<EndpointSlice> = api::namespaced(&self.client, &key.namespace);
        for slice in plan.create {
            match slices.create(&PostParams::default(), &slice).await {
                Err(error) if api::is_namespace_terminating(&error) => return Ok(()),
                created => self.ledger.wrote(id, &created?),
            }
        }
        for slice in plan.update {
            let written = slices.replace(&slice.name_any(), &PostParams::default(), &slice).await?;
            self.ledger.wrote(id, &written);
        }
        for slice in plan.delete {
            let params = api::delete_uid(slice.metadata.uid.as_ref());
            api::ignore_not_found(slices.delete(&slice.name_any(), &params).await)?;
        }
        Ok(())
    }
}

type Groups = BTreeMap<(&'static str, PortKey), (Vec<EndpointPort>, Vec<Endpoint>)>;

fn plan(service: &Service, endpoints: &Endpoints, present: Vec<Arc<EndpointSlice>>) -> Plan {
    let mut groups = Groups::new();
    for subset in endpoints.subsets.iter().flatten() {
        group(subset, &mut groups);
    }
    let mut plan = Plan::default();
    let mut by_group: BTreeMap<(String, PortKey), Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in present {
        let key = slices::key(slice.ports.as_deref().unwrap_or_default());
        by_group.entry((slice.address_type.clone(), key)).or_default().push(slice);
    }
    for ((family, key), (ports, wanted)) in groups {
        let own = by_group.remove(&(family.to_owned(), key)).unwrap_or_default();
        slices::fill(own, wanted, &blank(service, endpoints, family, ports), &mut plan);
    }
    plan.delete.extend(by_group.into_values().flatten());
    plan
}

fn group(subset: &EndpointSubset, groups: &mut Groups) {
    let port = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    };
    let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(port).collect();
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    for (address, ready) in ready.chain(not_ready).take(MAX_ADDRESSES) {
        let family = if address.ip.contains(':') { "IPv6" } else { "IPv4" };
        let group = groups.entry((family, slices::key(&ports))).or_insert_with(|| (ports.clone(), Vec::new()));
        group.1.push(endpoint(address, ready));
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn blank(service: &Service, endpoints: &Endpoints, family: &str, ports: Vec<EndpointPort>) -> EndpointSlice {
    let name = endpoints.name_any();
    let mut labels = endpoints.labels().clone();
    labels.remove(facts::HEADLESS);
    if facts::is_headless(service) {
        labels.insert(facts::HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner::controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(Vec::new()),
        ports: Some(ports),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(labels: Value) -> Endpoints {
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "default", "uid": "e", "labels": labels}, "subsets": [{
            "addresses": [{"ip": "192.0.2.10"}], "notReadyAddresses": [{"ip": "2001:db8::1"}], "ports": [{"port": 5432, "protocol": "TCP"}]}]}))
        .unwrap()
    }

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": spec})).unwrap()
    }

    #[test]
    fn endpoints_written_by_hand_become_a_slice_per_family() {
        let (service, source) = (service(json!({})), endpoints(json!({})));
        assert!(wants_mirror(&service, &source));
        let plan = plan(&service, &source, Vec::new());
        let families: Vec<&str> = plan.create.iter().map(|slice| slice.address_type.as_str()).collect();
        assert_eq!(families, ["IPv4", "IPv6"]);
        let slice = serde_json::to_value(&plan.create[0]).unwrap();
        assert_eq!(slice["endpoints"], json!([{"addresses": ["192.0.2.10"], "conditions": {"ready": true}}]));
        assert_eq!(
            slice["metadata"]["labels"],
            json!({"kubernetes.io/service-name": "db",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"})
        );
        let present = plan.create.into_iter().map(Arc::new).collect();
        assert_eq!(super::plan(&service, &source, present), Plan::default());
    }

    #[test]
    fn others_are_left_alone() {
        assert!(!wants_mirror(&service(json!({"selector": {"app": "db"}})), &endpoints(json!({}))));
        assert!(!wants_mirror(
            &service(json!({})),
            &endpoints(json!({"endpointslice.kubernetes.io/skip-mirror": "true"}))
        ));
    }
}
