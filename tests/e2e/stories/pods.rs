//! What pods do by their specification: init containers, probes, volumes, static pods, daemons, jobs that fail.
//!
//! Must not know: how the kubelet decides.

use crate::cluster::Cluster;

/// Applies YAML in which the images' variables stand.
#[track_caller]
pub fn apply(cluster: &Cluster, yaml: &str) {
    cluster.sh(&format!("kubectl apply -f - <<EOF\n{yaml}\nEOF"));
}

pub fn init_containers_run_one_after_the_other(cluster: &mut Cluster) {
    apply(
        cluster,
        r#"
apiVersion: v1
kind: Pod
metadata: { name: launch }
spec:
  restartPolicy: Never
  initContainers:
    - { name: first, image: $SHELL_IMAGE, command: [sh, -c, "echo first > /hold/log"], volumeMounts: [{ name: hold, mountPath: /hold }] }
    - { name: beside, image: $SHELL_IMAGE, restartPolicy: Always, volumeMounts: [{ name: hold, mountPath: /hold }] }
    - { name: second, image: $SHELL_IMAGE, command: [sh, -c, "echo second >> /hold/log"], volumeMounts: [{ name: hold, mountPath: /hold }] }
  containers:
    - { name: main, image: $SHELL_IMAGE, command: [cat, /hold/log], volumeMounts: [{ name: hold, mountPath: /hold }] }
  volumes: [{ name: hold, emptyDir: { medium: Memory } }]
"#,
    );
    cluster.sh("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/launch --timeout=60s");
    assert_eq!(cluster.sh("kubectl logs launch -c main"), "first\nsecond");
    cluster.sh("kubectl delete pod launch --timeout=60s");
}

pub fn a_failing_probe_restarts_or_takes_out_of_service(cluster: &mut Cluster) {
    apply(
        cluster,
        r#"
apiVersion: v1
kind: Pod
metadata: { name: patient, labels: { app: patient } }
spec:
  terminationGracePeriodSeconds: 2
  containers:
    - name: patient
      image: $WEB1
      readinessProbe: { exec: { command: [test, -e, /www/hostname] }, periodSeconds: 1, failureThreshold: 1 }
      livenessProbe: { httpGet: { path: /healthz, port: 80 }, periodSeconds: 1, failureThreshold: 3 }
"#,
    );
    cluster.sh("kubectl expose pod patient --port=80");
    cluster.sh("kubectl wait --for=condition=Ready pod/patient --timeout=60s");
    let ready = "endpointslice -l kubernetes.io/service-name=patient --timeout=30s";
    cluster.sh(&format!("kubectl wait --for=jsonpath='{{.endpoints[0].conditions.ready}}'=true {ready}"));
    cluster.sh("kubectl exec patient -- rm /www/hostname");
    cluster.sh("kubectl wait --for=condition=Ready=false pod/patient --timeout=30s");
    cluster.sh(&format!("kubectl wait --for=jsonpath='{{.endpoints[0].conditions.ready}}'=false {ready}"));
    cluster.sh("kubectl exec patient -- rm /www/healthz");
    cluster.sh("kubectl wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 pod/patient --timeout=60s");
    let events = cluster.sh("kubectl events --for pod/patient");
    assert!(events.contains("Liveness probe failed: HTTP probe failed with statuscode: 404"), "{events}");
    assert!(events.contains("Container patient failed liveness probe, will be restarted"), "{events}");
    cluster.sh("kubectl wait --for=condition=Ready pod/patient --timeout=60s");
    cluster.sh("kubectl delete service/patient pod/patient --timeout=60s");
}

