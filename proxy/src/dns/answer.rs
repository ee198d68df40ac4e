//! PURE: a question about the cluster's zone or its addresses → records, from the model.
//!
//! Schema: https://github.com/kubernetes/dns/blob/master/docs/specification.md; details as CoreDNS' kubernetes plugin.
//! Must not know: packets, and how other names are resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::model::{Endpoint, Model, Service, ServiceName};

/// Seconds; CoreDNS' default for the kubernetes plugin.
const TTL: u32 = 5;
const SCHEMA_VERSION: &str = "1.1.0";
/// What CoreDNS puts into its SOA: refresh, retry, expire.
const SOA_TIMES: (i32, i32, i32) = (7200, 1800, 86_400);

/// The cluster's domain.
#[derive(Debug, Clone)]
pub struct Zone {
    name: Name,
}

impl Zone {
    /// Errors when `domain` is no domain name.
    pub fn new(domain: &str) -> anyhow::Result<Self> {
        let mut name = Name::from_ascii(domain)?.to_lowercase();
        name.set_fqdn(true);
        Ok(Self { name })
    }

    pub fn soa(&self) -> Option<Record> {
        let host = self.below(&["ns", "dns"])?;
        let mailbox = self.below(&["hostmaster"])?;
        let (refresh, retry, expire) = SOA_TIMES;
        let soa = SOA::new(host, mailbox, 1, refresh, retry, expire, TTL);
        Some(record(&self.name, RData::SOA(soa)))
    }

    fn below(&self, labels: &[&str]) -> Option<Name> {
        Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok()?.append_domain(&self.name).ok()
    }
}

/// What the model says about a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Records that answer it, and addresses of the names in them. None at all: the name has other records only.
    Records { answers: Vec<Record>, additionals: Vec<Record> },
    /// The name is another one's alias, to be resolved from there.
    Alias(Box<Alias>),
    /// There is no such name.
    NameError,
    /// Not about the cluster.
    NotOurs,
}

/// A CNAME record, and the name it leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Alias {
    pub record: Record,
    pub target: Name,
}

impl Outcome {
    fn records(answers: Vec<Record>) -> Self {
        Self::Records { answers, additionals: Vec::new() }
    }

    fn no_data() -> Self {
        Self::records(Vec::new())
    }
}

/// Answers from the model. `name` may be in any case.
pub fn answer(model: &Model, zone: &Zone, name: &Name, kind: RecordType) -> Outcome {
    let lower = name.to_lowercase();
    if let Some(address) = reverse_address(&lower) {
        return reverse(model, zone, name, address, kind);
    }
    if !zone.name.zone_of(&lower) {
        return Outcome::NotOurs;
    }
    let depth = usize::from(lower.num_labels().saturating_sub(zone.name.num_labels()));
    let labels: Vec<String> = lower.iter().take(depth).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let question = Question { model, zone, name, kind };
    match labels.as_slice() {
        [] => question.apex(),
        ["dns-version"] if kind == RecordType::TXT => {
            Outcome::records(vec![record(name, RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_string()])))])
        }
        ["dns-version"] | ["svc"] | ["pod"] | ["dns"] => Outcome::no_data(),
        ["ns", "dns"] => Outcome::no_data(),
        [namespace, "svc"] if model.has_namespace(namespace) => Outcome::no_data(),
        [service, namespace, "svc"] => question.service(&ServiceName::new(namespace, service), Part::All),
        [host, service, namespace, "svc"] if !host.starts_with('_') => {
            question.service(&ServiceName::new(namespace, service), Part::Host(host))
        }
        [port, protocol, service, namespace, "svc"] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
            (Some(port), Some(protocol)) => {
                question.service(&ServiceName::new(namespace, service), Part::Port { port, protocol })
            }
            _ => Outcome::NameError,
        },
        [dashed, _namespace, "pod"] => question.pod(dashed),
        _ => Outcome::NameError,
    }
}

