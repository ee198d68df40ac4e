//! PURE: which host ports a pod gets, as elements of the table's map and set.
//!
//! Must not know: the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pintle_nftables::{Element, ElementData, Family};

use super::rules::{ADDRESS_PORTS, PORTS};
use crate::caller::PortMapping;
use crate::error::{CniError, Code, Result};

/// One port of the host that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Unspecified for every address of the host.
    pub host: IpAddr,
    /// The IP protocol's number.
    pub protocol: u8,
    pub port: u16,
    pub pod: IpAddr,
    pub pod_port: u16,
}

pub const UDP: u8 = 17;

/// The pod's host ports in the families of its addresses.
///
/// # Errors
/// An address or protocol is none, or a container port is 0.
pub fn host_ports(mappings: &[PortMapping], addresses: &[IpAddr]) -> Result<Vec<HostPort>> {
    let mut ports = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port > 0) {
        let host: Option<IpAddr> = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| broken(format!("hostIP {text:?} is no address")))?),
        };
        let protocol = protocol(&mapping.protocol)?;
        if mapping.container_port == 0 {
            return Err(broken("a port mapping has no container port".into()));
        }
        let same_family = |pod: &&IpAddr| host.is_none_or(|host| host.is_ipv6() == pod.is_ipv6());
        ports.extend(addresses.iter().filter(same_family).map(|pod| HostPort {
            host: host.unwrap_or_else(|| unspecified(*pod)),
            protocol,
            port: mapping.host_port,
            pod: *pod,
            pod_port: mapping.container_port,
        }));
    }
    Ok(ports)
}

fn broken(why: String) -> CniError {
    CniError::new(Code::InvalidConfig, why)
}

fn protocol(name: &str) -> Result<u8> {
    match name.to_lowercase().as_str() {
        "" | "tcp" => Ok(6),
        "udp" => Ok(UDP),
        "sctp" => Ok(132),
        _ => Err(broken(format!("{name:?} is no protocol of a port mapping"))),
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

pub fn family(address: IpAddr) -> Family {
    if address.is_ipv6() { Family::V6 } else { Family::V4 }
}

/// An address' bytes: they fill whole registers.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl HostPort {
    /// The map that it belongs to.
    pub fn map(&self) -> &'static str {
        if self.host.is_unspecified() { PORTS } else { ADDRESS_PORTS }
    }

    /// (address.)protocol.port → address.port; every field is padded to 4 bytes.
    pub fn element(&self) -> Element {
        let port = |number: u16| [number.to_be_bytes(), [0, 0]].concat();
        let host = if self.host.is_unspecified() { Vec::new() } else { octets(self.host) };
        let key = [host, vec![self.protocol, 0, 0, 0], port(self.port)].concat();
        Element { key, data: ElementData::Value([octets(self.pod), port(self.pod_port)].concat()) }
    }
}

/// The pod may reach itself by its host port.
pub fn hairpin(pod: IpAddr) -> Element {
    Element { key: [octets(pod), octets(pod)].concat(), data: ElementData::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_ip: &str, protocol: &str) -> PortMapping {
        PortMapping { host_port: 8080, container_port: 80, protocol: protocol.into(), host_ip: host_ip.into() }
    }

    fn hosts(host_ip: &str) -> Vec<String> {
        let addresses = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let ports = host_ports(&[mapping(host_ip, "TCP")], &addresses).unwrap();
        ports.iter().map(|port| format!("{}>{}", port.host, port.pod)).collect()
    }

    #[test]
    fn a_port_is_open_in_each_family_that_its_host_address_allows() {
        assert_eq!(hosts(""), ["0.0.0.0>10.0.0.2", "::>fd00::2"]);
        assert_eq!(hosts("0.0.0.0"), ["0.0.0.0>10.0.0.2"]);
        assert_eq!(hosts("fd77::1"), ["fd77::1>fd00::2"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let of = |mapping| host_ports(&[mapping], &["10.0.0.2".parse().unwrap()]).unwrap_err().code;
        assert_eq!(of(mapping("x", "tcp")), Code::InvalidConfig);
        assert_eq!(of(mapping("", "icmp")), Code::InvalidConfig);
        assert_eq!(of(PortMapping { container_port: 0, ..mapping("", "tcp") }), Code::InvalidConfig);
    }

    #[test]
    fn elements_are_padded_fields() {
        let of = |host_ip| host_ports(&[mapping(host_ip, "udp")], &["10.0.0.2".parse().unwrap()]).unwrap().remove(0);
        let (every, one) = (of(""), of("10.1.2.3"));
        assert_eq!((every.map(), one.map()), (PORTS, ADDRESS_PORTS));
        assert_eq!(every.element().key, [17, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(one.element().key, [10, 1, 2, 3, 17, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(one.element().data, ElementData::Value(vec![10, 0, 0, 2, 0, 80, 0, 0]));
    }
}
