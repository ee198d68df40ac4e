//! Services: by address, by name, through the node's ports.
//!
//! Must not know: how packets find their way.

use crate::cluster::Cluster;
use crate::isolation::ADDRESS;

pub fn a_service_is_reached_by_address_and_by_name(cluster: &mut Cluster) {
    let address = cluster.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'");
    cluster.reaches(&format!("curl -s --max-time 5 http://{address}/"), "web 1");
    cluster.reaches(&format!("kubectl exec client -- curl -s --max-time 5 http://{address}/"), "web 1");
    for name in ["web", "web.default", "web.default.svc.cluster.local"] {
        cluster.reaches(&format!("kubectl exec client -- curl -s --max-time 5 http://{name}/"), "web 1");
    }
    let answer = cluster.sh("kubectl exec client -- kdig +short web.default.svc.cluster.local");
    assert!(answer.contains(&address), "{answer}");
    let every =
        format!("for i in $(seq 60); do curl -s --max-time 5 http://{address}/hostname; done | sort -u | wc -l");
    assert_eq!(cluster.sh(&every), "3", "every pod gets its share");
    cluster.reaches("kubectl exec deployment/web -- timeout 5 wget -qO- http://web/", "web 1");
}

pub fn names_are_looked_up_from_the_host(cluster: &mut Cluster) {
    let address = cluster.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'");
    let ask = |question: &str| cluster.sh(&format!("kdig @10.96.0.10 {question}"));
    assert_eq!(ask("+short web.default.svc.cluster.local"), address);
    assert_eq!(ask("+short +tcp web.default.svc.cluster.local"), address);
    assert_eq!(ask("+short SRV _http._tcp.web.default.svc.cluster.local"), "0 100 80 web.default.svc.cluster.local.");
    assert_eq!(ask(&format!("+short -x {address}")), "web.default.svc.cluster.local.");
    let unknown = ask("nobody.default.svc.cluster.local");
    assert!(unknown.contains("status: NXDOMAIN") && unknown.contains("SOA"), "{unknown}");
    assert!(ask("AAAA web.default.svc.cluster.local").contains("status: NOERROR"));
    // a host whose resolver asks the cluster
    cluster.sh("echo nameserver 10.96.0.10 > resolv.conf");
    let curl = "mount --no-mtab --bind resolv.conf /etc/resolv.conf; curl -s --max-time 5 http://web.default.svc.cluster.local/";
    cluster.reaches(&format!("unshare --mount sh -euc '{curl}'"), "web 1");
}

pub fn a_headless_service_names_its_pods(cluster: &mut Cluster) {
    cluster.sh("kubectl create service clusterip crew --clusterip=None --tcp=80:80");
    cluster.sh("kubectl set selector service crew app=web");
    let addresses = cluster.sh("kubectl get pods -l app=web -o jsonpath='{.items[*].status.podIP}'");
    for address in addresses.split(' ') {
        cluster.reaches("kubectl exec client -- kdig +short crew.default.svc.cluster.local", address);
    }
    cluster.sh("kubectl delete service crew");
}

pub fn a_client_stays_with_its_pod(cluster: &mut Cluster) {
    cluster.sh("kubectl expose deployment web --name=loyal --port=80 --target-port=http --session-affinity=ClientIP");
    let address = cluster.sh("kubectl get service loyal -o jsonpath='{.spec.clusterIP}'");
    cluster.reaches(&format!("curl -s --max-time 5 http://{address}/"), "web 1");
    let every =
        format!("for i in $(seq 30); do curl -s --max-time 5 http://{address}/hostname; done | sort -u | wc -l");
    assert_eq!(cluster.sh(&every), "1");
    cluster.sh("kubectl delete service loyal");
}

