//! The first thing a stranger does: apply one ordinary file.
//!
//! Must not know: other stories; they stand on what is made here.

use crate::cluster::Cluster;

pub fn one_file_makes_a_web_application(cluster: &mut Cluster) {
    std::fs::write(format!("{}/web.yaml.in", crate::isolation::SCRATCH), include_str!("../web.yaml")).expect("a file");
    cluster.sh(r#"sed "s|\$WEB1|$WEB1|; s|\$SHELL_IMAGE|$SHELL_IMAGE|; s|\$CLIENT|$CLIENT|" web.yaml.in > web.yaml"#);
    let said = cluster.sh("kubectl apply -f web.yaml");
    for line in
        ["configmap/page created", "deployment.apps/web created", "service/web created", "job.batch/once created"]
    {
        assert!(said.contains(line), "{said}");
    }
    let said = cluster.sh("kubectl rollout status deployment/web --timeout=80s");
    assert!(said.ends_with(r#"deployment "web" successfully rolled out"#), "{said}");
    cluster.sh("kubectl wait --for=condition=complete job/once --timeout=60s");
    cluster.sh("kubectl wait --for=condition=Ready pod/shell pod/client --timeout=60s");
    assert!(cluster.sh("kubectl apply -f web.yaml").contains("deployment.apps/web unchanged"));
}

pub fn settings_reach_the_containers(cluster: &mut Cluster) {
    let inside = |line: &str| cluster.sh(&format!("kubectl exec deployment/web -- sh -c '{line}'"));
    assert_eq!(inside("echo $GREETING"), "hello");
    assert_eq!(inside("echo $KEY"), "open sesame");
    assert_eq!(inside("cat /etc/page/motd"), "welcome aboard");
    assert_eq!(inside("cat /etc/door/key"), "open sesame");
    assert_eq!(inside("cat /var/run/secrets/kubernetes.io/serviceaccount/namespace"), "default");
    let limit = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max";
    assert_eq!(inside(limit), "67108864");
    let service = cluster.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'");
    cluster.sh("kubectl delete pod shell --now && kubectl apply -f web.yaml");
    cluster.sh("kubectl wait --for=condition=Ready pod/shell --timeout=60s");
    let told = cluster.sh("kubectl exec shell -- sh -c 'echo $WEB_SERVICE_HOST'");
    assert_eq!(told, service, "a new pod learns of the Services");
}