pub fn a_volume_follows_its_config_map(cluster: &mut Cluster) {
    cluster.sh(r#"kubectl patch configmap page --type=merge -p '{"data":{"motd":"all hands"}}'"#);
    let read = "kubectl exec deployment/web -- sh -c 'until grep -s \"all hands\" /etc/page/motd; do sleep 0.2; done'";
    assert_eq!(cluster.sh(read), "all hands");
    cluster.sh("kubectl apply -f web.yaml");
}

pub fn a_static_pod_lives_with_its_file(cluster: &mut Cluster) {
    cluster.sh(
        "mkdir -p /etc/kubernetes/manifests && cat > /etc/kubernetes/manifests/anchor.yaml <<EOF
{apiVersion: v1, kind: Pod, metadata: {name: anchor}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: anchor, image: $SHELL_IMAGE}]}}
EOF",
    );
    let mirror = format!("pod/anchor-{}", crate::isolation::HOST_NAME);
    cluster.sh(&format!("kubectl wait --for=create {mirror} --timeout=60s"));
    cluster.sh(&format!("kubectl wait --for=condition=Ready {mirror} --timeout=60s"));
    cluster.sh("rm /etc/kubernetes/manifests/anchor.yaml");
    cluster.sh(&format!("kubectl wait --for=delete {mirror} --timeout=60s"));
    cluster.sh("rmdir /etc/kubernetes/manifests /etc/kubernetes");
}

pub fn a_node_refuses_what_it_cannot_run(cluster: &mut Cluster) {
    let pod = |name: &str, spec: &str| {
        let node = crate::isolation::HOST_NAME;
        apply(
            cluster,
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  \
                 containers: [{{name: c, image: $SHELL_IMAGE{spec}"
            ),
        );
        cluster.sh(&format!("kubectl wait --for=jsonpath='{{.status.phase}}'=Failed pod/{name} --timeout=30s"));
        cluster.sh(&format!("kubectl get pod {name} -o jsonpath='{{.status.reason}}: {{.status.message}}'"))
    };
    let said = pod("greedy", ", resources: {requests: {cpu: 5k}}}]");
    assert!(said.starts_with("OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 5000000"));
    let said = pod("meddler", "}]\n  securityContext: {sysctls: [{name: kernel.sem, value: '1'}]}");
    assert_eq!(said, r#"SysctlForbidden: Pod was rejected: forbidden sysctl: "kernel.sem" not allowlisted"#);
    cluster.reaches("kubectl events --for pod/greedy", "OutOfcpu");
    cluster.sh("kubectl delete pod greedy meddler --timeout=60s");
}

pub fn a_daemon_runs_on_every_node(cluster: &mut Cluster) {
    apply(
        cluster,
        "
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: lookout }
spec:
  selector: { matchLabels: { app: lookout } }
  template:
    metadata: { labels: { app: lookout } }
    spec: { terminationGracePeriodSeconds: 1, containers: [{ name: lookout, image: $SHELL_IMAGE }] }
",
    );
    cluster.sh("kubectl rollout status daemonset/lookout --timeout=60s");
    cluster.sh("kubectl delete daemonset lookout --cascade=foreground --timeout=60s");
    assert_eq!(cluster.sh("kubectl get pods -l app=lookout -o name"), "");
}

pub fn a_job_that_fails_is_given_up(cluster: &mut Cluster) {
    apply(
        cluster,
        "
apiVersion: batch/v1
kind: Job
metadata: { name: hopeless }
spec:
  backoffLimit: 0
  template:
    spec: { restartPolicy: Never, containers: [{ name: c, image: $SHELL_IMAGE, command: [sh, -c, exit 3] }] }
",
    );
    cluster.sh("kubectl wait --for=condition=Failed job/hopeless --timeout=60s");
    let reason = "{.status.conditions[?(@.type==\"Failed\")].reason}";
    assert_eq!(cluster.sh(&format!("kubectl get job hopeless -o jsonpath='{reason}'")), "BackoffLimitExceeded");
    let code = "{.items[0].status.containerStatuses[0].state.terminated.exitCode}";
    let pods = format!("kubectl get pods -l batch.kubernetes.io/job-name=hopeless -o jsonpath='{code}'");
    assert_eq!(cluster.sh(&pods), "3");
    cluster.sh("kubectl delete job hopeless --timeout=60s");
}

pub fn a_job_lets_a_pod_go_that_is_not_its_own_any_more(cluster: &mut Cluster) {
    apply(
        cluster,
        "
apiVersion: batch/v1
kind: Job
metadata: { name: crew }
spec:
  template:
    spec: { restartPolicy: Never, containers: [{ name: c, image: $SHELL_IMAGE, command: [sleep, infinity] }] }
",
    );
    cluster.sh("kubectl wait --for=jsonpath='{.status.ready}'=1 job/crew --timeout=60s");
    let first = cluster.sh("kubectl get pods -l batch.kubernetes.io/job-name=crew -o name");
    cluster.sh(&format!("kubectl label {first} batch.kubernetes.io/controller-uid-"));
    cluster.sh(&format!("kubectl delete {first} --now --timeout=60s"));
    cluster.sh("kubectl delete job crew --timeout=60s");
}

pub fn an_image_is_a_volume(cluster: &mut Cluster) {
    let pod = |name: &str, volume: &str, mounts: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{terminationGracePeriodSeconds: 1, containers: \
             [{{name: c, image: $SHELL_IMAGE, command: [sleep, infinity], volumeMounts: [{mounts}]}}], \
             volumes: [{{name: v, image: {volume}}}]}}\n"
        )
    };
    let mounts = "{name: v, mountPath: /whole}, {name: v, mountPath: /page, subPath: www}";
    apply(cluster, &pod("shows", "{reference: $WEB1, pullPolicy: Always}", mounts));
    cluster.sh("kubectl wait --for=condition=Ready pod/shows --timeout=60s");
    assert_eq!(cluster.sh("kubectl exec shows -- cat /whole/www/index.html /page/index.html"), "web 1\nweb 1");
    assert!(cluster.fails("kubectl exec shows -- touch /page/x").contains("Read-only file system"));

    apply(cluster, &pod("misses", "{reference: $REGISTRY/none:1, pullPolicy: Never}", mounts));
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    cluster.sh(&format!("kubectl wait --for=jsonpath='{reason}'=ErrImageNeverPull pod/misses --timeout=60s"));
    cluster.sh("kubectl delete pod shows misses --now");
}

