//! Services x 5 endpoints into the kernel of the current network namespace: first load, one change, adoption; timed.
//!
//! `unshare -n target/release/examples/proxy_bench 1000 5000 10000`. Leaves the last table there.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use pintle_nftables::Family;
use pintle_proxy::backend::Table;
use pintle_proxy::model::{Endpoint, Model, Node, Port, Service, ServiceName, Slice, SlicePort};
use pintle_proxy::parse_range;
use pintle_proxy::plan::element::Protocol;
use pintle_proxy::plan::service::Context;
use pintle_proxy::syncer::Syncer;

fn main() -> anyhow::Result<()> {
    println!("services  first sync  one endpoint changed  restart (adopt)  resync (compare)  resident");
    let counts: Vec<u32> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    for services in counts {
        measure(services)?;
    }
    Ok(())
}

fn measure(services: u32) -> anyhow::Result<()> {
    pintle_proxy::backend::cleanup()?;
    let mut model = Model::default();
    for number in 0..services {
        model.set_service(name(number), service(number));
        model.set_slice(&name(number), "s", slice(number, 5));
    }
    let start = Instant::now();
    let mut syncer = Syncer::start(table()?, context())?;
    syncer.sync_all(&model, context())?;
    let first = start.elapsed();

    let rounds = 200;
    let start = Instant::now();
    for round in 0..rounds {
        let number = round * 7 % services;
        model.set_slice(&name(number), "s", slice(number, 4 + round % 2));
        syncer.sync(&model, [&name(number)].into_iter())?;
    }
    let change = start.elapsed() / rounds;

    let start = Instant::now();
    let mut again = Syncer::start(table()?, context())?;
    again.sync_all(&model, context())?;
    let adopt = start.elapsed();
    let start = Instant::now();
    again.reconcile()?;
    let resync = start.elapsed();
    println!("{services:8}  {first:10.1?}  {change:20.1?}  {adopt:15.1?}  {resync:16.1?}  {}", resident());
    Ok(())
}

fn table() -> anyhow::Result<Table> {
    Table::open(Family::V4, &parse_range("10.244.0.0/16").into_iter().collect::<Vec<_>>())
}

fn context() -> Context {
    Context {
        family: Family::V4,
        node: Node { name: "node".into(), ..Node::default() },
        node_port_addresses: Vec::new(),
        pods_known: true,
        masquerade_all: false,
        served_here: Vec::new(),
    }
}

fn name(number: u32) -> ServiceName {
    ServiceName::new("default", &format!("service-{number}"))
}

fn address(base: [u8; 4], number: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::from(base)) + number).into()
}

fn service(number: u32) -> Service {
    let port = Port { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    Service { cluster_ips: vec![address([10, 96, 1, 0], number)], ports: vec![port], ..Service::default() }
}

fn slice(number: u32, endpoints: u32) -> Slice {
    let port = SlicePort { name: "".into(), protocol: Protocol::Tcp, port: Some(8080) };
    let endpoints = (0..endpoints).map(|i| Endpoint::ready(address([10, 244, 0, 0], number * 5 + i))).collect();
    Slice { ports: vec![port], endpoints }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?").trim().to_string()
}
