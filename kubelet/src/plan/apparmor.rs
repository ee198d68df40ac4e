//! AppArmor profiles of containers as the runtime takes them, and whether the node can enforce them. Source:
//! pkg/security/apparmor, kuberuntime's getAppArmorProfile, lifecycle's AppArmor admit handler.
//!
//! Must not know: which profiles the node has loaded; its runtime says so.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, PodSpec};
use pintle_cri::v1::SecurityProfile;
use pintle_cri::v1::security_profile::ProfileType;

use super::admission::Refusal;
use super::pod;

/// The annotation of pods written for 1.29 and before; static pods may still have it.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// A profile in both forms of CRI; older runtimes read the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    pub profile: Option<SecurityProfile>,
    pub text: String,
}

/// What a container is to be confined by: its own field, its annotation, its pod's field.
pub fn asked(pod: &Pod, container: &Container) -> Asked {
    let Some(profile) = of(pod, container) else { return Asked::default() };
    let name = profile.localhost_profile.unwrap_or_default();
    let (kind, name, text) = match profile.type_.as_str() {
        "Localhost" => (ProfileType::Localhost, name.clone(), format!("localhost/{name}")),
        "Unconfined" => (ProfileType::Unconfined, String::new(), "unconfined".into()),
        _ => (ProfileType::RuntimeDefault, String::new(), "runtime/default".into()),
    };
    Asked { profile: Some(SecurityProfile { profile_type: kind.into(), localhost_ref: name }), text }
}

fn of(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let own = container.security_context.as_ref().and_then(|context| context.app_armor_profile.clone());
    own.or_else(|| annotated(pod, &container.name)).or_else(|| of_pod(pod.spec.as_ref()?))
}

fn of_pod(spec: &PodSpec) -> Option<AppArmorProfile> {
    spec.security_context.as_ref()?.app_armor_profile.clone()
}

fn annotated(pod: &Pod, container: &str) -> Option<AppArmorProfile> {
    let profile = |kind: &str, name: Option<&str>| AppArmorProfile {
        type_: kind.into(),
        localhost_profile: name.map(str::to_owned),
    };
    match pod::annotation(&pod.metadata, &format!("{ANNOTATION}{container}"))? {
        "runtime/default" => Some(profile("RuntimeDefault", None)),
        "unconfined" => Some(profile("Unconfined", None)),
        other => other.strip_prefix("localhost/").map(|name| profile("Localhost", Some(name))),
    }
}

/// Whether a node takes the pod whose kernel has AppArmor, or has none.
///
/// # Errors
/// The pod is to be confined and cannot be, or by a profile without a name.
pub fn admit(pod: &Pod, enabled: bool) -> Result<(), Refusal> {
    let Some(spec) = pod.spec.as_ref().filter(|spec| is_required(pod, spec)) else { return Ok(()) };
    let refusal =
        |why: String| Refusal { reason: "AppArmor".into(), message: format!("Cannot enforce AppArmor: {why}") };
    if !enabled {
        return Err(refusal("AppArmor is not enabled on the host".into()));
    }
    let nameless = |profile: &AppArmorProfile| {
        profile.type_ == "Localhost" && profile.localhost_profile.as_deref().unwrap_or_default().trim().is_empty()
    };
    match containers(spec).filter_map(|container| of(pod, &container)).find(nameless) {
        Some(profile) => Err(refusal(format!("invalid empty AppArmor profile name: {profile:?}"))),
        None => Ok(()),
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = Container> {
    let lasting = pod::init_containers(spec).iter().chain(&spec.containers).cloned();
    lasting.chain(pod::ephemeral_containers(spec).iter().map(pod::from_ephemeral))
}

/// Any profile but `Unconfined`, even one that another field overrides.
fn is_required(pod: &Pod, spec: &PodSpec) -> bool {
    let confines = |profile: &AppArmorProfile| profile.type_ != "Unconfined";
    let own = |container: Container| container.security_context?.app_armor_profile;
    let annotations = pod.metadata.annotations.iter().flatten();
    of_pod(spec).as_ref().is_some_and(confines)
        || containers(spec).filter_map(own).any(|profile| confines(&profile))
        || annotations.filter(|(key, _)| key.starts_with(ANNOTATION)).any(|(_, value)| value != "unconfined")
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    fn with(pod_level: &str, own: &str, annotation: Option<&str>) -> Pod {
        let mut pod = pod(&format!(
            "  securityContext: {pod_level}\n  containers: [{{name: a, image: i, securityContext: {own}}}]\n"
        ));
        let annotations = annotation.map(|value| (format!("{ANNOTATION}a"), value.to_owned())).into_iter().collect();
        pod.metadata.annotations = Some(annotations);
        pod
    }

    fn text(pod_level: &str, own: &str, annotation: Option<&str>) -> String {
        let pod = with(pod_level, own, annotation);
        asked(&pod, &pod.spec.as_ref().unwrap().containers[0]).text
    }

    const DEFAULT: &str = "{appArmorProfile: {type: RuntimeDefault}}";
    const MINE: &str = "{appArmorProfile: {type: Localhost, localhostProfile: mine}}";

    #[test]
    fn a_containers_field_is_before_its_annotation_before_its_pods_field() {
        assert_eq!(text("{}", "{}", None), "");
        assert_eq!(text(DEFAULT, "{}", None), "runtime/default");
        assert_eq!(text(DEFAULT, "{}", Some("unconfined")), "unconfined");
        assert_eq!(text(DEFAULT, MINE, Some("unconfined")), "localhost/mine");
        assert_eq!(text("{}", "{}", Some("localhost/other")), "localhost/other");
        assert_eq!(text(DEFAULT, "{}", Some("invalid")), "runtime/default");
    }

    #[test]
    fn a_pod_that_is_to_be_confined_needs_a_node_that_can() {
        let said = |pod: &Pod, enabled| admit(pod, enabled).map_err(|refusal| refusal.message);
        let refused = Err("Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned());
        assert_eq!(said(&with("{}", MINE, None), false), refused);
        assert_eq!(said(&with(DEFAULT, "{}", None), false), refused);
        assert_eq!(said(&with("{}", "{}", Some("runtime/default")), false), refused);
        for fine in [with("{}", "{}", None), with("{appArmorProfile: {type: Unconfined}}", "{}", Some("unconfined"))] {
            assert_eq!(said(&fine, false), Ok(()));
        }
        assert_eq!(said(&with(DEFAULT, MINE, None), true), Ok(()));
        let nameless = with("{}", "{}", Some("localhost/"));
        assert!(said(&nameless, true).unwrap_err().contains("invalid empty AppArmor profile name"));
    }
}
