//! The schema's names as a table: question → outcome.

use hickory_proto::rr::{Name, RecordType};
use serde_json::{Value, json};

use super::answer::{Outcome, Zone, answer};
use crate::model::{Model, Service, ServiceName, Slice};

fn service(model: &mut Model, namespace: &str, name: &str, spec: Value) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    let service = Service::reduce(&serde_json::from_value(object).expect("a Service"));
    model.set_service(ServiceName::new(namespace, name), service);
}

fn model() -> Model {
    let mut model = Model::default();
    let ports =
        json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let web = json!({"clusterIP": "10.96.0.50", "clusterIPs": ["10.96.0.50", "fd96::50"], "ports": ports});
    service(&mut model, "default", "web", web);
    service(&mut model, "default", "db", json!({"clusterIP": "None", "ports": [{"name": "pg", "port": 5432}]}));
    service(&mut model, "default", "quiet", json!({"clusterIP": "None", "publishNotReadyAddresses": true}));
    service(&mut model, "default", "ext", json!({"type": "ExternalName", "externalName": "example.org"}));
    let slice = |name: &str, endpoints: Value| {
        let object = json!({"metadata": {}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": name, "port": 5432, "protocol": "TCP"}]});
        Slice::reduce(&serde_json::from_value(object).expect("an EndpointSlice"))
    };
    let endpoints = json!([{"addresses": ["10.244.0.5"], "hostname": "db-0"}, {"addresses": ["10.244.0.6"]},
        {"addresses": ["10.244.0.7"], "conditions": {"ready": false}}]);
    model.set_slice(&ServiceName::new("default", "db"), "db-1", slice("pg", endpoints));
    let unready = json!([{"addresses": ["10.244.0.8"], "conditions": {"ready": false}}]);
    model.set_slice(&ServiceName::new("default", "quiet"), "quiet-1", slice("", unready));
    model
}

fn ask(model: &Model, name: &str, kind: RecordType) -> String {
    let zone = Zone::new("cluster.local").expect("a zone");
    let name = Name::from_ascii(name).expect("a name");
    match answer(model, &zone, &name, kind) {
        Outcome::Records { answers, additionals } => {
            let text = |records: Vec<hickory_proto::rr::Record>| {
                records.iter().map(|r| r.data.to_string()).collect::<Vec<_>>().join(", ")
            };
            let additionals = text(additionals);
            if additionals.is_empty() { text(answers) } else { format!("{} + {additionals}", text(answers)) }
        }
        Outcome::Alias(alias) => format!("alias of {}", alias.target),
        Outcome::NameError => "NXDOMAIN".to_string(),
        Outcome::NotOurs => "forward".to_string(),
    }
}

#[test]
fn names_are_answered_as_coredns_does() {
    use RecordType::{A, AAAA, MX, PTR, SRV, TXT};
    let table = [
        ("web.default.svc.cluster.local.", A, "10.96.0.50"),
        ("Web.Default.SVC.cluster.LOCAL.", AAAA, "fd96::50"),
        ("web.default.svc.cluster.local.", MX, ""),
        ("web.other.svc.cluster.local.", A, "NXDOMAIN"),
        ("web.default.cluster.local.", A, "NXDOMAIN"),
        ("default.svc.cluster.local.", A, ""),
        ("other.svc.cluster.local.", A, "NXDOMAIN"),
        ("svc.cluster.local.", A, ""),
        ("example.org.default.svc.cluster.local.", A, "NXDOMAIN"),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            SRV,
            "0 100 80 web.default.svc.cluster.local. + 10.96.0.50, fd96::50",
        ),
        ("_dns._udp.web.default.svc.cluster.local.", A, "10.96.0.50"),
        ("_http._udp.web.default.svc.cluster.local.", SRV, "NXDOMAIN"),
        ("db.default.svc.cluster.local.", A, "10.244.0.5, 10.244.0.6"),
        ("db.default.svc.cluster.local.", AAAA, ""),
        ("db-0.db.default.svc.cluster.local.", A, "10.244.0.5"),
        ("10-244-0-6.db.default.svc.cluster.local.", A, "10.244.0.6"),
        ("10-244-0-7.db.default.svc.cluster.local.", A, "NXDOMAIN"),
        ("db-9.db.default.svc.cluster.local.", A, "NXDOMAIN"),
        (
            "_pg._tcp.db.default.svc.cluster.local.",
            SRV,
            "0 50 5432 db-0.db.default.svc.cluster.local., 0 50 5432 10-244-0-6.db.default.svc.cluster.local. \
             + 10.244.0.5, 10.244.0.6",
        ),
        ("quiet.default.svc.cluster.local.", A, "10.244.0.8"),
        ("ext.default.svc.cluster.local.", A, "alias of example.org."),
        ("10-244-0-5.default.pod.cluster.local.", A, "10.244.0.5"),
        ("10-244-0.default.pod.cluster.local.", A, "NXDOMAIN"),
        ("fd00--5.default.pod.cluster.local.", AAAA, "fd00::5"),
        ("dns-version.cluster.local.", TXT, "1.1.0"),
        ("50.0.96.10.in-addr.arpa.", PTR, "web.default.svc.cluster.local."),
        ("5.0.244.10.in-addr.arpa.", PTR, "db-0.db.default.svc.cluster.local."),
        ("6.0.244.10.in-addr.arpa.", PTR, "10-244-0-6.db.default.svc.cluster.local."),
        ("9.9.9.9.in-addr.arpa.", PTR, "forward"),
        ("example.org.", A, "forward"),
        ("evilcluster.local.", A, "forward"),
    ];
    let model = model();
    for (name, kind, expected) in table {
        assert_eq!(ask(&model, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn a_long_reverse_name_is_an_ipv6_address() {
    let name = "0.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.d.f.ip6.arpa.";
    assert_eq!(ask(&model(), name, RecordType::PTR), "web.default.svc.cluster.local.");
    assert_eq!(ask(&model(), "1.ip6.arpa.", RecordType::PTR), "forward");
}
