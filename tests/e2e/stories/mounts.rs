//! What is mounted into containers.
//!
//! Must not know: how the runtime mounts.

use crate::cluster::Cluster;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: shelf, hostPath: {path: /var/lib/shelf}}
  containers:
  - name: reader
    image: SHELL
    command: [sleep, '100000']
    volumeMounts:
    - {name: shelf, mountPath: /plain, readOnly: true}
    - {name: shelf, mountPath: /whole, readOnly: true, recursiveReadOnly: Enabled}
    - {name: shelf, mountPath: /maybe, readOnly: true, recursiveReadOnly: IfPossible}
";

pub fn a_mount_is_read_only_with_all_below_it(cluster: &mut Cluster) {
    let features = "kubectl get node -o jsonpath='{.items[0].status.runtimeHandlers[?(@.name==\"\")].features}'";
    assert_eq!(cluster.sh(features), r#"{"recursiveReadOnlyMounts":true,"userNamespaces":true}"#);
    cluster.sh("mkdir -p /var/lib/shelf/inner && mount -n -t tmpfs tmpfs /var/lib/shelf/inner");
    cluster.sh(&format!("sed s,SHELL,$SHELL_IMAGE, <<'EOF' | kubectl apply -f -\n{POD}EOF"));
    cluster.sh("kubectl wait --for=condition=Ready pod/reader --timeout=60s");
    for mount in ["plain", "whole", "maybe"] {
        let refused = cluster.fails(&format!("kubectl exec reader -- touch /{mount}/file"));
        assert!(refused.contains("Read-only file system"), "{mount}: {refused}");
    }
    // what is mounted below a mount is its own, unless all below is meant
    cluster.sh("kubectl exec reader -- touch /plain/inner/file");
    for mount in ["whole", "maybe"] {
        let refused = cluster.fails(&format!("kubectl exec reader -- touch /{mount}/inner/file"));
        assert!(refused.contains("Read-only file system"), "{mount}: {refused}");
    }
    let modes = "kubectl get pod reader -o jsonpath='{.status.containerStatuses[0].volumeMounts[*].recursiveReadOnly}'";
    assert_eq!(cluster.sh(modes), "Disabled Enabled Enabled Disabled");
    let writable = POD.replace("readOnly: true, recursiveReadOnly: Enabled", "recursiveReadOnly: Enabled");
    let refused = cluster.fails(&format!("sed s,reader,writer, <<'EOF' | kubectl create -f -\n{writable}EOF"));
    let field = "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is";
    assert!(refused.contains(field), "{refused}");
    cluster.sh("kubectl delete pod reader --timeout=60s && umount -n /var/lib/shelf/inner && rm -r /var/lib/shelf");
}
