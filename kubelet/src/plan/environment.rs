//! A container's environment: envFrom, env with every source, service links. Source: upstream's
//! makeEnvironmentVariables and envvars package.
//!
//! Must not know: how objects are fetched (a lookup hands them in).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector, Service};

use super::expand::expand;
use super::pod;
use super::quantity::{milli, value};

/// A ConfigMap's or Secret's entries.
pub type Data = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    ConfigMap,
    Secret,
}

impl ObjectKind {
    /// As upstream's messages print it, plural and lower case.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// What an environment is made from besides the spec.
pub struct Sources<'a> {
    pub pod: &'a Pod,
    /// The entries of an object of the pod's namespace; none when it does not exist.
    pub object: &'a dyn Fn(ObjectKind, &str) -> Option<Data>,
    pub services: &'a [Service],
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    /// The node's allocatable cpu (milli) and memory (bytes): what a missing limit reads as.
    pub allocatable: (i64, i64),
}

/// The variables in order, or the text of a CreateContainerConfigError.
pub fn environment(container: &Container, sources: &Sources<'_>) -> Result<Vec<(String, String)>, String> {
    let mut list = Variables::default();
    for (name, value) in from_sources(container, sources)? {
        list.set(name, value);
    }
    let services = service_variables(sources);
    for variable in container.env.as_deref().unwrap_or_default() {
        if let Some(value) = one(variable, container, sources, &list, &services)? {
            list.set(variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        if list.get(&name).is_none() {
            list.0.push((name, value));
        }
    }
    Ok(list.0)
}

#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    /// A later definition wins and keeps its own place at the end.
    fn set(&mut self, name: String, value: String) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

fn not_found(kind: ObjectKind, name: &str) -> String {
    format!("{} \"{name}\" not found", kind.noun())
}

fn from_sources(container: &Container, sources: &Sources<'_>) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for source in container.env_from.as_deref().unwrap_or_default() {
        let (kind, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(reference), _) => (ObjectKind::ConfigMap, reference.name.as_str(), reference.optional),
            (None, Some(reference)) => (ObjectKind::Secret, reference.name.as_str(), reference.optional),
            (None, None) => continue,
        };
        let Some(data) = (sources.object)(kind, name) else {
            if optional == Some(true) {
                continue;
            }
            return Err(not_found(kind, name));
        };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let entries = data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), text(value)));
        // names a process could never read are skipped, as upstream does
        all.extend(entries.filter(|(name, _)| !name.is_empty() && !name.contains('=')));
    }
    Ok(all)
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8(value).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn one(
    variable: &EnvVar,
    container: &Container,
    sources: &Sources<'_>,
    so_far: &Variables,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, String> {
    if let Some(plain) = variable.value.as_deref().filter(|value| !value.is_empty()) {
        let lookup = |name: &str| so_far.get(name).or_else(|| services.get(name).cloned());
        return Ok(Some(expand(plain, &lookup)));
    }
    let Some(source) = &variable.value_from else { return Ok(Some(String::new())) };
    if let Some(field) = &source.field_ref {
        return field_value(field, sources).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return resource_value(resource, container, sources).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        return key(ObjectKind::ConfigMap, &reference.name, &reference.key, reference.optional, sources);
    }
    if let Some(reference) = &source.secret_key_ref {
        return key(ObjectKind::Secret, &reference.name, &reference.key, reference.optional, sources);
    }
    Ok(Some(String::new()))
}

fn key(
    kind: ObjectKind,
    name: &str,
    key: &str,
    optional: Option<bool>,
    sources: &Sources<'_>,
) -> Result<Option<String>, String> {
    let optional = optional == Some(true);
    let Some(mut data) = (sources.object)(kind, name) else {
        return if optional { Ok(None) } else { Err(not_found(kind, name)) };
    };
    match data.remove(key) {
        Some(value) => Ok(Some(text(value))),
        None if optional => Ok(None),
        None => Err(format!("couldn't find key {key} in {} {}/{name}", kind.kind(), pod::namespace(sources.pod))),
    }
}

/// A downward API field. Also read by downwardAPI volumes, whose maps print one `key="value"` per line.
pub fn field_value(field: &ObjectFieldSelector, sources: &Sources<'_>) -> Result<String, String> {
    let pod = sources.pod;
    let spec = pod.spec.as_ref();
    let path = field.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = if map == "metadata.labels" { &pod.metadata.labels } else { &pod.metadata.annotations };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod::name(pod).into(),
        "metadata.namespace" => pod::namespace(pod).into(),
        "metadata.uid" => pod::uid(pod).into(),
        "metadata.labels" => print_map(pod.metadata.labels.as_ref()),
        "metadata.annotations" => print_map(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => first(sources.host_ips),
        "status.hostIPs" => sources.host_ips.join(","),
        "status.podIP" => first(sources.pod_ips),
        "status.podIPs" => sources.pod_ips.join(","),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

fn print_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// `limits.cpu` and the like, divided and rounded up; a missing limit is the node's allocatable.
pub fn resource_value(
    field: &ResourceFieldSelector,
    container: &Container,
    sources: &Sources<'_>,
) -> Result<String, String> {
    let resources = container.resources.clone().unwrap_or_default();
    let (map, name) = match field.resource.split_once('.') {
        Some(("limits", name)) => (resources.limits, name),
        Some(("requests", name)) => (resources.requests, name),
        _ => return Err(format!("unsupported container resource : {}", field.resource)),
    };
    let found = map.as_ref().and_then(|map| map.get(name));
    let is_limit = field.resource.starts_with("limits.");
    let cpu = name == "cpu";
    let amount = match found {
        Some(quantity) if cpu => milli(quantity),
        Some(quantity) => value(quantity),
        None if !is_limit => 0,
        None if cpu => sources.allocatable.0,
        None if name == "memory" => sources.allocatable.1,
        None => 0,
    };
    let divisor = field.divisor.as_ref().filter(|divisor| milli(divisor) > 0);
    let divisor = match divisor {
        Some(quantity) if cpu => milli(quantity),
        Some(quantity) => value(quantity),
        None if cpu => 1000,
        None => 1,
    };
    Ok(((amount + divisor - 1) / divisor).to_string())
}

/// Docker-link variables of the Services the pod sees.
fn service_variables(sources: &Sources<'_>) -> BTreeMap<String, String> {
    let links = sources.pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let namespace = pod::namespace(sources.pod);
    let mut all = BTreeMap::new();
    for service in sources.services {
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let master = of == "default" && service.metadata.name.as_deref() == Some("kubernetes");
        if master || (of == namespace && links) {
            add_service(service, &mut all);
        }
    }
    all
}

fn add_service(service: &Service, all: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let screaming = |name: &str| name.replace('-', "_").to_uppercase();
    let prefix = screaming(service.metadata.name.as_deref().unwrap_or_default());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_string() };
    all.insert(format!("{prefix}_SERVICE_HOST"), ip.into());
    for (index, port) in spec.ports.as_deref().unwrap_or_default().iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            all.insert(format!("{prefix}_SERVICE_PORT"), port.port.to_string());
            all.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            all.insert(format!("{prefix}_SERVICE_PORT_{}", screaming(name)), port.port.to_string());
        }
        let base = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        all.insert(format!("{base}_PROTO"), protocol.to_lowercase());
        all.insert(format!("{base}_PORT"), port.port.to_string());
        all.insert(format!("{base}_ADDR"), ip.into());
        all.insert(base, url);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    fn of(container: &str, services: &[Service]) -> Result<String, String> {
        let pod = pod(&format!("  nodeName: n1\n  containers: [{container}]\n"));
        let object = |kind, name: &str| {
            (kind == ObjectKind::ConfigMap && name == "cm").then(|| Data::from([("k".to_string(), b"v".to_vec())]))
        };
        let ips = ["10.0.0.1".to_string()];
        let sources = Sources {
            pod: &pod,
            object: &object,
            services,
            pod_ips: &ips,
            host_ips: &[],
            allocatable: (2000, 1 << 30),
        };
        let all = environment(&pod.spec.as_ref().unwrap().containers[0], &sources)?;
        Ok(all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn every_source_and_expansion() {
        let container = "{name: a, image: i, envFrom: [{prefix: P_, configMapRef: {name: cm}}], env: [\
            {name: X, value: '1'}, {name: Y, value: '$(X)-$(P_k)'}, {name: N, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, \
            {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, \
            {name: K, valueFrom: {configMapKeyRef: {name: cm, key: k}}}, {name: O, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}]}";
        assert_eq!(of(container, &[]).unwrap(), "P_k=v X=1 Y=1-v N=n1 IP=10.0.0.1 C=2 K=v");
    }

    #[test]
    fn missing_objects_and_keys_are_named() {
        let secret = "{name: a, image: i, env: [{name: K, valueFrom: {secretKeyRef: {name: s, key: k}}}]}";
        assert_eq!(of(secret, &[]).unwrap_err(), "secret \"s\" not found");
        let key = "{name: a, image: i, env: [{name: K, valueFrom: {configMapKeyRef: {name: cm, key: z}}}]}";
        assert_eq!(of(key, &[]).unwrap_err(), "couldn't find key z in ConfigMap default/cm");
    }

    #[test]
    fn services_become_links() {
        let service: Service = serde_yaml_ng::from_str(
            "{metadata: {name: my-db, namespace: default}, spec: {clusterIP: 10.96.0.7, ports: [{port: 80, name: web}]}}",
        )
        .unwrap();
        let all = of("{name: a, image: i}", &[service]).unwrap();
        assert!(all.contains("MY_DB_SERVICE_HOST=10.96.0.7 ") && all.contains("MY_DB_PORT_80_TCP=tcp://10.96.0.7:80"));
        assert!(all.contains("MY_DB_SERVICE_PORT_WEB=80"));
    }
}
