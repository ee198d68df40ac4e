//! The objects every cluster has, made at the start where they are missing.
//!
//! Must not know: what they are for beyond that.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, Patch, PatchParams};
use pintle_api::{kinds, object};
use serde_json::{Value, json};

use crate::auth::UserInfo;
use crate::auth::rbac;
use crate::call::Call;
use crate::request::WriteOptions;
use crate::server::ApiServer;
use crate::verbs;

pub async fn run(server: &Arc<ApiServer>) -> anyhow::Result<()> {
    for name in ["kube-system", "kube-public", "kube-node-lease", "default"] {
        ensure(server, "", "v1", "namespaces", "", json!({ "metadata": { "name": name } })).await?;
    }
    for class in priority_classes() {
        ensure(server, "scheduling.k8s.io", "v1", "priorityclasses", "", class).await?;
    }
    ensure_roles(server).await?;
    default_service_cidr(server).await.context("making the default ServiceCIDR")?;
    let service = kubernetes_service(server);
    ensure(server, "", "v1", "services", "default", service).await?;
    match server.config.advertise {
        // an endpoint on loopback would be another host's own, and is no valid one
        Some((address, port)) if !address.is_loopback() => {
            publish(server, address, port).await.context("publishing the server's own endpoint")
        }
        _ => Ok(()),
    }
}

/// The endpoint of `kubernetes.default`: this server, and no mirror of it, since it has both forms already.
async fn publish(server: &Arc<ApiServer>, address: IpAddr, port: u16) -> anyhow::Result<()> {
    let client = server.client(UserInfo::apiserver());
    let apply = PatchParams::apply("kube-apiserver").force();
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let ports = json!([{ "name": "https", "port": port, "protocol": "TCP" }]);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": family, "ports": ports,
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
    });
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "kubernetes", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": [{ "ip": address }], "ports": ports }],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    slices.patch("kubernetes", &apply, &Patch::Apply(&slice)).await?;
    let all: Api<Endpoints> = Api::namespaced(client, "default");
    all.patch("kubernetes", &apply, &Patch::Apply(&endpoints)).await?;
    Ok(())
}

/// The range that Services' addresses come from, ready from the first moment.
/// Source: `pkg/controlplane/controller/defaultservicecidr`.
async fn default_service_cidr(server: &Arc<ApiServer>) -> anyhow::Result<()> {
    const NAME: &str = "kubernetes";
    let object = json!({ "metadata": { "name": NAME }, "spec": { "cidrs": [server.config.service_cidr] } });
    ensure(server, "networking.k8s.io", "v1", "servicecidrs", "", object).await?;
    let ranges: Api<ServiceCIDR> = Api::all(server.client(UserInfo::apiserver()));
    let told = ranges.get_status(NAME).await?.status.and_then(|status| status.conditions).unwrap_or_default();
    if told.iter().any(|condition| condition.type_ == "Ready") {
        return Ok(());
    }
    let status = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": NAME },
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }] },
    });
    let apply = PatchParams::apply("kubernetes-service-cidr-controller").force();
    ranges.patch_status(NAME, &apply, &Patch::Apply(&status)).await?;
    Ok(())
}

/// All at once: the store commits in groups.
async fn ensure_roles(server: &Arc<ApiServer>) -> anyhow::Result<()> {
    let mut work = tokio::task::JoinSet::new();
    for (plural, object) in rbac_objects() {
        let (server, namespace) = (server.clone(), object::namespace(&object).to_owned());
        work.spawn(async move { ensure(&server, rbac::GROUP, "v1", plural, &namespace, object).await });
    }
    while let Some(done) = work.join_next().await {
        done.context("a task that creates a role crashed")??;
    }
    Ok(())
}

/// Creates `object`, unless one of its name is there.
async fn ensure(
    server: &Arc<ApiServer>,
    group: &str,
    version: &str,
    plural: &str,
    namespace: &str,
    mut object: Value,
) -> anyhow::Result<()> {
    let kind = kinds::find(group, version, plural).with_context(|| format!("no kind {plural}"))?;
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if server.cache(kind)?.get(namespace, &name).is_some() {
        return Ok(());
    }
    let call = Call::internal(kind, "create", namespace, "");
    match verbs::create_object(server, &call, object, &WriteOptions::default()).await {
        Ok(_) => Ok(()),
        Err(status) => Err(status).with_context(|| format!("creating {plural} {name:?}")),
    }
}

fn rbac_objects() -> impl Iterator<Item = (&'static str, Value)> {
    let objects = rbac::bootstrap::objects();
    let named = |plural: &'static str, list: Vec<Value>| list.into_iter().map(move |object| (plural, object));
    named("clusterroles", objects.cluster_roles)
        .chain(named("roles", objects.roles))
        .chain(named("clusterrolebindings", objects.cluster_role_bindings))
        .chain(named("rolebindings", objects.role_bindings))
}

/// Source: `pkg/apis/scheduling/v1/helpers.go`.
fn priority_classes() -> [Value; 2] {
    let class = |name: &str, value: i64, what: &str| json!({ "metadata": { "name": name }, "value": value, "description": what });
    [
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

fn kubernetes_service(server: &ApiServer) -> Value {
    let target = server.config.advertise.map_or(6443, |(_, port)| port);
    let address = server.services.first().to_string();
    json!({
        "metadata": { "name": "kubernetes", "labels": { "component": "apiserver", "provider": "kubernetes" } },
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "sessionAffinity": "None",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": target }],
        },
    })
}
