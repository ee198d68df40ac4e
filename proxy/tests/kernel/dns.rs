//! DNS at the cluster DNS address: from a pod and from the host, over UDP and TCP, forwarded and not.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::RwLock;
use pintle_proxy::dns;
use pintle_proxy::model::{Endpoint, Model, Service, ServiceName, Slice};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::network::{NODE, Network, OUTSIDE, inside, possible};
use crate::rules::{Proxy, context};

const DNS: &str = "10.96.0.10";

fn model() -> Model {
    let mut model = Model::default();
    let service = |spec| Service::reduce(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("one"));
    let own = json!({"clusterIP": DNS, "clusterIPs": [DNS], "ports": [{"port": 53, "protocol": "UDP"}]});
    model.set_service(ServiceName::new("kube-system", "kube-dns"), service(own));
    let web = json!({"clusterIP": "10.96.0.50", "clusterIPs": ["10.96.0.50"], "ports": [{"port": 80}]});
    model.set_service(ServiceName::new("default", "web"), service(web));
    let elsewhere = json!({"type": "ExternalName", "externalName": "host.example.org"});
    model.set_service(ServiceName::new("default", "elsewhere"), service(elsewhere));
    let many = ServiceName::new("default", "many");
    model.set_service(many.clone(), service(json!({"clusterIP": "None", "ports": []})));
    let endpoints = (0..200u8).map(|n| Endpoint::ready(IpAddr::from([10, 244, 1, n]))).collect();
    model.set_slice(&many, "s", Slice { ports: Vec::new(), endpoints });
    model
}

/// DNS in the network's node until the test ends, and a resolver outside that knows host.example.org.
fn start(network: &Network) -> Proxy {
    let resolv_conf = std::env::temp_dir().join(format!("proxy-resolv-{}", std::process::id()));
    std::fs::write(&resolv_conf, format!("nameserver {OUTSIDE}\n")).expect("writing resolv.conf");
    let address: IpAddr = DNS.parse().expect("an address");
    let settings = dns::Settings { listen: vec![address], port: 53, domain: "cluster.local".into(), resolv_conf };
    let served = Arc::new(RwLock::new(model()));
    let node = network.node();
    std::thread::spawn(move || {
        inside(&node, || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                dns::add_addresses(&[address]).await.expect("the link");
                dns::add_addresses(&[address]).await.expect("the link again");
                dns::serve(settings, served, CancellationToken::new()).await.expect("serving");
            });
        });
    });
    outside_resolver(&network.outside());
    let mut proxy = Proxy::start(network, model());
    for syncer in &mut proxy.syncers {
        let family = syncer.family();
        let context = pintle_proxy::plan::service::Context { served_here: vec![address], ..context(family) };
        syncer.sync_all(&proxy.model, context).expect("a sync");
    }
    proxy
}

fn outside_resolver(namespace: &str) {
    let socket = inside(namespace, || UdpSocket::bind(format!("{OUTSIDE}:53")).expect("binding"));
    let listener = inside(namespace, || std::net::TcpListener::bind(format!("{OUTSIDE}:53")).expect("listening"));
    let reply = |packet: &[u8]| {
        let query = Message::from_vec(packet).expect("a query");
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        let question = query.queries[0].clone();
        reply.add_query(question.clone());
        if question.name().to_string() == "host.example.org." && question.query_type() == RecordType::A {
            reply.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A::new(192, 0, 2, 7))));
        } else {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        reply.to_vec().expect("a reply")
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((read, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&reply(&buffer[..read]), client);
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut packet).expect("a query");
            let reply = reply(&packet);
            stream.write_all(&[&(reply.len() as u16).to_be_bytes(), &reply[..]].concat()).expect("a reply");
        }
    });
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("a query")
}

fn ask(namespace: &str, name: &str, kind: RecordType) -> Message {
    let packet = question(name, kind);
    inside(namespace, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("binding");
        socket.connect((DNS, 53)).expect("connecting");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let mut buffer = [0; 4096];
        // the server starts beside the test
        let read = (0..20).find_map(|_| {
            socket.send(&packet).ok()?;
            socket.recv(&mut buffer).inspect_err(|_| std::thread::sleep(Duration::from_millis(50))).ok()
        });
        Message::from_vec(&buffer[..read.expect("an answer")]).expect("a message")
    })
}

fn ask_tcp(namespace: &str, name: &str, kind: RecordType) -> Message {
    let packet = question(name, kind);
    inside(namespace, || {
        let address = SocketAddr::new(DNS.parse().expect("an address"), 53);
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).expect("connecting");
        stream.write_all(&[&(packet.len() as u16).to_be_bytes(), &packet[..]].concat()).expect("asking");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("a length");
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).expect("a reply");
        Message::from_vec(&reply).expect("a message")
    })
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn pods_and_the_host_resolve_names() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    let pod = network.add_pod(9);
    let _proxy = start(&network);
    for from in [&pod, &network.node()] {
        assert_eq!(addresses(&ask(from, "web.default.svc.cluster.local.", RecordType::A)), ["10.96.0.50"]);
        assert_eq!(addresses(&ask_tcp(from, "WEB.default.svc.cluster.local.", RecordType::A)), ["10.96.0.50"]);
        let outside = ask(from, "host.example.org.", RecordType::A);
        assert_eq!((outside.metadata.id, addresses(&outside)), (4711, vec!["192.0.2.7".to_string()]));
        let searched = ask(from, "host.example.org.default.svc.cluster.local.", RecordType::A);
        assert_eq!(searched.metadata.response_code, ResponseCode::NXDomain);
        let alias = ask(from, "elsewhere.default.svc.cluster.local.", RecordType::A);
        assert_eq!(addresses(&alias), ["host.example.org.", "192.0.2.7"]);
    }
    let large = ask(&pod, "many.default.svc.cluster.local.", RecordType::A);
    assert!(large.metadata.truncation && large.answers.is_empty());
    assert_eq!(ask_tcp(&pod, "many.default.svc.cluster.local.", RecordType::A).answers.len(), 200);
    // the node's own address is no resolver, and the link goes with the cleanup
    let removed = inside(&network.node(), || {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(pintle_proxy::cleanup()).expect("a cleanup")
    });
    assert_eq!(removed.len(), 3, "{removed:?} at {NODE}");
}
