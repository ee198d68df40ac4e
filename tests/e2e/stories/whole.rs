//! Stories of the whole cluster: it starts, stops and goes.
//!
//! Must not know: what runs in it.

use crate::cluster::Cluster;
use crate::traces::Traces;

pub fn a_machine_becomes_a_cluster(cluster: &mut Cluster) {
    cluster.up();
    assert_eq!(cluster.sh("curl -sk https://127.0.0.1:6443/livez"), "ok");
    assert_eq!(cluster.sh("stat -c %a /etc/pintle/admin.kubeconfig"), "600");
}

pub fn a_second_start_is_refused(cluster: &mut Cluster) {
    let said = cluster.pintle("up").output().expect("pintle");
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("pintle runs already"), "{said}");
}

pub fn stopping_leaves_containers_running(cluster: &mut Cluster) {
    cluster
        .sh("kubectl create deployment still --image=$WEB1 && kubectl rollout status deployment/still --timeout=60s");
    let address = cluster.sh("kubectl get pods -l app=still -o jsonpath='{.items[0].status.podIP}'");
    cluster.stop_pintle();
    assert_eq!(cluster.sh(&format!("curl -s --max-time 5 http://{address}/")), "web 1");
    cluster.up();
    cluster.sh("kubectl wait --for=condition=Ready pod -l app=still --timeout=60s");
}

pub fn reset_leaves_nothing(cluster: &mut Cluster) {
    let unsure = cluster.pintle("reset").output().expect("pintle");
    assert!(!unsure.status.success(), "reset asks for --yes");
    let said = cluster.pintle("reset").arg("--yes").output().expect("pintle");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let left = Traces::look().since(&cluster.before);
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}
