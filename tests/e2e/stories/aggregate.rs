//! Another server brings an API of its own, which this one passes on to it.
//!
//! Must not know: other stories.

use crate::cluster::Cluster;

/// nginx, which lets nobody in but the API server, and repeats whom that names.
const HARBOUR: &str = r#"daemon off;
worker_processes 1;
user root root;
pid /run/nginx.pid;
error_log /dev/stderr;
events {}
http {
  access_log /dev/stdout;
  default_type application/json;
  server {
    listen 443 ssl;
    ssl_certificate /harbour/tls.crt;
    ssl_certificate_key /harbour/tls.key;
    ssl_client_certificate /harbour/front-proxy.crt;
    ssl_verify_client on;
    if ($ssl_client_s_dn != "CN=front-proxy-client") { return 403; }
    location = /apis/harbour.example.com/v1 {
      return 200 '{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"harbour.example.com/v1","resources":[{"name":"boats","singularName":"boat","namespaced":true,"kind":"Boat","verbs":["get","list"]}]}';
    }
    location = /apis/harbour.example.com/v1/namespaces/default/boats {
      return 200 '{"kind":"BoatList","apiVersion":"harbour.example.com/v1","metadata":{},"items":[{"kind":"Boat","apiVersion":"harbour.example.com/v1","metadata":{"name":"argo","namespace":"default","annotations":{"asked-by":"$http_x_remote_user"}}}]}';
    }
    location / { return 404; }
  }
}
"#;

const BOATS: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: boats, labels: {app: boats}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: harbour, secret: {secretName: boats}}]
  containers:
  - name: nginx
    image: $WEB1
    command: [nginx, -c, /harbour/nginx.conf]
    volumeMounts: [{name: harbour, mountPath: /harbour}]
    readinessProbe: {tcpSocket: {port: 443}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: boats}
spec: {selector: {app: boats}, ports: [{port: 8443, targetPort: 443}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.harbour.example.com}
spec:
  group: harbour.example.com
  version: v1
  groupPriorityMinimum: 2000
  versionPriority: 15
  caBundle: $BUNDLE
  service: {namespace: default, name: boats, port: 8443}
"#;

/// kubectl itself remembers what a server has.
const FRESH: &str = "kubectl --cache-dir=$(mktemp -d)";

pub fn another_server_brings_an_api_of_its_own(cluster: &mut Cluster) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["boats.default.svc".to_owned()]).expect("a name");
    let certificate = certificate.self_signed(&key).expect("a certificate").pem();
    let of_front_proxy = "kubectl -n kube-system get configmap extension-apiserver-authentication \
                          -o jsonpath='{.data.requestheader-client-ca-file}'";
    cluster.sh(&format!(
        "mkdir boats\ncd boats\ncat > tls.crt <<'END'\n{certificate}END\ncat > tls.key <<'END'\n{}END\n\
         cat > nginx.conf <<'END'\n{HARBOUR}END\n{of_front_proxy} > front-proxy.crt\n\
         kubectl create secret generic boats --from-file=.\n\
         export BUNDLE=$(base64 -w0 tls.crt)\ncat <<END | kubectl apply -f -\n{BOATS}END",
        key.serialize_pem()
    ));
    cluster.sh("kubectl wait --for=condition=Available apiservice/v1.harbour.example.com --timeout=60s");
    let shown = cluster.sh("kubectl get apiservice v1.harbour.example.com --no-headers");
    assert!(shown.contains("default/boats") && shown.contains("True"), "{shown}");
    let asked_by = "get boats -o jsonpath='{.items[0].metadata.annotations.asked-by}'";
    assert_eq!(cluster.sh(&format!("{FRESH} {asked_by}")), "kubernetes-admin");

    let refused = cluster.fails(&format!("{FRESH} --as=jane get boats"));
    assert!(refused.contains("User \"jane\" cannot list resource \"boats\" in API group"), "{refused}");
    cluster.sh(&format!(
        "{FRESH} create clusterrole sailor --verb=list --resource=boats.harbour.example.com\n\
         kubectl create clusterrolebinding sailor --clusterrole=sailor --user=jane"
    ));
    assert_eq!(cluster.sh(&format!("{FRESH} --as=jane {asked_by}")), "jane");

    cluster.sh("kubectl delete pod boats --now");
    let reason = "'{.status.conditions[?(@.type==\"Available\")].reason}'=MissingEndpoints";
    cluster.sh(&format!("kubectl wait --for=jsonpath={reason} apiservice/v1.harbour.example.com --timeout=60s"));
    let unavailable = cluster.fails("kubectl get --raw /apis/harbour.example.com/v1/namespaces/default/boats");
    assert!(unavailable.contains("the server is currently unable to handle the request"), "{unavailable}");
    cluster.sh("kubectl delete apiservice v1.harbour.example.com");
    cluster.sh("kubectl delete service/boats secret/boats clusterrole/sailor clusterrolebinding/sailor");
    let unknown = "the server doesn't have a resource type \"boats\"";
    cluster.reaches(&format!("{FRESH} get boats 2>&1 || true"), unknown);
}
