//! SCTP Services. Many kernels have no SCTP sockets, but connection tracking knows it: so the packets are made here.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use pintle_proxy::model::Model;
use serde_json::json;

use crate::network::{NODE, Network, inside, possible};
use crate::rules::{Proxy, cluster_ip, with};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const CLIENT_PORT: u16 = 40000;
/// Each side's choice, which the other one's packets carry.
const CLIENT_TAG: u32 = 0x1111_1111;
const SERVER_TAG: u32 = 0x2222_2222;

/// An association's packet: who sends, to which port, and what.
#[derive(Debug, PartialEq)]
struct Packet {
    from: Ipv4Addr,
    source: u16,
    destination: u16,
    chunk: u8,
}

/// The socket of all SCTP packets of a namespace; with std's methods, which do not care about its kind.
fn open(namespace: &str) -> UdpSocket {
    let raw = || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp);
    let socket = UdpSocket::from(inside(namespace, raw).expect("a raw socket"));
    socket.set_read_timeout(Some(Duration::from_millis(700))).expect("a time-out");
    socket
}

fn send(socket: &UdpSocket, to: &str, ports: (u16, u16), tag: u32, chunk: u8, own_tag: u32) {
    let mut bytes = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    // type, flags, length; the sender's tag, its window, its streams out and in, its first number
    bytes.extend([chunk, 0, 0, 20]);
    bytes.extend(own_tag.to_be_bytes());
    bytes.extend(65536u32.to_be_bytes());
    bytes.extend([0, 1, 0, 1]);
    bytes.extend(1u32.to_be_bytes());
    let sum = crc32c(&bytes);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    socket.send_to(&bytes, (to, 0)).expect("sending");
}

fn receive(socket: &UdpSocket) -> io::Result<Packet> {
    let mut buffer = [0; 256];
    let (read, from) = socket.recv_from(&mut buffer)?;
    let packet = buffer.get(20..read).filter(|packet| packet.len() >= 32).expect("a packet behind an IP header");
    let mut unsummed = packet.to_vec();
    unsummed[8..12].fill(0);
    assert_eq!(packet[8..12], crc32c(&unsummed).to_le_bytes(), "the checksum follows the translation");
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let std::net::IpAddr::V4(from) = from.ip() else { panic!("{from}") };
    Ok(Packet { from, source: port(0), destination: port(2), chunk: packet[12] })
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn an_association_is_translated_both_ways() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    let server = network.add_pod(2);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    let ports = json!([{"name": "s", "port": 80, "nodePort": 30080, "protocol": "SCTP"}]);
    proxy.set_service("web", with(cluster_ip(), json!({"type": "NodePort", "ports": ports})));
    proxy.set_endpoints("web", &[2]);
    let at_server = open(&server);
    let outside = network.outside();
    let ways = [(&client, "10.96.0.50", 80), (&network.node(), "10.96.0.50", 80), (&outside, NODE, 30080)];
    for (from, address, port) in ways {
        let at_client = open(from);
        send(&at_client, address, (CLIENT_PORT, port), 0, INIT, CLIENT_TAG);
        let init = receive(&at_server).unwrap_or_else(|error| panic!("{address} from {from}: {error}"));
        assert_eq!((init.destination, init.chunk), (8080, INIT), "{address} from {from}");
        let (back, ports) = (init.from.to_string(), (8080, init.source));
        send(&at_server, &back, ports, CLIENT_TAG, INIT_ACK, SERVER_TAG);
        let answer = receive(&at_client).unwrap_or_else(|error| panic!("answer to {from}: {error}"));
        let from = address.parse().expect("an address");
        assert_eq!(answer, Packet { from, source: port, destination: CLIENT_PORT, chunk: INIT_ACK });
    }
}
