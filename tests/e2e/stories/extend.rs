//! The API learns new kinds and new rules.
//!
//! Must not know: other stories.

use crate::cluster::Cluster;

const BOATS: &str = r"apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.harbour.example.com}
spec:
  group: harbour.example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bt]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Masts, type: integer, jsonPath: .spec.masts}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [name]
            properties:
              name: {type: string}
              masts: {type: integer, default: 2, maximum: 5}
";

const BOAT: &str = r"apiVersion: harbour.example.com/v1
kind: Boat
metadata: {name: argo}
spec: {name: Argo}
";

pub fn a_new_kind_is_kept_checked_and_shown(cluster: &mut Cluster) {
    let apply = |text: &str| cluster.sh(&format!("cat <<'END' | kubectl apply -f - 2>&1 || true\n{text}END"));
    apply(BOATS);
    cluster.sh("kubectl wait --for=condition=Established crd/boats.harbour.example.com --timeout=30s");
    assert_eq!(apply(BOAT), "boat.harbour.example.com/argo created");
    assert_eq!(cluster.sh("kubectl get bt argo -o jsonpath='{.spec.masts}'"), "2", "the schema's default");
    assert!(cluster.sh("kubectl get boats").starts_with("NAME   MASTS\nargo   2"));
    let refused = apply(&BOAT.replace("Argo}", "Argo, masts: 9}"));
    assert!(refused.contains("spec.masts in body should be less than or equal to 5"), "{refused}");
    let unknown = apply(&BOAT.replace("Argo}", "Argo, oars: 50}"));
    assert!(unknown.contains("unknown field \"spec.oars\""), "{unknown}");
    cluster.sh("kubectl delete crd boats.harbour.example.com --timeout=30s");
    // kubectl itself remembers for hours what a server has
    let refused = cluster.fails("kubectl --cache-dir=$(mktemp -d) get boats");
    assert!(refused.contains("the server doesn't have a resource type \"boats\""), "{refused}");
}

const POLICY: &str = r#"apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: small}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "!has(object.data) || object.data.size() < 2", message: at most one key}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: small}
spec: {policyName: small, validationActions: [Deny]}
"#;

pub fn a_policy_refuses_what_it_does_not_like(cluster: &mut Cluster) {
    cluster.sh(&format!("cat <<'END' | kubectl apply -f -\n{POLICY}END"));
    let refused = cluster.sh("kubectl create configmap large --from-literal=a=1 --from-literal=b=2 2>&1 || true");
    let why = "ValidatingAdmissionPolicy 'small' with binding 'small' denied request: at most one key";
    assert!(refused.contains(why), "{refused}");
    cluster.sh("kubectl create configmap little --from-literal=a=1 && kubectl delete configmap little");
    cluster.sh("kubectl delete validatingadmissionpolicy,validatingadmissionpolicybinding small");
}
