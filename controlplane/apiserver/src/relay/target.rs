//! Where a request for a pod's, a service's or a node's insides goes. Pure, but for the cache it looks things up in.
//!
//! Must not know: connections.

use pintle_api::status::Status;
use serde_json::Value;

use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;

/// An address to connect to, and what to ask there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// A kubelet is spoken to over TLS, a pod in the clear.
    pub kubelet: bool,
    /// Path and query.
    pub path: String,
}

/// `None` where there is nothing to ask yet: a pod without a node has no logs.
pub fn find(server: &ApiServer, info: &RequestInfo, query: &Query) -> Result<Option<Target>, Status> {
    match (info.resource.as_str(), info.subresource.as_str()) {
        ("nodes", _) => {
            let node = get(server, "nodes", "", &info.name)?;
            kubelet(&node, format!("/{}", rest(info, query))).map(Some)
        }
        ("pods", "proxy") => pod_proxy(server, info, query).map(Some),
        ("services", "proxy") => service_proxy(server, info, query).map(Some),
        _ => pod(server, info, query),
    }
}

fn get(server: &ApiServer, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let found = server.cache_of("", plural)?.get(namespace, name);
    found.map(|object| object.value()).ok_or_else(|| Status::not_found(plural, "", name))
}

/// `log`, `exec`, `attach` and `portforward`: the kubelet's own paths.
fn pod(server: &ApiServer, info: &RequestInfo, query: &Query) -> Result<Option<Target>, Status> {
    let pod = get(server, "pods", &info.namespace, &info.name)?;
    let forwards = info.subresource == "portforward";
    let container = if forwards { String::new() } else { container(&pod, query.get("container"), &info.name)? };
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        if info.subresource == "log" {
            return Ok(None);
        }
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    let node = get(server, "nodes", "", node)?;
    let (namespace, name) = (&info.namespace, &info.name);
    let path = match info.subresource.as_str() {
        "log" => format!("/containerLogs/{namespace}/{name}/{container}"),
        "portforward" => format!("/portForward/{namespace}/{name}"),
        stream => format!("/{stream}/{namespace}/{name}/{container}"),
    };
    let params = if info.subresource == "log" { log_params(query) } else { stream_params(query, forwards) };
    kubelet(&node, if params.is_empty() { path } else { format!("{path}?{params}") }).map(Some)
}

fn encode(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn log_params(query: &Query) -> String {
    let mut pairs = Vec::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) {
            pairs.push((flag, "true"));
        }
    }
    for field in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if let Some(value) = query.get(field).filter(|v| !v.is_empty()) {
            pairs.push((field, value));
        }
    }
    encode(&pairs)
}

/// The kubelet's names for the streams are not the API's.
fn stream_params(query: &Query, forwards: bool) -> String {
    let mut pairs = Vec::new();
    if forwards {
        let ports: Vec<&str> = query.all("ports").collect();
        return if ports.is_empty() { String::new() } else { encode(&[("port", &ports.join(","))]) };
    }
    for (theirs, ours) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(theirs) {
            pairs.push((ours, "1"));
        }
    }
    pairs.extend(query.all("command").map(|word| ("command", word)));
    encode(&pairs)
}

/// The container that is meant, in upstream's words where none is.
fn container(pod: &Value, asked: Option<&str>, name: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<&str> {
        pod["spec"][list].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let Some(asked) = asked.filter(|a| !a.is_empty()) else {
        return match main.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
            many => {
                let mut why =
                    format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
                if !init.is_empty() {
                    why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(why))
            }
        };
    };
    let ephemeral = names("ephemeralContainers");
    let known = main.iter().chain(&init).chain(&ephemeral).any(|c| *c == asked);
    if known {
        Ok(asked.to_owned())
    } else {
        Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
    }
}

/// The node's kubelet.
fn kubelet(node: &Value, path: String) -> Result<Target, Status> {
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(10_250);
    let all: Vec<&Value> = node["status"]["addresses"].as_array().into_iter().flatten().collect();
    let address = all.iter().find(|a| a["type"] == "InternalIP").or_else(|| all.first());
    let host = address.and_then(|a| a["address"].as_str()).ok_or_else(|| {
        let name = pintle_api::object::name(node);
        Status::internal(format!("no preferred addresses found; known addresses: [] of node {name}"))
    })?;
    Ok(Target { host: host.to_owned(), port, kubelet: true, path })
}