/// Which part of a Service a name means.
#[derive(Clone, Copy)]
enum Part<'a> {
    All,
    /// One endpoint, by hostname or dashed address.
    Host(&'a str),
    Port {
        port: &'a str,
        protocol: &'a str,
    },
}

impl Part<'_> {
    fn has_port(&self, name: &str, label: &str) -> bool {
        match self {
            Self::Port { port, protocol } => name.eq_ignore_ascii_case(port) && label == *protocol,
            _ => true,
        }
    }

    fn has_host(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Host(host) => endpoint_host(endpoint).eq_ignore_ascii_case(host),
            _ => true,
        }
    }
}

struct Question<'a> {
    model: &'a Model,
    zone: &'a Zone,
    name: &'a Name,
    kind: RecordType,
}

impl Question<'_> {
    fn apex(&self) -> Outcome {
        match self.kind {
            RecordType::SOA => Outcome::records(self.zone.soa().into_iter().collect()),
            RecordType::NS => {
                let host = self.zone.below(&["ns", "dns"]);
                Outcome::records(host.map(|host| record(self.name, RData::NS(NS(host)))).into_iter().collect())
            }
            _ => Outcome::no_data(),
        }
    }

    fn pod(&self, dashed: &str) -> Outcome {
        match dashed_address(dashed) {
            Some(address) => Outcome::records(self.addresses([address].into_iter())),
            None => Outcome::NameError,
        }
    }

    fn service(&self, service_name: &ServiceName, part: Part<'_>) -> Outcome {
        let Some(service) = self.model.service(service_name) else { return Outcome::NameError };
        if let Some(target) = &service.external_name {
            return self.external(target, part);
        }
        if service.headless || matches!(part, Part::Host(_)) {
            return self.endpoints(service_name, service, part);
        }
        let ports = service.ports.iter().filter(|port| part.has_port(&port.name, port.protocol.label()));
        let ports: Vec<u16> = ports.map(|port| port.port).collect();
        if ports.is_empty() && matches!(part, Part::Port { .. }) {
            return Outcome::NameError;
        }
        if self.kind != RecordType::SRV {
            return Outcome::records(self.addresses(service.cluster_ips.iter().copied()));
        }
        let Some(target) = self.service_host(service_name) else { return Outcome::NameError };
        let answers = self.srv(ports.into_iter().map(|port| (port, target.clone())).collect());
        Outcome::Records { answers, additionals: all_addresses(&target, service.cluster_ips.iter().copied()) }
    }

    fn external(&self, target: &str, part: Part<'_>) -> Outcome {
        match (part, Name::from_ascii(target)) {
            (Part::All, Ok(mut target)) => {
                target.set_fqdn(true);
                let record = record(self.name, RData::CNAME(CNAME(target.clone())));
                Outcome::Alias(Box::new(Alias { record, target }))
            }
            _ => Outcome::NameError,
        }
    }

    fn endpoints(&self, service_name: &ServiceName, service: &Service, part: Part<'_>) -> Outcome {
        let mut found: Vec<(&Endpoint, Vec<u16>)> = Vec::new();
        for slice in self.model.slices(service_name) {
            let ports = slice.ports.iter().filter(|port| part.has_port(&port.name, port.protocol.label()));
            let ports: Vec<u16> = ports.filter_map(|port| port.port).collect();
            if ports.is_empty() && matches!(part, Part::Port { .. }) {
                continue;
            }
            let usable = |endpoint: &&Endpoint| endpoint.ready || service.publish_not_ready;
            let wanted = slice.endpoints.iter().filter(usable).filter(|endpoint| part.has_host(endpoint));
            found.extend(wanted.map(|endpoint| (endpoint, ports.clone())));
        }
        if found.is_empty() {
            return if matches!(part, Part::All) { Outcome::no_data() } else { Outcome::NameError };
        }
        if self.kind != RecordType::SRV {
            return Outcome::records(self.addresses(found.iter().map(|(endpoint, _)| endpoint.address)));
        }
        self.endpoint_srv(service_name, &found)
    }

    fn endpoint_srv(&self, service_name: &ServiceName, found: &[(&Endpoint, Vec<u16>)]) -> Outcome {
        let mut targets = Vec::new();
        let mut additionals = Vec::new();
        for (endpoint, ports) in found {
            let host = endpoint_host(endpoint);
            let Some(target) = self.zone.below(&[host.as_ref(), &*service_name.name, &*service_name.namespace, "svc"])
            else {
                continue;
            };
            targets.extend(ports.iter().map(|port| (*port, target.clone())));
            additionals.extend(all_addresses(&target, [endpoint.address].into_iter()));
        }
        Outcome::Records { answers: self.srv(targets), additionals }
    }

    /// CoreDNS shares a weight of 100 among the targets.
    fn srv(&self, targets: Vec<(u16, Name)>) -> Vec<Record> {
        let weight = (100 / targets.len().max(1)).max(1) as u16;
        let data = targets.into_iter().map(|(port, target)| RData::SRV(SRV::new(0, weight, port, target)));
        data.map(|data| record(self.name, data)).collect()
    }

    fn service_host(&self, name: &ServiceName) -> Option<Name> {
        self.zone.below(&[&*name.name, &*name.namespace, "svc"])
    }

    /// The address records the question asks for.
    fn addresses(&self, addresses: impl Iterator<Item = IpAddr>) -> Vec<Record> {
        let mut records = all_addresses(self.name, addresses);
        records.retain(|record| record.record_type() == self.kind);
        records
    }
}

