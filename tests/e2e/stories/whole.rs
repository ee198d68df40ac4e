//! Stories of the whole cluster: it starts, stops and goes.
//!
//! Must not know: what runs in it.

use crate::cluster::Cluster;
use crate::isolation::SCRATCH;
use crate::traces::Traces;

pub fn a_machine_becomes_a_cluster(cluster: &mut Cluster) {
    cluster.up();
    assert_eq!(cluster.sh("curl -sk https://127.0.0.1:6443/livez"), "ok");
    assert_eq!(cluster.sh("stat -c %a /etc/pintle/admin.kubeconfig"), "600");
}

pub fn a_start_that_cannot_work_says_why(cluster: &mut Cluster) {
    let refused = |arguments: &[&str]| {
        let said = cluster.pintle("up").args(arguments).output().expect("pintle");
        assert_eq!(said.status.code(), Some(1), "pintle up {arguments:?}");
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    let said = refused(&[]);
    assert!(said.contains("pintle runs already (pid "), "{said}");
    let elsewhere = format!("{SCRATCH}/elsewhere");
    let said = refused(&["--run-dir", &elsewhere, "--data-dir", &elsewhere]);
    assert!(said.contains("port 6443, which the API server needs, is taken by pintle (pid "), "{said}");
    assert!(said.contains("port 10250, which the kubelet needs"), "{said}");
    let file = format!("{SCRATCH}/broken.yaml");
    std::fs::write(&file, "secureport: 6443\n").expect("a file");
    let said = refused(&["--config", &file]);
    assert!(said.contains(&file) && said.contains("unknown field `secureport`"), "{said}");
    let said = refused(&["--cluster-cidr", "10.96.0.0/16"]);
    assert!(said.contains("overlap"), "{said}");
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
