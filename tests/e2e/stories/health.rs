//! What a container is asked and told over its life: gRPC probes, hooks over HTTP, by command and by waiting.
//!
//! Must not know: how the kubelet asks.

use super::pods::apply;
use crate::cluster::Cluster;

pub fn a_grpc_probe_takes_out_of_service(cluster: &mut Cluster) {
    apply(
        cluster,
        r#"
apiVersion: v1
kind: Pod
metadata: { name: surgeon }
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: surgeon
      image: $HEALTH
      readinessProbe: { grpc: { port: 50051 }, periodSeconds: 1, failureThreshold: 1 }
      livenessProbe: { grpc: { port: 50051, service: alive }, periodSeconds: 1, failureThreshold: 60 }
"#,
    );
    cluster.sh("kubectl wait --for=condition=Ready pod/surgeon --timeout=60s");
    cluster.sh("kubectl exec surgeon -- touch /tmp/sick");
    cluster.sh("kubectl wait --for=condition=Ready=false pod/surgeon --timeout=30s");
    let events = cluster.sh("kubectl events --for pod/surgeon");
    assert!(events.contains(r#"Readiness probe failed: service unhealthy (responded with "NOT_SERVING")"#), "{events}");
    cluster.sh("kubectl exec surgeon -- rm /tmp/sick");
    cluster.sh("kubectl wait --for=condition=Ready pod/surgeon --timeout=30s");
    cluster.sh("kubectl delete pod surgeon --timeout=60s");
}

pub fn hooks_run_around_a_containers_life(cluster: &mut Cluster) {
    let address = cluster.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].status.podIP}'");
    let web = cluster.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'");
    let hook = |path: &str| format!("httpGet: {{ host: {address}, port: 80, path: \"{path}\" }}");
    apply(
        cluster,
        &format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{ name: bosun }}
spec:
  terminationGracePeriodSeconds: 20
  containers:
    - name: whistle
      image: $SHELL_IMAGE
      lifecycle: {{ postStart: {{ {0} }}, preStop: {{ {1} }} }}
    - name: log
      image: $SHELL_IMAGE
      lifecycle:
        postStart: {{ exec: {{ command: [sh, -c, "echo aboard > /tmp/log"] }} }}
        preStop: {{ sleep: {{ seconds: 2 }} }}
"#,
            hook("/healthz?hook=start"),
            hook("/healthz?hook=stop"),
        ),
    );
    cluster.sh("kubectl wait --for=condition=Ready pod/bosun --timeout=60s");
    assert_eq!(cluster.sh("kubectl exec bosun -c log -- cat /tmp/log"), "aboard");
    let asked = format!("kubectl logs {web}");
    cluster.reaches(&asked, "GET /healthz?hook=start");
    cluster.sh("kubectl delete pod bosun --wait=false");
    cluster.reaches(&asked, "GET /healthz?hook=stop");
    assert_eq!(cluster.sh("kubectl exec bosun -c log -- cat /tmp/log"), "aboard", "it runs while its hook sleeps");
    cluster.sh("kubectl wait --for=delete pod/bosun --timeout=60s");
}

pub fn a_hook_that_fails_ends_its_container(cluster: &mut Cluster) {
    apply(
        cluster,
        r#"
apiVersion: v1
kind: Pod
metadata: { name: deaf }
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - name: deaf
      image: $SHELL_IMAGE
      command: [sleep, "1000"]
      lifecycle: { postStart: { exec: { command: [sh, -c, "echo no whistle; exit 3"] } } }
"#,
    );
    cluster.sh("kubectl wait --for=jsonpath='{.status.phase}'=Failed pod/deaf --timeout=60s");
    cluster.reaches("kubectl events --for pod/deaf", "FailedPostStartHook");
    cluster.sh("kubectl delete pod deaf --timeout=60s");
}
