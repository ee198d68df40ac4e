//! What `…/proxy` of a pod, a service or a node means: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`. Pure, but for the cache
//! it looks things up in and for chance among endpoints.
//! Sources: `ResourceLocation` of `pkg/registry/core/{pod,node}/strategy.go` and `service/storage/storage.go`.
//!
//! Must not know: connections.

use std::net::IpAddr;

use pintle_api::aggregation::endpoint;
use pintle_api::status::Status;
use rand::RngExt as _;
use serde_json::Value;

use super::target::{self, Target, Transport, get};
use crate::request::RequestInfo;
use crate::server::ApiServer;

/// The other end; `path` (with its query) is what to ask there.
pub fn find(server: &ApiServer, info: &RequestInfo, path: String) -> Result<Target, Status> {
    let kind = info.resource.trim_end_matches('s');
    let name = Name::split(&info.name)
        .ok_or_else(|| Status::bad_request(format!("invalid {kind} request {:?}", info.name)))?;
    let (host, port) = match kind {
        "pod" => pod(&get(server, "pods", &info.namespace, name.name)?, name.port)?,
        "service" => service(server, info, &name)?,
        _ => {
            let target = target::kubelet(&get(server, "nodes", "", name.name)?, path.clone())?;
            if name.port.is_empty() || Some(name.port) == target.port.map(|p| p.to_string()).as_deref() {
                return Ok(target);
            }
            (reachable(&target.host)?, Some(number(name.port)?))
        }
    };
    Ok(Target { host, port, transport: name.transport, path })
}

#[derive(Debug, PartialEq)]
struct Name<'a> {
    transport: Transport,
    name: &'a str,
    /// Empty, a number, or a name.
    port: &'a str,
}

impl<'a> Name<'a> {
    fn split(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let transport = match scheme {
            "" | "http" => Transport::Plain,
            "https" => Transport::Unverified,
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { transport, name, port })
    }
}

fn number(port: &str) -> Result<u16, Status> {
    port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?}")))
}

/// Nothing of the machine's own, nothing of the link only.
fn reachable(host: &str) -> Result<String, Status> {
    let global = host.parse::<IpAddr>().is_ok_and(|address| match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_link_local() || a.is_broadcast())
        }
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_unicast_link_local()),
    });
    if global { Ok(host.to_owned()) } else { Err(Status::bad_request("address not allowed")) }
}

/// Without a port, the first one that a container names.
fn pod(pod: &Value, port: &str) -> Result<(String, Option<u16>), Status> {
    let host = reachable(pod["status"]["podIP"].as_str().unwrap_or_default())?;
    if !port.is_empty() {
        return Ok((host, Some(number(port)?)));
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut first = containers.filter_map(|c| c["ports"].as_array()?.first()?["containerPort"].as_u64());
    Ok((host, first.next().and_then(|port| u16::try_from(port).ok())))
}

/// Any of the service's endpoints that is a pod's, by the port's name or number.
fn service(server: &ApiServer, info: &RequestInfo, name: &Name<'_>) -> Result<(String, Option<u16>), Status> {
    let mut port = name.port.to_owned();
    if let Ok(number) = port.parse::<i64>() {
        let service = get(server, "services", &info.namespace, name.name)?;
        let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let found = ports
            .find(|p| p["port"].as_i64() == Some(number))
            .ok_or_else(|| unavailable(format!("no service port {number} found for service {:?}", name.name)))?;
        port = found["name"].as_str().unwrap_or_default().to_owned();
    }
    let endpoints = get(server, "endpoints", &info.namespace, name.name)?;
    if endpoints["subsets"].as_array().is_none_or(Vec::is_empty) {
        return Err(unavailable(format!("no endpoints available for service {:?}", name.name)));
    }
    let mut able: Vec<(String, u16)> = candidates(&endpoints, &port)
        .filter(|(address, _)| is_pods(server, &info.namespace, address))
        .filter_map(|(address, port)| Some((reachable(address["ip"].as_str()?).ok()?, port)))
        .collect();
    if able.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {:?}", info.name)));
    }
    let (host, port) = able.swap_remove(rand::rng().random_range(..able.len()));
    Ok((host, Some(port)))
}

