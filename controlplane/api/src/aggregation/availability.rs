//! Whether an aggregated API is available: what its Service and EndpointSlices say of it, and the condition that is
//! written. Source: `kube-aggregator/pkg/controllers/status`.
//!
//! Must not know: how the server behind the Service is asked.

use serde_json::{Value, json};

use super::Service;
use super::endpoint::{is_ready, port_number};

const AVAILABLE: &str = "Available";

/// What the condition `Available` is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub available: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { available: false, reason, message }
    }

    /// Of an API of this server's own.
    pub fn local() -> Self {
        Self { available: true, reason: "Local", message: "Local APIServices are always available".to_owned() }
    }

    pub fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".to_owned() }
    }

    /// Of a server that does not answer as it should.
    pub fn failed(why: String) -> Self {
        Self::no("FailedDiscoveryCheck", why)
    }
}

/// What rules the API out before anybody is asked. `slices` are the Service's EndpointSlices.
pub fn ruled_out(wanted: &Service, service: Option<&Value>, slices: &[Value]) -> Option<Verdict> {
    let named = format!("service/{} in {:?}", wanted.name, wanted.namespace);
    let Some(service) = service else {
        return Some(Verdict::no("ServiceNotFound", format!("{named} is not present")));
    };
    if service["spec"]["type"].as_str().unwrap_or("ClusterIP") != "ClusterIP" {
        return None;
    }
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let Some(port) = ports.find(|port| port["port"].as_u64() == Some(wanted.port.into())) else {
        return Some(Verdict::no("ServicePortError", format!("{named} is not listening on port {}", wanted.port)));
    };
    if slices.is_empty() {
        return Some(Verdict::no("EndpointsNotFound", format!("cannot find endpointslices for {named}")));
    }
    let port = port["name"].as_str().unwrap_or_default();
    let serves = |slice: &Value| {
        let endpoints = slice["endpoints"].as_array();
        endpoints.is_some_and(|all| all.iter().any(is_ready)) && port_number(slice, port).is_some()
    };
    if slices.iter().any(serves) {
        return None;
    }
    let message = format!("endpointslices for {named} have no addresses with port name {port:?}");
    Some(Verdict::no("MissingEndpoints", message))
}

/// The status with the verdict in it. The time changes with the condition's status alone.
pub fn status(old: &Value, verdict: &Verdict, now: &str) -> Value {
    let word = if verdict.available { "True" } else { "False" };
    let mut status = if old.is_object() { old.clone() } else { json!({}) };
    let before = condition(&status).filter(|it| it["status"] == word).and_then(|it| it["lastTransitionTime"].as_str());
    let new = json!({
        "type": AVAILABLE, "status": word, "lastTransitionTime": before.unwrap_or(now), "reason": verdict.reason,
        "message": verdict.message,
    });
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    if let Some(all) = status["conditions"].as_array_mut() {
        match all.iter_mut().find(|it| it["type"] == AVAILABLE) {
            Some(condition) => *condition = new,
            None => all.push(new),
        }
    }
    status
}

fn condition(status: &Value) -> Option<&Value> {
    status["conditions"].as_array()?.iter().find(|it| it["type"] == AVAILABLE)
}

/// Whether the APIService says that it is available.
pub fn is_available(object: &Value) -> bool {
    condition(&object["status"]).is_some_and(|it| it["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Service {
        Service { namespace: "n".to_owned(), name: "s".to_owned(), port: 443 }
    }

    fn service(ports: Value) -> Value {
        json!({ "spec": { "type": "ClusterIP", "ports": ports } })
    }

    fn told(service: Option<&Value>, slices: &[Value]) -> Option<(&'static str, String)> {
        ruled_out(&wanted(), service, slices).map(|it| (it.reason, it.message))
    }

    #[test]
    fn what_is_missing_is_named_as_upstream_names_it() {
        let say = |reason, message: &str| Some((reason, message.to_owned()));
        assert_eq!(told(None, &[]), say("ServiceNotFound", "service/s in \"n\" is not present"));
        let other = service(json!([{ "port": 80 }]));
        assert_eq!(told(Some(&other), &[]), say("ServicePortError", "service/s in \"n\" is not listening on port 443"));
        let right = service(json!([{ "name": "https", "port": 443 }]));
        assert_eq!(
            told(Some(&right), &[]),
            say("EndpointsNotFound", "cannot find endpointslices for service/s in \"n\"")
        );
        let slice = |ready: Value, port: &str| {
            json!({
                "endpoints": [{ "addresses": ["192.0.2.1"], "conditions": { "ready": ready } }],
                "ports": [{ "name": port, "port": 8443 }],
            })
        };
        let missing =
            say("MissingEndpoints", "endpointslices for service/s in \"n\" have no addresses with port name \"https\"");
        assert_eq!(told(Some(&right), &[slice(json!(false), "https")]), missing);
        assert_eq!(told(Some(&right), &[slice(json!(true), "http")]), missing);
        assert_eq!(told(Some(&right), &[slice(json!(null), "https")]), None);
    }

    #[test]
    fn of_other_services_only_the_server_can_tell() {
        let external = json!({ "spec": { "type": "ExternalName", "externalName": "example.com" } });
        assert_eq!(told(Some(&external), &[]), None);
    }

    #[test]
    fn the_time_is_that_of_the_last_change_of_the_status() {
        let first = status(&Value::Null, &Verdict::failed("a".to_owned()), "then");
        let again = status(&first, &Verdict::failed("b".to_owned()), "now");
        assert_eq!(again["conditions"][0]["lastTransitionTime"], "then");
        assert_eq!(again["conditions"][0]["message"], "b");
        let better = status(&again, &Verdict::passed(), "now");
        assert_eq!(better["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(better["conditions"][0]["lastTransitionTime"], "now");
        assert!(is_available(&json!({ "status": better })) && !is_available(&json!({ "status": again })));
        assert!(!is_available(&json!({})));
    }
}
