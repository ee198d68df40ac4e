//! What `kubectl explain` says: our own few words about the main kinds and the fields all share.
//!
//! Must not know: schemas.

use crate::facts::Type;

/// A sentence about a type.
pub(super) fn of_type(ty: &Type) -> Option<&'static str> {
    let found = TYPES.iter().find(|(group, name, _)| *group == ty.package.group && *name == ty.name);
    found.map(|(_, _, text)| *text)
}

/// A sentence about a field of a type.
pub(super) fn of_field(ty: &Type, field: &str) -> Option<&'static str> {
    let of_type = FIELDS.iter().find(|(owner, name, _)| *owner == ty.name && *name == field);
    of_type.map(|(_, _, text)| *text).or_else(|| of_shared(field).filter(|_| ty.kind))
}

/// A sentence about a field that objects of all kinds have.
pub(crate) fn of_shared(field: &str) -> Option<&'static str> {
    SHARED.iter().find(|(name, _)| *name == field).map(|(_, text)| *text)
}

const TYPES: &[(&str, &str, &str)] = &[
    ("", "Pod", "A group of containers that run on one node and share a network and volumes."),
    ("", "PodSpec", "What a pod should run, where and how."),
    ("", "PodStatus", "What the kubelet last saw of a pod."),
    ("", "Container", "One container of a pod."),
    ("", "Service", "A stable name and address for a set of pods."),
    ("", "ServiceSpec", "Which pods a service stands for, and how it is reached."),
    ("", "ConfigMap", "Configuration as keys and values."),
    ("", "Secret", "Sensitive data as keys and values."),
    ("", "Namespace", "A scope for names."),
    ("", "Node", "A machine that runs pods."),
    ("", "ServiceAccount", "An identity for what runs in pods."),
    ("", "PersistentVolume", "A piece of storage of the cluster."),
    ("", "PersistentVolumeClaim", "A request for a piece of storage."),
    ("", "Event", "Something that happened to an object."),
    (
        "apps",
        "Deployment",
        "Keeps a number of equal pods running and replaces them step by step when their template changes.",
    ),
    ("apps", "DeploymentSpec", "How many pods of which template, and how they are replaced."),
    ("apps", "ReplicaSet", "Keeps a number of equal pods running."),
    ("apps", "StatefulSet", "Keeps numbered pods running, each with its own name and storage."),
    ("apps", "DaemonSet", "Runs one pod on every node that qualifies."),
    ("batch", "Job", "Runs pods until enough of them have succeeded."),
    ("batch", "CronJob", "Creates jobs by a schedule."),
    ("networking.k8s.io", "Ingress", "Routes HTTP from outside to services."),
    ("networking.k8s.io", "NetworkPolicy", "Says which traffic may reach and leave pods."),
    ("rbac.authorization.k8s.io", "Role", "Rules about what may be done in one namespace."),
    ("rbac.authorization.k8s.io", "ClusterRole", "Rules about what may be done in the whole cluster."),
    ("rbac.authorization.k8s.io", "RoleBinding", "Gives a role to users in one namespace."),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "Gives a cluster role to users everywhere."),
    ("meta.k8s.io", "ObjectMeta", "What every stored object has: its name, identity, labels, owners."),
    ("meta.k8s.io", "LabelSelector", "Chooses objects by their labels; all of its terms must match."),
];

const SHARED: &[(&str, &str)] = &[
    ("apiVersion", "APIVersion defines the group and version of the schema that this object has."),
    ("kind", "What kind of object this is."),
    ("metadata", "Name, identity, labels and owners."),
    ("spec", "What is wanted."),
    ("status", "What is; written by the system."),
    ("items", "The objects of the list."),
];

const FIELDS: &[(&str, &str, &str)] = &[
    ("ObjectMeta", "name", "The object's name, unique for its kind within its namespace."),
    ("ObjectMeta", "namespace", "The scope of the name; empty for kinds of the whole cluster."),
    ("ObjectMeta", "labels", "Keys and values by which objects are selected."),
    ("ObjectMeta", "annotations", "Keys and values that tools attach; nothing selects by them."),
    ("ObjectMeta", "uid", "Tells this object from all others, also from later ones of the same name."),
    ("ObjectMeta", "resourceVersion", "Changes with each write; guards against overwriting what others wrote."),
    ("ObjectMeta", "generation", "Counts changes of what is wanted."),
    ("ObjectMeta", "creationTimestamp", "CreationTimestamp is a timestamp of when the object was created."),
    ("ObjectMeta", "deletionTimestamp", "When the object is to be gone; set when its deletion was asked for."),
    ("ObjectMeta", "finalizers", "Who must agree before the object goes."),
    ("ObjectMeta", "ownerReferences", "Objects this one depends on; it is deleted when all are gone."),
    ("ObjectMeta", "managedFields", "Which fields are managed by whom."),
    ("DeploymentSpec", "replicas", "The number of pods wanted; 1 unless given."),
    ("DeploymentSpec", "selector", "Which pods are the deployment's own; must match the template's labels."),
    ("DeploymentSpec", "template", "The pod to make."),
    ("DeploymentSpec", "strategy", "How old pods give way to new ones."),
    ("DeploymentSpec", "paused", "Whether changes of the template wait."),
    ("PodSpec", "containers", "The containers of the pod; at least one."),
    ("PodSpec", "initContainers", "Containers that run to their end, one after the other, before the others start."),
    ("PodSpec", "volumes", "Volumes that containers can mount."),
    ("PodSpec", "nodeName", "The node the pod runs on; the scheduler sets it."),
    ("PodSpec", "nodeSelector", "Labels a node must have to run the pod."),
    ("PodSpec", "restartPolicy", "Whether containers that ended are restarted: Always, OnFailure or Never."),
    ("PodSpec", "serviceAccountName", "The service account the pod acts as."),
    ("Container", "name", "The container's name, unique within the pod."),
    ("Container", "image", "The image to run."),
    ("Container", "command", "What to run in place of the image's entry point."),
    ("Container", "args", "Arguments for what is run."),
    ("Container", "env", "Environment variables."),
    ("Container", "ports", "Ports the container listens on."),
    ("Container", "resources", "What the container asks for and may use at most."),
    ("Container", "volumeMounts", "Volumes of the pod to mount, and where."),
    ("Container", "livenessProbe", "Restarts the container when it fails."),
    ("Container", "readinessProbe", "Takes the pod out of services while it fails."),
    ("Container", "startupProbe", "Holds the other probes back until it succeeds."),
    ("Container", "securityContext", "Privileges and identity of the container's processes."),
    ("ServiceSpec", "selector", "Labels of the pods behind the service."),
    ("ServiceSpec", "ports", "The ports the service listens on."),
    ("ServiceSpec", "type", "How the service is reached: ClusterIP, NodePort, LoadBalancer or ExternalName."),
    ("ServiceSpec", "clusterIP", "The service's address, or None for a headless one."),
    ("ConfigMap", "data", "Text by key."),
    ("ConfigMap", "binaryData", "Bytes by key, as base64."),
    ("Secret", "data", "Bytes by key, as base64."),
    ("Secret", "stringData", "Text by key, for writing only."),
    ("Secret", "type", "What the data is for."),
];
