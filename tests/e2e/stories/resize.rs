//! A running pod gets more cpu and memory, and gives them back.
//!
//! Must not know: which cgroups there are.

use crate::cluster::Cluster;

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: growing}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: calm
    image: $SHELL_IMAGE
    command: [sleep, infinity]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
  - name: jumpy
    image: $SHELL_IMAGE
    command: [sleep, infinity]
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    resources: {requests: {memory: 32Mi}, limits: {memory: 64Mi}}
";

/// In bytes, as its cgroup has it: v2, or v1.
const MEMORY: &str = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
/// In microseconds of a tenth of a second.
const CPU: &str = "cut -d' ' -f1 /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us";

fn resize(container: &str, resources: &str) -> String {
    let patch = format!(r#"{{"spec":{{"containers":[{{"name":"{container}","resources":{resources}}}]}}}}"#);
    format!("kubectl patch pod growing --subresource=resize -p '{patch}'")
}

fn inside(cluster: &Cluster, container: &str, question: &str) -> String {
    cluster.sh(&format!("kubectl exec growing -c {container} -- sh -c \"{question}\""))
}

fn restarts(cluster: &Cluster) -> String {
    cluster.sh("kubectl get pod growing -o jsonpath='{.status.containerStatuses[*].restartCount}'")
}

pub fn a_running_pod_is_resized(cluster: &mut Cluster) {
    cluster.sh(&format!("cat <<EOF | kubectl apply -f -\n{POD}EOF"));
    cluster.sh("kubectl wait --for=condition=Ready pod/growing --timeout=60s");
    assert_eq!(inside(cluster, "calm", CPU), "20000");
    cluster.sh(&resize("calm", r#"{"requests":{"cpu":"150m"},"limits":{"cpu":"300m","memory":"128Mi"}}"#));
    cluster.sh("kubectl wait --for=jsonpath='{.status.containerStatuses[0].resources.limits.cpu}'=300m pod/growing");
    assert_eq!(inside(cluster, "calm", CPU), "30000");
    assert_eq!(inside(cluster, "calm", MEMORY), (128 << 20).to_string());
    assert_eq!(restarts(cluster), "0 0", "its policy lets it go on");
    cluster.reaches("kubectl events --for pod/growing", "ResizeCompleted");
    let conditions = "kubectl get pod growing -o jsonpath='{.status.conditions[*].type}'";
    assert!(!cluster.sh(conditions).contains("Resize"), "it is over");
    // Pintle may be started again in between
    cluster.kill_pintle();
    cluster.up();
    cluster.sh(&resize("jumpy", r#"{"limits":{"memory":"96Mi"}}"#));
    cluster.sh("kubectl wait --for=jsonpath='{.status.containerStatuses[1].restartCount}'=1 pod/growing");
    cluster.sh("kubectl wait --for=condition=Ready pod/growing --timeout=60s");
    assert_eq!(inside(cluster, "jumpy", MEMORY), (96 << 20).to_string());
    assert_eq!(restarts(cluster), "0 1", "its policy wants a new start for memory, and no other container's");
}

pub fn a_resize_that_cannot_be_is_told(cluster: &mut Cluster) {
    let refused = cluster.fails(&resize("calm", r#"{"requests":{"cpu":"900"},"limits":{"cpu":"900"}}"#));
    assert!(refused.contains("node didn't have enough allocatable resources: cpu, requested: 900000"), "{refused}");
    let refused = cluster.fails(&resize("calm", r#"{"limits":null}"#));
    assert!(refused.contains("spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"));
    let cpu = cluster.sh("kubectl get nodes -o jsonpath='{.items[0].status.allocatable.cpu}'");
    let nearly = format!("{}m", cpu.parse::<u32>().expect("a number") * 1000 - 400);
    let hog =
        format!(r#"{{"spec":{{"containers":[{{"name":"hog","resources":{{"requests":{{"cpu":"{nearly}"}}}}}}]}}}}"#);
    cluster.sh(&format!(
        "kubectl run hog --image=$SHELL_IMAGE --overrides='{hog}' --override-type=strategic \
                         --command -- sleep infinity"
    ));
    cluster.sh("kubectl wait --for=condition=Ready pod/hog --timeout=60s");
    // more than the hog leaves, and no more than a machine of one processor has without it
    cluster.sh(&resize("calm", r#"{"requests":{"cpu":"700m"},"limits":{"cpu":"700m"}}"#));
    cluster.sh("kubectl wait --for=condition=PodResizePending pod/growing --timeout=60s");
    let why = "{.status.conditions[?(@.type==\"PodResizePending\")].message}";
    let why = cluster.sh(&format!("kubectl get pod growing -o jsonpath='{why}'"));
    assert!(why.starts_with("Node didn't have enough resource: cpu, requested: 700, used: "), "{why}");
    assert_eq!(inside(cluster, "calm", CPU), "30000", "it goes on with what it has");
    cluster.sh("kubectl delete pod hog --now");
    cluster.sh("kubectl wait --for=jsonpath='{.status.containerStatuses[0].resources.limits.cpu}'=700m pod/growing");
    assert_eq!(inside(cluster, "calm", CPU), "70000");
    assert_eq!(restarts(cluster), "0 1");
    cluster.sh("kubectl delete pod growing --now");
}
