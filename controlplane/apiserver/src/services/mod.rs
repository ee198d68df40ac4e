//! Addresses and node ports of Services: taken when one is written, given back when it goes
//! (`k8s.io/kubernetes/pkg/registry/core/service/storage/alloc.go`).
//!
//! Must not know: how Services are served, or who routes to them.

mod bitmap;
mod fields;

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use pintle_api::field::{self, Path};
use pintle_api::kinds::Kind;
use pintle_api::object;
use pintle_api::status::Status;
use serde_json::{Value, json};

use crate::cache::Stored;
use crate::config::Config;
use crate::server::ApiServer;
use bitmap::Bitmap;

/// The ranges and what of them is in use. Cloning shares them.
#[derive(Clone)]
pub struct Allocators(Arc<Ranges>);

struct Ranges {
    network: u32,
    addresses: Mutex<Bitmap>,
    first_port: u16,
    last_port: u16,
    ports: Mutex<Bitmap>,
}

/// The largest range of addresses kept: upstream's limit of 20 bits.
const MAX_BITS: u32 = 20;

impl Allocators {
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let (network, bits) = parse_cidr(&config.service_cidr).context("service_cidr")?;
        let size = 1usize << bits;
        let mut addresses = Bitmap::new(size, reserved(size, 16, 256));
        // the network itself and its broadcast address
        addresses.take(0);
        addresses.take(size - 1);
        let (first_port, last_port) = config.node_ports;
        anyhow::ensure!(first_port <= last_port, "node_ports: {first_port} is beyond {last_port}");
        let count = usize::from(last_port - first_port) + 1;
        let ports = Bitmap::new(count, reserved(count, 32, 128));
        Ok(Self(Arc::new(Ranges {
            network,
            addresses: Mutex::new(addresses),
            first_port,
            last_port,
            ports: Mutex::new(ports),
        })))
    }

    /// The first address: that of `kubernetes.default`.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.0.network + 1)
    }

    fn index(&self, address: &str) -> Option<usize> {
        let address: Ipv4Addr = address.parse().ok()?;
        u32::from(address).checked_sub(self.0.network).and_then(|i| usize::try_from(i).ok())
    }

    fn port_index(&self, port: u16) -> Option<usize> {
        port.checked_sub(self.0.first_port).map(usize::from)
    }

    fn release(&self, addresses: &[String], ports: &[u16]) {
        let mut bits = self.0.addresses.lock();
        addresses.iter().filter_map(|a| self.index(a)).for_each(|i| bits.free(i));
        drop(bits);
        let mut bits = self.0.ports.lock();
        ports.iter().filter_map(|p| self.port_index(*p)).for_each(|i| bits.free(i));
    }
}

fn reserved(size: usize, part: usize, most: usize) -> usize {
    let offset = (size / part).max(16).min(most);
    if offset >= size { 0 } else { offset }
}

fn parse_cidr(text: &str) -> anyhow::Result<(u32, u32)> {
    let (address, prefix) = text.split_once('/').context("it has no prefix length")?;
    let address: Ipv4Addr = address.parse().context("its address is not one of IPv4")?;
    let prefix: u32 = prefix.parse().context("its prefix length is no number")?;
    anyhow::ensure!((12..=30).contains(&prefix), "a prefix of {prefix} bits is not between 12 and 30");
    let bits = (32 - prefix).min(MAX_BITS);
    Ok((u32::from(address) & !((1 << bits) - 1), bits))
}

/// What a write took; given back when dropped, unless the write was kept.
pub struct Taken {
    allocators: Option<Allocators>,
    addresses: Vec<String>,
    ports: Vec<u16>,
    /// What the object used before and does not any more.
    freed: (Vec<String>, Vec<u16>),
}

impl Taken {
    fn of(allocators: Option<Allocators>) -> Self {
        Self { allocators, addresses: Vec::new(), ports: Vec::new(), freed: Default::default() }
    }