/// Any ready endpoint behind a service's port, wherever it is: what the server itself calls was named by somebody who may
/// extend it.
pub fn endpoint(server: &ApiServer, namespace: &str, name: &str, port: u16) -> anyhow::Result<(String, u16)> {
    let service = get(server, "services", namespace, name)?;
    let slices = slices(server, namespace, name)?;
    endpoint::resolve(&service, &slices, port, rand::random()).map_err(anyhow::Error::msg)
}

/// The EndpointSlices of a service.
pub fn slices(server: &ApiServer, namespace: &str, service: &str) -> Result<Vec<Value>, Status> {
    const SERVICE: &str = "kubernetes.io/service-name";
    let all = server.cache_of("discovery.k8s.io", "endpointslices")?.list(Some(namespace)).items;
    Ok(all.iter().filter(|slice| slice.label(SERVICE) == Some(service)).map(|slice| slice.value()).collect())
}

fn unavailable(why: String) -> Status {
    Status::new(503, "ServiceUnavailable", why)
}

/// The ready addresses of the subsets that have the port.
fn candidates<'a>(endpoints: &'a Value, port: &'a str) -> impl Iterator<Item = (&'a Value, u16)> {
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    subsets.flat_map(move |subset| {
        let mut ports = subset["ports"].as_array().into_iter().flatten();
        let found = ports.find(|p| p["name"].as_str().unwrap_or_default() == port);
        let number = found.and_then(|p| p["port"].as_u64()).and_then(|n| u16::try_from(n).ok());
        let addresses = number.and(subset["addresses"].as_array()).into_iter().flatten();
        addresses.filter_map(move |address| Some((address, number?)))
    })
}

/// Whoever may write endpoints may not thereby reach what is no pod of the namespace.
fn is_pods(server: &ApiServer, namespace: &str, address: &Value) -> bool {
    let (ip, target) = (&address["ip"], &address["targetRef"]);
    let Some(name) = target["name"].as_str().filter(|_| target["namespace"] == namespace) else { return false };
    let pod = get(server, "pods", namespace, name).unwrap_or_default();
    pod["status"]["podIPs"].as_array().into_iter().flatten().any(|own| own["ip"] == *ip)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_may_carry_a_scheme_and_a_port() {
        let split = |text| Name::split(text).map(|it| (it.transport, it.name, it.port));
        assert_eq!(split("a"), Some((Transport::Plain, "a", "")));
        assert_eq!(split("a:80"), Some((Transport::Plain, "a", "80")));
        assert_eq!(split("http:a:web"), Some((Transport::Plain, "a", "web")));
        assert_eq!(split("https:a:"), Some((Transport::Unverified, "a", "")));
        for bad in ["", ":80", "ftp:a:1", "https:a:1:2", "https::1"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pod_without_a_port_is_asked_at_the_first_it_names() {
        let it = json!({
            "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]},
            "status": {"podIP": "10.244.0.5"},
        });
        assert_eq!(pod(&it, "").unwrap(), ("10.244.0.5".to_owned(), Some(8080)));
        assert_eq!(pod(&it, "90").unwrap(), ("10.244.0.5".to_owned(), Some(90)));
        assert_eq!(pod(&it, "web").unwrap_err().message, "invalid port \"web\"");
    }

    #[test]
    fn what_is_the_machines_own_is_not_reached() {
        for host in ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "fe80::1", "", "localhost"] {
            assert_eq!(reachable(host).unwrap_err().message, "address not allowed", "{host}");
        }
        assert!(reachable("10.0.0.1").is_ok() && reachable("fd00::1").is_ok());
    }

    #[test]
    fn endpoints_are_found_by_the_ports_name() {
        let endpoints = json!({"subsets": [
            {"addresses": [{"ip": "10.244.0.5"}, {"ip": "10.244.0.6"}], "ports": [{"name": "a", "port": 160}, {"name": "b", "port": 162}]},
            {"notReadyAddresses": [{"ip": "10.244.0.7"}], "ports": [{"name": "a", "port": 160}]},
        ]});
        let found: Vec<_> = candidates(&endpoints, "b").map(|(a, port)| (a["ip"].as_str().unwrap(), port)).collect();
        assert_eq!(found, [("10.244.0.5", 162), ("10.244.0.6", 162)]);
        assert_eq!(candidates(&endpoints, "").count(), 0);
    }
}
