//! Things that happen to a node: containers end, Pintle is killed, a person drains it.
//!
//! Must not know: how the kubelet works.

use crate::cluster::Cluster;
use crate::isolation::HOST_NAME;

pub fn a_container_that_ends_is_started_again(cluster: &mut Cluster) {
    let pod = cluster.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'");
    // the command may die with the container that it kills
    cluster.run(&format!("kubectl exec {pod} -- kill -TERM 1"));
    let restarted = "--for=jsonpath='{.status.containerStatuses[0].restartCount}'=1";
    cluster.sh(&format!("kubectl wait {restarted} pod/{pod} --timeout=60s"));
    cluster.sh(&format!("kubectl wait --for=condition=Ready pod/{pod} --timeout=60s"));
    assert!(cluster.sh(&format!("kubectl logs {pod} --previous")).contains("serving"));
    let reason = "{.status.containerStatuses[0].lastState.terminated.reason}";
    assert_eq!(cluster.sh(&format!("kubectl get pod {pod} -o jsonpath='{reason}'")), "Completed");
}

pub fn killing_pintle_touches_no_container(cluster: &mut Cluster) {
    let fields = "{range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} \
                  {.status.containerStatuses[0].restartCount} {.status.podIP}{\"\\n\"}{end}";
    let pods = format!("kubectl get pods -A -o jsonpath='{fields}' | sort");
    let before = cluster.sh(&pods);
    let page = "{.items[0].status.podIP}";
    let address = cluster.sh(&format!("kubectl get pods -l app=web -o jsonpath='{page}'"));
    let service = cluster.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'");
    cluster.kill_pintle();
    assert_eq!(cluster.sh(&format!("curl -s --max-time 5 http://{address}/")), "web 1", "it serves without Pintle");
    assert_eq!(cluster.sh(&format!("curl -s --max-time 5 http://{service}/")), "web 1", "so does the Service");
    cluster.up();
    cluster.sh("kubectl wait --for=condition=Ready pod -l app=web --timeout=60s");
    assert_eq!(cluster.sh(&pods), before, "the same containers, addresses and restart counts");
    cluster.sh("kubectl exec client -- timeout 5 wget -qO- http://web/");
    assert_eq!(cluster.sh(&pods), before);
}

pub fn a_node_is_drained_and_comes_back(cluster: &mut Cluster) {
    cluster.sh(&format!("kubectl cordon {HOST_NAME}"));
    assert!(cluster.sh("kubectl get nodes").contains("Ready,SchedulingDisabled"));
    cluster.sh(&format!(
        "kubectl drain {HOST_NAME} --pod-selector=app=web --delete-emptydir-data --ignore-daemonsets --timeout=60s"
    ));
    cluster.sh("kubectl wait --for=jsonpath='{.status.unavailableReplicas}'=3 deployment/web --timeout=60s");
    cluster.sh("kubectl wait --for=condition=PodScheduled=false pod -l app=web --timeout=60s");
    let events = cluster.sh("kubectl events");
    assert!(events.contains("0/1 nodes are available: 1 node(s) were unschedulable"), "{events}");
    cluster.sh(&format!("kubectl uncordon {HOST_NAME} && kubectl rollout status deployment/web --timeout=60s"));
}

pub fn a_taint_evicts_what_does_not_tolerate_it(cluster: &mut Cluster) {
    let pod = |name: &str, seconds: &str| {
        format!(
            "cat <<EOF | kubectl create -f -\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{crew: all}}}}\n\
             spec: {{terminationGracePeriodSeconds: 1, tolerations: [{{key: storm, operator: Exists{seconds}}}], \
             containers: [{{name: c, image: $SHELL_IMAGE, command: [sleep, infinity]}}]}}\nEOF"
        )
    };
    cluster.sh(&pod("stays", ""));
    cluster.sh(&pod("leaves", ", effect: NoExecute, tolerationSeconds: 1"));
    cluster.sh("kubectl wait --for=condition=Ready pod -l crew=all --timeout=60s");
    cluster.sh(&format!("kubectl taint node {HOST_NAME} storm=heavy:NoExecute"));
    cluster.sh("kubectl wait --for=delete pod/leaves --timeout=60s");
    cluster.sh(&format!("kubectl taint node {HOST_NAME} storm:NoExecute-"));
    assert_eq!(cluster.sh("kubectl get pod -l crew=all -o name"), "pod/stays");
    cluster.sh("kubectl delete pod stays --now");
}
