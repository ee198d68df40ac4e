//! Looking at objects and at the API, and asking what one may do.
//!
//! Must not know: how the objects came to be.

use crate::cluster::Cluster;
use crate::isolation::{ADDRESS, HOST_NAME};

/// Every word is in the text.
#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

pub fn objects_are_shown_in_every_format(cluster: &mut Cluster) {
    let nodes = cluster.sh("kubectl get nodes -o wide");
    has(
        &nodes,
        &["NAME", "STATUS", "ROLES", "INTERNAL-IP", "CONTAINER-RUNTIME", HOST_NAME, " Ready ", "v1.36", ADDRESS],
    );
    let deployments = cluster.sh("kubectl get deployments");
    has(&deployments, &["NAME   READY   UP-TO-DATE   AVAILABLE   AGE\n", "web    3/3     3            3"]);
    has(&cluster.sh("kubectl get pods -o wide"), &["READINESS GATES", "10.244.", HOST_NAME, "Completed", "1/1"]);
    has(&cluster.sh("kubectl get jobs"), &["COMPLETIONS", "once", "2/2"]);
    has(&cluster.sh("kubectl get services"), &["CLUSTER-IP", "kubernetes", "ClusterIP", "80/TCP"]);
    has(&cluster.sh("kubectl get all"), &["pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-"]);
    let yaml = cluster.sh("kubectl get deployment web -o yaml");
    has(&yaml, &["apiVersion: apps/v1\nkind: Deployment\n", "maxSurge: 25%", "readyReplicas: 3"]);
    assert_eq!(cluster.sh("kubectl get deployment web -o jsonpath='{.status.readyReplicas}'"), "3");
    assert_eq!(cluster.sh("kubectl get pods -l app=web --field-selector=status.phase=Running -o name | wc -l"), "3");
    assert_eq!(cluster.sh("kubectl get secret door -o jsonpath='{.data.key}' | base64 -d"), "open sesame");
    assert_eq!(cluster.sh("kubectl get pods -l app=web --chunk-size=1 --no-headers | wc -l"), "3");
}

pub fn describe_tells_what_happened(cluster: &mut Cluster) {
    has(
        &cluster.sh("kubectl describe deployment web"),
        &["3 desired", "RollingUpdate", "ScalingReplicaSet", "Liveness:"],
    );
    has(
        &cluster.sh("kubectl describe pods -l app=web"),
        &["Scheduled", "Pulled", "Created", "Started", "QoS Class:", "Burstable"],
    );
    has(&cluster.sh("kubectl describe service web"), &["Endpoints:", "10.244.", "Session Affinity:"]);
    has(&cluster.sh("kubectl describe node"), &["Allocatable:", "Kubelet Version:", "MemoryPressure", "web-"]);
    has(&cluster.sh("kubectl events --for deployment/web"), &["LAST SEEN", "ScalingReplicaSet"]);
    has(&cluster.sh("kubectl get events --field-selector reason=Started"), &["Normal", "pod/web-"]);
}

pub fn the_api_describes_itself(cluster: &mut Cluster) {
    has(&cluster.sh("kubectl version"), &["Server Version: v1.36"]);
    has(&cluster.sh("kubectl api-resources"), &["deployments", "deploy", "apps/v1", "configmaps", "ingresses"]);
    has(&cluster.sh("kubectl api-versions"), &["apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1", "\nv1"]);
    has(&cluster.sh("kubectl explain deployment.spec.replicas"), &["FIELD: replicas <integer>", "DESCRIPTION"]);
    has(&cluster.sh("kubectl explain pod.spec.containers --recursive"), &["livenessProbe", "<HTTPGetAction>"]);
    has(&cluster.sh("kubectl get --raw '/readyz?verbose'"), &["[+]", "readyz check passed"]);
}

pub fn permissions_can_be_asked_for(cluster: &mut Cluster) {
    assert_eq!(cluster.sh("kubectl auth can-i '*' '*'"), "yes");
    let account = "--as=system:serviceaccount:default:default";
    assert_eq!(cluster.fails(&format!("kubectl auth can-i list pods {account}")), "no");
    let refused = cluster.fails(&format!("kubectl get pods {account}"));
    has(
        &refused,
        &["Error from server (Forbidden): pods is forbidden: User \"system:serviceaccount:default:default\" \
                     cannot list resource \"pods\" in API group \"\" in the namespace \"default\""],
    );
    cluster.sh("kubectl create role reader --verb=get,list --resource=pods");
    cluster.sh("kubectl create rolebinding readers --role=reader --serviceaccount=default:default");
    cluster.reaches(&format!("kubectl auth can-i list pods {account} || true"), "yes");
    has(&cluster.sh(&format!("kubectl get pods {account}")), &["web-"]);
    has(&cluster.sh("kubectl auth whoami"), &["system:masters"]);
    let token = cluster.sh("kubectl create token default");
    let asked =
        format!("curl -sk -H 'Authorization: Bearer {token}' https://127.0.0.1:6443/api/v1/namespaces/default/pods");
    has(&cluster.sh(&asked), &["PodList"]);
}