/// What follows `…/proxy/`, with the query.
fn rest(info: &RequestInfo, query: &Query) -> String {
    let path = info.parts.get(3..).unwrap_or_default().join("/");
    let pairs: Vec<(&str, &str)> = query.pairs().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    if pairs.is_empty() { path } else { format!("{path}?{}", encode(&pairs)) }
}

/// `name`, `name:port`, `http:name:port`.
fn split(name: &str) -> Result<(&str, &str), Status> {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        [name] => Ok((name, "")),
        [name, port] => Ok((name, port)),
        ["http" | "", name, port] => Ok((name, port)),
        _ => Err(Status::bad_request(format!("invalid proxy request {name:?}"))),
    }
}

fn pod_proxy(server: &ApiServer, info: &RequestInfo, query: &Query) -> Result<Target, Status> {
    let (name, port) = split(&info.name)?;
    let pod = get(server, "pods", &info.namespace, name)?;
    let mut ports = pod["spec"]["containers"].as_array().into_iter().flatten();
    let port = match port {
        "" => ports.find_map(|c| c["ports"].as_array()?.first()?["containerPort"].as_u64()).unwrap_or(80),
        text => text.parse().map_err(|_| Status::bad_request(format!("invalid port {text:?}")))?,
    };
    let host = pod["status"]["podIP"].as_str().filter(|a| !a.is_empty());
    let host = host.ok_or_else(|| Status::bad_request("address not allowed"))?.to_owned();
    let port = u16::try_from(port).map_err(|_| Status::bad_request("invalid port"))?;
    Ok(Target { host, port, kubelet: false, path: format!("/{}", rest(info, query)) })
}

/// Any ready endpoint of the service's port, found by its name or number.
fn service_proxy(server: &ApiServer, info: &RequestInfo, query: &Query) -> Result<Target, Status> {
    let (name, port) = split(&info.name)?;
    let service = get(server, "services", &info.namespace, name)?;
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let wanted = ports.iter().find(|p| match port {
        "" => ports.len() == 1,
        port => p["name"] == port || p["port"].as_u64().is_some_and(|n| n.to_string() == port),
    });
    let unavailable = |why: &str| Status::new(503, "ServiceUnavailable", why);
    let wanted = wanted.ok_or_else(|| unavailable(&format!("no service port {port:?} found for service {name:?}")))?;
    let port_name = wanted["name"].as_str().unwrap_or_default();
    let slices = server.cache_of("discovery.k8s.io", "endpointslices")?.list(Some(&info.namespace)).items;
    let own = slices.into_iter().filter(|s| s.label("kubernetes.io/service-name") == Some(name));
    for slice in own.map(|s| s.value()) {
        if let Some((host, port)) = endpoint(&slice, port_name) {
            return Ok(Target { host, port, kubelet: false, path: format!("/{}", rest(info, query)) });
        }
    }
    Err(unavailable(&format!("no endpoints available for service {name:?}")))
}

fn endpoint(slice: &Value, port_name: &str) -> Option<(String, u16)> {
    let mut ports = slice["ports"].as_array()?.iter();
    let port = ports.find(|p| p["name"].as_str().unwrap_or_default() == port_name)?["port"].as_u64()?;
    let mut endpoints = slice["endpoints"].as_array()?.iter();
    let ready = endpoints.find(|e| e["conditions"]["ready"] != false)?;
    Some((ready["addresses"].as_array()?.first()?.as_str()?.to_owned(), u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_of_several_containers_asks_which() {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        let error = container(&pod, None, "p").unwrap_err();
        assert_eq!(
            error.message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(container(&pod, Some("i"), "p").unwrap(), "i");
        assert_eq!(container(&pod, Some("x"), "p").unwrap_err().message, "container x is not valid for pod p");
    }

    #[test]
    fn the_kubelet_has_its_own_names_for_the_streams() {
        let query = Query::parse("stdin=true&stdout=true&tty=true&command=sh&command=-c&container=a");
        assert_eq!(stream_params(&query, false), "input=1&output=1&tty=1&command=sh&command=-c");
        assert_eq!(log_params(&Query::parse("follow=true&tailLines=5&container=a")), "follow=true&tailLines=5");
    }
}
