//! Which AppArmor profile confines a container.
//!
//! Must not know: how profiles are loaded.

use pintle_cri::v1::LinuxContainerSecurityContext;
use pintle_cri::v1::SecurityProfile;
use pintle_cri::v1::security_profile::ProfileType;

use crate::{AppArmor, Invalid};

const FIELD: &str = "linux.security_context.apparmor";

/// The profile's name; `None` leaves the container unconfined. A context that names none gets the runtime's default.
///
/// # Errors
/// A profile is asked for and the host has no AppArmor, or has not loaded it. The words are containerd's.
pub(crate) fn profile(
    context: &LinuxContainerSecurityContext,
    host: Option<&AppArmor>,
) -> Result<Option<String>, Invalid> {
    let asked = asked(context)?;
    let Some(host) = host else {
        let unconfined = asked.is_none_or(|asked| asked.profile_type() == ProfileType::Unconfined);
        return if unconfined { Ok(None) } else { Err(Invalid::new(FIELD, "apparmor is not supported")) };
    };
    let Some(asked) = asked else { return Ok(host.default.clone().filter(|_| !context.privileged)) };
    if asked.profile_type() != ProfileType::Localhost && !asked.localhost_ref.is_empty() {
        let reason = "apparmor config invalid LocalhostRef must only be set if ProfileType is Localhost";
        return Err(Invalid::new(FIELD, reason));
    }
    match ProfileType::try_from(asked.profile_type) {
        Ok(ProfileType::Unconfined) => Ok(None),
        Ok(ProfileType::RuntimeDefault) if context.privileged => Ok(None),
        Ok(ProfileType::RuntimeDefault) => match &host.default {
            Some(default) => Ok(Some(default.clone())),
            None => Err(Invalid::new(FIELD, "apparmor is not supported: the runtime's default profile is not loaded")),
        },
        Ok(ProfileType::Localhost) => loaded(&asked.localhost_ref, host).map(Some),
        Err(_) => Err(Invalid::new(FIELD, "apparmor unknown ProfileType")),
    }
}

/// `apparmor`, else the older `apparmor_profile`.
fn asked(context: &LinuxContainerSecurityContext) -> Result<Option<SecurityProfile>, Invalid> {
    if let Some(profile) = &context.apparmor {
        return Ok(Some(profile.clone()));
    }
    let of = |kind: ProfileType, file: &str| SecurityProfile { profile_type: kind.into(), localhost_ref: file.into() };
    #[allow(deprecated)]
    match context.apparmor_profile.as_str() {
        "" => Ok(None),
        "runtime/default" | "docker/default" => Ok(Some(of(ProfileType::RuntimeDefault, ""))),
        "unconfined" => Ok(Some(of(ProfileType::Unconfined, ""))),
        path if path.starts_with("localhost/") => Ok(Some(of(ProfileType::Localhost, path))),
        path => Err(Invalid::new("linux.security_context.apparmor_profile", format!("invalid profile {path:?}"))),
    }
}

fn loaded(reference: &str, host: &AppArmor) -> Result<String, Invalid> {
    let name = reference.strip_prefix("localhost/").unwrap_or(reference);
    if host.loaded.iter().any(|loaded| loaded == name) {
        return Ok(name.to_owned());
    }
    Err(Invalid::new(FIELD, format!("apparmor profile not found {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ProfileType, file: &str, host: Option<&AppArmor>) -> Result<Option<String>, String> {
        let apparmor = Some(SecurityProfile { profile_type: kind.into(), localhost_ref: file.into() });
        profile(&LinuxContainerSecurityContext { apparmor, ..Default::default() }, host).map_err(|error| error.reason)
    }

    #[test]
    fn a_profile_must_be_loaded_and_the_default_is_the_runtimes() {
        let host = AppArmor { loaded: vec!["mine".into()], default: Some("pintle-default".into()) };
        let none = LinuxContainerSecurityContext::default();
        assert_eq!(profile(&none, Some(&host)), Ok(Some("pintle-default".into())));
        assert_eq!(profile(&none, None), Ok(None));
        assert_eq!(of(ProfileType::Localhost, "localhost/mine", Some(&host)), Ok(Some("mine".into())));
        assert_eq!(of(ProfileType::Localhost, "other", Some(&host)), Err("apparmor profile not found other".into()));
        assert_eq!(of(ProfileType::Unconfined, "", Some(&host)), Ok(None));
        assert_eq!(of(ProfileType::Localhost, "mine", None), Err("apparmor is not supported".into()));
        assert_eq!(of(ProfileType::Unconfined, "", None), Ok(None));
    }

    #[test]
    fn a_default_that_is_not_loaded_is_refused_to_those_who_ask_for_it() {
        let host = AppArmor { loaded: vec!["mine".into()], default: None };
        assert_eq!(profile(&LinuxContainerSecurityContext::default(), Some(&host)), Ok(None));
        let refused = "apparmor is not supported: the runtime's default profile is not loaded";
        assert_eq!(of(ProfileType::RuntimeDefault, "", Some(&host)), Err(refused.into()));
        assert_eq!(of(ProfileType::Localhost, "mine", Some(&host)), Ok(Some("mine".into())));
    }

    #[test]
    fn a_privileged_container_is_confined_only_by_a_profile_of_its_own() {
        let host = AppArmor { loaded: vec!["mine".into()], default: Some("pintle-default".into()) };
        let mut context = LinuxContainerSecurityContext { privileged: true, ..Default::default() };
        assert_eq!(profile(&context, Some(&host)), Ok(None));
        #[allow(deprecated)]
        {
            context.apparmor_profile = "localhost/mine".into();
        }
        assert_eq!(profile(&context, Some(&host)), Ok(Some("mine".into())));
    }
}
