//! Where a request for a pod's logs, streams and ports goes: its node's kubelet, under the kubelet's own paths. Pure, but
//! for the cache it looks things up in.
//!
//! Must not know: connections.

use pintle_api::kinds::Kind;
use pintle_api::status::Status;
use serde_json::{Value, json};

use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;

/// How the other end is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS with the server's own certificate, to a kubelet that is known.
    Kubelet,
    Plain,
    /// TLS whose other end proves nothing, as upstream's proxy has it.
    Unverified,
}

/// An address to connect to, and what to ask there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    /// As it was asked for; the transport's own where none was.
    pub port: Option<u16>,
    pub transport: Transport,
    /// Path and query.
    pub path: String,
}

impl Target {
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.transport == Transport::Plain { 80 } else { 443 })
    }

    /// Host and port, as a URL has them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }
}

pub fn get(server: &ApiServer, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let found = server.cache_of("", plural)?.get(namespace, name);
    found.map(|object| object.value()).ok_or_else(|| Status::not_found(plural, "", name))
}

/// Of `log`, `exec`, `attach` and `portforward`. `None` where there is nothing to ask yet: a pod without a node has no logs.
pub fn pod(server: &ApiServer, info: &RequestInfo, query: &Query) -> Result<Option<Target>, Status> {
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

/// `PodExecOptions` and its like, as admission sees a connection.
pub fn options(kind: &Kind, info: &RequestInfo, query: &Query) -> Value {
    let Some(subresource) = kind.subresource(&info.subresource) else { return Value::Null };
    let mut options = json!({ "kind": subresource.kind, "apiVersion": "v1" });
    for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| query.flag(flag)) {
        options[flag] = true.into();
    }
    for field in ["container", "path"] {
        if let Some(text) = query.get(field).filter(|text| !text.is_empty()) {
            options[field] = text.into();
        }
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        options["command"] = json!(command);
    }
    let ports: Vec<u16> = query.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        options["ports"] = json!(ports);
    }
    let path: Vec<&str> = info.parts.iter().skip(3).map(String::as_str).collect();
    if info.subresource == "proxy" {
        options["path"] = path.join("/").into();
    }
    options
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
pub fn kubelet(node: &Value, path: String) -> Result<Target, Status> {
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(10_250);
    let all: Vec<&Value> = node["status"]["addresses"].as_array().into_iter().flatten().collect();
    let address = all.iter().find(|a| a["type"] == "InternalIP").or_else(|| all.first());
    let host = address.and_then(|a| a["address"].as_str()).ok_or_else(|| {
        let name = pintle_api::object::name(node);
        Status::internal(format!("no preferred addresses found; known addresses: [] of node {name}"))
    })?;
    Ok(Target { host: host.to_owned(), port: Some(port), transport: Transport::Kubelet, path })
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
