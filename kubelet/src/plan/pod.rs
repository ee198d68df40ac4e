//! Questions about a pod's spec that several decisions ask.
//!
//! Must not know: the runtime.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, ImageVolumeSource, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Where a pod comes from, as upstream marks it.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// The hash of a static pod.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// On a mirror pod: the hash of the static pod it mirrors.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// When the kubelet first saw the pod.
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

/// Which list of the spec a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Init,
    Regular,
    Ephemeral,
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// `name_namespace(uid)`, upstream's way to print a pod in messages.
pub fn display(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

pub fn ephemeral_containers(spec: &PodSpec) -> &[EphemeralContainer] {
    spec.ephemeral_containers.as_deref().unwrap_or_default()
}

/// An init container with `restartPolicy: Always`: a sidecar.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The container of that name, with its kind. An ephemeral container is turned into a plain one.
pub fn find_container(spec: &PodSpec, name: &str) -> Option<(Kind, Container)> {
    let named = |containers: &[Container]| containers.iter().find(|container| container.name == name).cloned();
    named(init_containers(spec))
        .map(|container| (Kind::Init, container))
        .or_else(|| named(&spec.containers).map(|container| (Kind::Regular, container)))
        .or_else(|| {
            let found = ephemeral_containers(spec).iter().find(|container| container.name == name)?;
            Some((Kind::Ephemeral, from_ephemeral(found)))
        })
}

/// An ephemeral container's fields as a container's.
pub fn from_ephemeral(ephemeral: &EphemeralContainer) -> Container {
    let ephemeral = ephemeral.clone();
    Container {
        name: ephemeral.name,
        image: ephemeral.image,
        image_pull_policy: ephemeral.image_pull_policy,
        command: ephemeral.command,
        args: ephemeral.args,
        working_dir: ephemeral.working_dir,
        env: ephemeral.env,
        env_from: ephemeral.env_from,
        volume_mounts: ephemeral.volume_mounts,
        security_context: ephemeral.security_context,
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        tty: ephemeral.tty,
        termination_message_path: ephemeral.termination_message_path,
        termination_message_policy: ephemeral.termination_message_policy,
        ..Container::default()
    }
}

/// The image volumes that a container mounts, with their names: each once, in the pod's order.
pub fn image_volumes<'a>(spec: &'a PodSpec, container: &Container) -> Vec<(&'a str, &'a ImageVolumeSource)> {
    let mounted = |name: &str| container.volume_mounts.iter().flatten().any(|mount| mount.name == name);
    let volumes = spec.volumes.iter().flatten().filter(|volume| mounted(&volume.name));
    volumes.filter_map(|volume| Some((volume.name.as_str(), volume.image.as_ref()?))).collect()
}

pub fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// From a file on the node, not from the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(&pod.metadata, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// The API's reflection of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(&pod.metadata, CONFIG_MIRROR).is_some()
}

/// Its phase says that nothing of it starts again.
pub fn has_ended(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(is_terminal_phase)
}

/// Succeeded or Failed: nothing of it starts again.
pub fn is_terminal_phase(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Its users are not the host's.
pub fn own_users(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_users) == Some(false)
}

pub fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// The grace period a pod's end has: the deletion's own, else the spec's (30 s by default).
pub fn grace_seconds(pod: &Pod) -> i64 {
    let from_spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let deleting = pod.metadata.deletion_timestamp.is_some();
    let seconds = if deleting { pod.metadata.deletion_grace_period_seconds.or(from_spec) } else { from_spec };
    seconds.unwrap_or(30)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing;

    #[test]
    fn a_container_has_the_image_volumes_that_it_mounts() {
        let pod = testing::pod(
            "  containers:\n  - name: c\n    volumeMounts: [{name: b, mountPath: /b}, {name: a, mountPath: /a}, \
             {name: b, mountPath: /c}, {name: d, mountPath: /d}]\n  volumes: [{name: a, image: {reference: one}}, \
             {name: b, image: {reference: two}}, {name: c, image: {reference: three}}, {name: d, emptyDir: {}}]\n",
        );
        let spec = pod.spec.unwrap();
        let found = image_volumes(&spec, &spec.containers[0]);
        let found: Vec<_> = found.into_iter().map(|(name, source)| (name, source.reference.as_deref())).collect();
        assert_eq!(found, [("a", Some("one")), ("b", Some("two"))]);
    }
}