fn reverse(model: &Model, zone: &Zone, name: &Name, address: IpAddr, kind: RecordType) -> Outcome {
    let mut hosts: Vec<Name> = Vec::new();
    if let Some(service) = model.by_cluster_ip(address) {
        hosts.extend(zone.below(&[&*service.name, &*service.namespace, "svc"]));
    } else {
        for service in model.by_endpoint(address) {
            let endpoints = model.slices(service).flat_map(|slice| &slice.endpoints);
            let Some(endpoint) = endpoints.into_iter().find(|endpoint| endpoint.address == address) else { continue };
            let host = endpoint_host(endpoint);
            hosts.extend(zone.below(&[host.as_ref(), &*service.name, &*service.namespace, "svc"]));
        }
    }
    if hosts.is_empty() {
        return Outcome::NotOurs;
    }
    let wanted = kind == RecordType::PTR;
    Outcome::records(hosts.into_iter().filter(|_| wanted).map(|host| record(name, RData::PTR(PTR(host)))).collect())
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

fn all_addresses(name: &Name, addresses: impl Iterator<Item = IpAddr>) -> Vec<Record> {
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    let data = addresses.into_iter().map(|address| match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    });
    data.map(|data| record(name, data)).collect()
}

/// An endpoint's own label below its Service: its hostname, else its address with dashes.
fn endpoint_host(endpoint: &Endpoint) -> Arc<str> {
    match &endpoint.hostname {
        Some(hostname) => hostname.clone(),
        None => endpoint.address.to_string().replace(['.', ':'], "-").into(),
    }
}

/// `10-244-0-5` or `fd00--5`.
fn dashed_address(dashed: &str) -> Option<IpAddr> {
    let four = dashed.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
    four.or_else(|_| dashed.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from)).ok()
}

/// The one address an `in-addr.arpa` or `ip6.arpa` name stands for.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
    match labels.as_slice() {
        [d, c, b, a, arpa @ ..] if arpa == ["in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok(),
        [nibbles @ .., ip6, arpa] if ip6 == "ip6" && arpa == "arpa" && nibbles.len() == 32 => {
            let digits: String = nibbles.iter().rev().map(String::as_str).collect();
            u128::from_str_radix(&digits, 16).ok().map(|bits| Ipv6Addr::from(bits).into())
        }
        _ => None,
    }
}