pub fn a_node_port_is_reached(cluster: &mut Cluster) {
    cluster.sh("kubectl expose deployment web --name=door --type=NodePort --port=80 --target-port=http");
    let port = cluster.sh("kubectl get service door -o jsonpath='{.spec.ports[0].nodePort}'");
    cluster.reaches(&format!("curl -s --max-time 5 http://{ADDRESS}:{port}/"), "web 1");
    cluster.reaches(&format!("kubectl exec client -- curl -s --max-time 5 http://{ADDRESS}:{port}/"), "web 1");
    cluster.sh("kubectl delete service door");
    let refused = format!("if curl -s --max-time 2 http://{ADDRESS}:{port}/; then echo open; else echo closed; fi");
    cluster.reaches(&refused, "closed");
}

pub fn a_host_port_is_reached(cluster: &mut Cluster) {
    let image = cluster.sh("kubectl get deployment web -o jsonpath='{.spec.template.spec.containers[0].image}'");
    let port = r#"{"containerPort":80,"hostPort":18080}"#;
    let pod = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"gate"}},"spec":{{"terminationGracePeriodSeconds":1,
        "containers":[{{"name":"web","image":"{image}","ports":[{port}]}}]}}}}"#
    );
    cluster.sh(&format!("echo '{pod}' | kubectl apply -f -"));
    for address in [ADDRESS, "127.0.0.1"] {
        cluster.reaches(&format!("curl -s --max-time 5 http://{address}:18080/"), "web 1");
    }
    cluster.reaches(&format!("kubectl exec client -- curl -s --max-time 5 http://{ADDRESS}:18080/"), "web 1");
    cluster.sh("kubectl delete pod gate");
    let refused = format!("if curl -s --max-time 2 http://{ADDRESS}:18080/; then echo open; else echo closed; fi");
    cluster.reaches(&refused, "closed");
}

pub fn an_address_that_no_service_has_leads_nowhere(cluster: &mut Cluster) {
    let nowhere = "if curl -s --max-time 1 http://10.96.200.200/; then echo open; else echo $?; fi";
    cluster.reaches(nowhere, "28");
    assert!(cluster.sh("nft list table ip pintle-proxy").contains("a cluster IP that no Service has"));
}

pub fn a_service_without_endpoints_refuses(cluster: &mut Cluster) {
    cluster.sh("kubectl create service clusterip nobody --tcp=80:80");
    let address = cluster.sh("kubectl get service nobody -o jsonpath='{.spec.clusterIP}'");
    let refused = format!("curl -s --max-time 5 http://{address}/ || echo $?");
    cluster.reaches(&refused, "7");
    cluster.reaches("kubectl exec client -- sh -c 'curl -s --max-time 5 http://nobody/ || echo $?'", "7");
    cluster.sh("kubectl delete service nobody");
}

pub fn the_api_server_leads_inside(cluster: &mut Cluster) {
    let get = |path: &str| cluster.sh(&format!("kubectl get --raw '/api/v1/{path}'"));
    let pod = cluster.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'");
    assert!(get("namespaces/default/services/web:http/proxy/").contains("web 1"));
    assert!(get("namespaces/default/services/http:web:80/proxy/?a=b").contains("web 1"));
    assert_eq!(get(&format!("namespaces/default/pods/{pod}/proxy/hostname")).trim(), pod);
    let node = cluster.sh("kubectl get nodes -o jsonpath='{.items[0].metadata.name}'");
    for node in [node.clone(), format!("{node}:10250")] {
        assert_eq!(get(&format!("nodes/{node}/proxy/healthz")), "ok");
    }
    let refused = cluster.fails(&format!("kubectl get --raw '/api/v1/namespaces/default/pods/{pod}:81/proxy/'"));
    assert!(refused.contains("error trying to reach service: dial tcp") && refused.contains("refused"), "{refused}");
    let tls = cluster.fails(&format!("kubectl get --raw '/api/v1/namespaces/default/pods/https:{pod}:80/proxy/'"));
    assert!(tls.contains("error trying to reach service: tls:"), "{tls}");
}