    /// The write happened.
    pub fn keep(mut self) {
        if let Some(allocators) = self.allocators.take() {
            allocators.release(&self.freed.0, &self.freed.1);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(allocators) = &self.allocators {
            allocators.release(&self.addresses, &self.ports);
        }
    }
}

pub(crate) fn is_service(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "services"
}

/// Marks what the Services in the cache use.
pub fn rebuild(server: &ApiServer) {
    let Ok(cache) = server.cache_of("", "services") else { return };
    let ranges = &server.services.0;
    for service in cache.list(None).items {
        let value = service.value();
        let mut bits = ranges.addresses.lock();
        for index in fields::addresses(&value).iter().filter_map(|a| server.services.index(a)) {
            bits.take(index);
        }
        drop(bits);
        let mut bits = ranges.ports.lock();
        for index in fields::ports(&value).iter().filter_map(|p| server.services.port_index(*p)) {
            bits.take(index);
        }
    }
}

/// What a client leaves out of a changed Service, and the server gave it, stays.
pub fn keep_allocated(kind: &Kind, new: &mut Value, old: &Value) {
    if is_service(kind) {
        fields::drop_unneeded(new, old);
        fields::keep_allocated(new, old);
    }
}

/// Gives a written Service what it needs and lacks. A dry run takes nothing for long.
pub fn allocate(
    server: &ApiServer,
    kind: &Kind,
    object: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Taken, Status> {
    if !is_service(kind) {
        return Ok(Taken::of(None));
    }
    let mut taken = Taken::of(Some(server.services.clone()));
    allocate_address(&server.services, object, old, &mut taken)?;
    allocate_ports(&server.services, object, old, &mut taken)?;
    if let Some(old) = old {
        let (addresses, ports) = (fields::addresses(object), fields::ports(object));
        taken.freed.0 = fields::addresses(old).into_iter().filter(|a| !addresses.contains(a)).collect();
        taken.freed.1 = fields::ports(old).into_iter().filter(|p| !ports.contains(p)).collect();
    }
    // dropping it gives everything back
    if dry_run { Ok(Taken::of(None)) } else { Ok(taken) }
}

fn allocate_address(
    allocators: &Allocators,
    object: &mut Value,
    old: Option<&Value>,
    taken: &mut Taken,
) -> Result<(), Status> {
    if object["spec"]["type"] == "ExternalName" {
        return Ok(());
    }
    fields::fill_families(object);
    let asked = object["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let had = old.map(fields::addresses).unwrap_or_default();
    if asked == "None" {
        object["spec"]["clusterIPs"] = json!(["None"]);
        return Ok(());
    }
    if !asked.is_empty() && had.contains(&asked) {
        return Ok(());
    }
    let address = if asked.is_empty() { any_address(allocators)? } else { claim_address(allocators, object, asked)? };
    object["spec"]["clusterIPs"] = json!([address]);
    object["spec"]["clusterIP"] = address.as_str().into();
    taken.addresses.push(address);
    Ok(())
}

fn any_address(allocators: &Allocators) -> Result<String, Status> {
    let index = allocators.0.addresses.lock().take_any(rand::random());
    let offset = index.and_then(|i| u32::try_from(i).ok());
    let offset = offset.ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?;
    Ok(Ipv4Addr::from(allocators.0.network + offset).to_string())
}

fn claim_address(allocators: &Allocators, object: &Value, asked: String) -> Result<String, Status> {
    let claimed = match allocators.index(&asked) {
        Some(index) => {
            allocators.0.addresses.lock().take(index).then_some(()).ok_or("provided IP is already allocated")
        }
        None => Err("the provided network does not match the current range"),
    };
    match claimed {
        Ok(()) => Ok(asked),
        Err(why) => {
            let path = Path::new("spec").child("clusterIPs").index(0);
            Err(invalid(object, &path, json!([asked]), &format!("failed to allocate IP {asked}: {why}")))
        }
    }
}

fn invalid(object: &Value, path: &Path, bad: Value, why: &str) -> Status {
    Status::invalid("Service", "", object::name(object), &[field::Error::invalid(path, bad, why)])
}

fn allocate_ports(
    allocators: &Allocators,
    object: &mut Value,
    old: Option<&Value>,
    taken: &mut Taken,
) -> Result<(), Status> {
    if !fields::wants_node_ports(object) {
        return Ok(());
    }
    let had = old.map(fields::ports).unwrap_or_default();
    let count = object["spec"]["ports"].as_array().map_or(0, Vec::len);
    for index in 0..count {
        let asked = object["spec"]["ports"][index]["nodePort"].as_u64().unwrap_or(0);
        let asked = u16::try_from(asked).unwrap_or(u16::MAX);
        let shared = fields::shared_port(object, index, asked);
        if asked != 0 && (had.contains(&asked) || shared) {
            continue;
        }
        let port = match asked {
            0 => match fields::twin_port(object, index) {
                Some(twin) => twin,
                None => any_port(allocators, taken)?,
            },
            asked => claim_port(allocators, object, index, asked, taken)?,
        };
        object["spec"]["ports"][index]["nodePort"] = port.into();
    }
    allocate_health_port(allocators, object, &had, taken)
}

/// Load balancers that keep the client's address ask a node whether it has endpoints.
fn allocate_health_port(
    allocators: &Allocators,
    object: &mut Value,
    had: &[u16],
    taken: &mut Taken,
) -> Result<(), Status> {
    let wants = object["spec"]["type"] == "LoadBalancer" && object["spec"]["externalTrafficPolicy"] == "Local";
    if !wants {
        return Ok(());
    }
    let asked = u16::try_from(object["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0)).unwrap_or(u16::MAX);
    if asked == 0 {
        object["spec"]["healthCheckNodePort"] = any_port(allocators, taken)?.into();
    } else if !had.contains(&asked) {
        let claimed = allocators.port_index(asked).is_some_and(|i| allocators.0.ports.lock().take(i));
        if !claimed {
            return Err(Status::internal("failed to allocate requested HealthCheck NodePort"));
        }
        taken.ports.push(asked);
    }
    Ok(())
}

fn any_port(allocators: &Allocators, taken: &mut Taken) -> Result<u16, Status> {
    let index = allocators.0.ports.lock().take_any(rand::random());
    let offset = index.and_then(|i| u16::try_from(i).ok());
    let offset = offset.ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
    taken.ports.push(allocators.0.first_port + offset);
    Ok(allocators.0.first_port + offset)
}

fn claim_port(
    allocators: &Allocators,
    object: &Value,
    index: usize,
    asked: u16,
    taken: &mut Taken,
) -> Result<u16, Status> {
    let Ranges { first_port, last_port, .. } = *allocators.0;
    let path = Path::new("spec").child("ports").index(index).child("nodePort");
    if !(first_port..=last_port).contains(&asked) {
        let why =
            format!("provided port is not in the valid range. The range of valid ports is {first_port}-{last_port}");
        return Err(invalid(object, &path, asked.into(), &why));
    }
    let claimed = allocators.port_index(asked).is_some_and(|i| allocators.0.ports.lock().take(i));
    if !claimed {
        return Err(invalid(object, &path, asked.into(), "provided port is already allocated"));
    }
    taken.ports.push(asked);
    Ok(asked)
}

/// Gives back what a deleted Service used.
pub fn release(server: &ApiServer, kind: &Kind, deleted: &Stored) {
    if is_service(kind) {
        let value = deleted.value();
        server.services.release(&fields::addresses(&value), &fields::ports(&value));
    }
}