pub fn a_pod_has_users_of_its_own(cluster: &mut Cluster) {
    let pod = |name: &str, more: &str| {
        let container = "{name: c, image: $SHELL_IMAGE, command: [sleep, infinity], volumeMounts: \
                         [{name: v, mountPath: /v}, {name: s, mountPath: /s}]}";
        let volumes = "[{name: v, emptyDir: {}}, {name: s, configMap: {name: kube-root-ca.crt}}]";
        format!(
            "cat <<EOF | kubectl create -f -\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: \
             {{hostUsers: false, {more}terminationGracePeriodSeconds: 1, containers: [{container}], \
             volumes: {volumes}}}\nEOF"
        )
    };
    for name in ["own", "other"] {
        cluster.sh(&pod(name, ""));
        cluster.sh(&format!("kubectl wait --for=condition=Ready pod/{name} --timeout=60s"));
    }
    let (own, other) = (users_of(cluster, "own"), users_of(cluster, "other"));
    assert_eq!((own[0], own[2], other[2]), (0, 65_536, 65_536));
    assert!(own[1] >= 65_536 && own[1] != other[1], "{own:?} {other:?}");
    assert_eq!(cluster.sh("kubectl exec own -- id -u"), "0", "root there");
    assert_eq!(cluster.sh("kubectl exec own -- sh -c 'touch /v/x && stat -c %u /v/x /s/ca.crt | sort -u'"), "0");
    cluster.kill_pintle();
    cluster.up();
    cluster.sh("kubectl delete pod other --now && kubectl wait --for=condition=Ready pod/own --timeout=60s");
    assert_eq!(users_of(cluster, "own"), own, "it keeps them");
    let refused = cluster.fails(&pod("neither", "hostNetwork: true, "));
    assert!(refused.contains("spec.hostNetwork: Forbidden: when `hostUsers` is false"), "{refused}");
    cluster.sh("kubectl delete pod own --now");
}

/// The first user inside, who that is on the host, and how many there are.
fn users_of(cluster: &Cluster, pod: &str) -> Vec<u64> {
    let map = cluster.sh(&format!("kubectl exec {pod} -- cat /proc/self/uid_map"));
    map.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}
