//! The constant sets and maps of the table: their names, keys and values.
//!
//! Must not know: which elements they hold.

use pintle_nftables::{Family, Set, SetKind, Type};

/// The table of this proxy, in the families ip and ip6.
pub const TABLE: &str = "pintle-proxy";
/// Clients remembered at once for session affinity.
pub const AFFINITY_SIZE: u32 = 131_072;

/// address.protocol.port → how to serve it (see [`crate::plan::element::Frontend`]).
pub const SERVICES: &str = "services";
/// As `services`, for external addresses under externalTrafficPolicy Local: what clients outside the cluster get.
pub const EXTERNAL_LOCAL: &str = "external-local";
/// group.index → endpoint.
pub const ENDPOINTS: &str = "endpoints";
/// group.endpoint, for Services with session affinity: is a remembered endpoint still one?
pub const MEMBERS: &str = "members";
/// service.client → endpoint, written by rules.
pub const AFFINITY: &str = "affinity";
/// address.address of local endpoints, which may reach themselves through a Service.
pub const HAIRPIN: &str = "hairpin";
pub const CLUSTER_IPS: &str = "cluster-ips";
/// address.protocol.port.client ranges of load balancers' source ranges.
pub const ALLOWED_SOURCES: &str = "allowed-sources";
/// The pods' addresses.
pub const CLUSTER_CIDRS: &str = "cluster-cidrs";
/// The Services' addresses, allocated or not.
pub const SERVICE_CIDRS: &str = "service-cidrs";
/// policy → verdict for what was not translated.
pub const ACTIONS: &str = "actions";
/// policy → verdict before translation, for frontends with source ranges.
pub const FENCES: &str = "fences";
/// policy → verdict, behind translation.
pub const MASQUERADES: &str = "masquerades";
/// seconds → the chain that remembers a client for so long.
pub const TIMEOUTS: &str = "timeouts";
/// number of endpoints → the chain that picks one of so many.
pub const COUNTS: &str = "counts";
/// As `counts`, over `external-local`.
pub const COUNTS_LOCAL: &str = "counts-local";

/// All of them.
pub fn sets(family: Family) -> Vec<Set> {
    let address = Type::Address(family);
    let frontend = vec![address, Type::Protocol, Type::Port];
    let value = vec![Type::Number; 5];
    let endpoint = vec![address, Type::Port];
    let map = |name, key, data| Set { name, key, kind: SetKind::Map(data) };
    let set = |name, key| Set { name, key, kind: SetKind::Set };
    let ranges = |name, key| Set { name, key, kind: SetKind::Ranges };
    let verdicts = |name| Set { name, key: vec![Type::Number], kind: SetKind::VerdictMap };
    let affinity = SetKind::Dynamic { data: endpoint.clone(), size: AFFINITY_SIZE };
    vec![
        map(SERVICES, frontend.clone(), value.clone()),
        map(EXTERNAL_LOCAL, frontend, value),
        map(ENDPOINTS, vec![Type::Number, Type::Number], endpoint),
        set(MEMBERS, vec![Type::Number, address, Type::Port]),
        Set { name: AFFINITY, key: vec![Type::Number, address], kind: affinity },
        set(HAIRPIN, vec![address, address]),
        set(CLUSTER_IPS, vec![address]),
        ranges(ALLOWED_SOURCES, vec![address, Type::Protocol, Type::Port, address]),
        ranges(CLUSTER_CIDRS, vec![address]),
        ranges(SERVICE_CIDRS, vec![address]),
        verdicts(ACTIONS),
        verdicts(FENCES),
        verdicts(MASQUERADES),
        verdicts(TIMEOUTS),
        verdicts(COUNTS),
        verdicts(COUNTS_LOCAL),
    ]
}

/// The set of this name.
pub fn set(family: Family, name: &'static str) -> Set {
    let found = sets(family).into_iter().find(|set| set.name == name);
    found.unwrap_or(Set { name, key: Vec::new(), kind: SetKind::Set })
}
