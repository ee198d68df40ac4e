//! Which system calls a container may make: the runtime's default profile, a profile of the host, or all.
//!
//! Must not know: where a profile's text was read, how a filter is loaded.

mod profile;

use oci_spec::runtime::LinuxSeccomp;
use pintle_cri::v1::SecurityProfile;
use pintle_cri::v1::security_profile::ProfileType;

use crate::Invalid;
pub use profile::default_profile;

const FIELD: &str = "linux.security_context.seccomp";

/// What a security context says of system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Unconfined,
    RuntimeDefault,
    /// The host's file.
    Localhost(String),
}

/// Reads `seccomp`, else the older `seccomp_profile_path`; with neither, a container is unconfined, as under containerd.
pub(crate) fn wanted(profile: Option<&SecurityProfile>, path: &str) -> Result<Wanted, Invalid> {
    let Some(profile) = profile else { return by_path(path) };
    if profile.profile_type() != ProfileType::Localhost && !profile.localhost_ref.is_empty() {
        let reason = "seccomp config invalid LocalhostRef must only be set if ProfileType is Localhost";
        return Err(Invalid::new(FIELD, reason));
    }
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::Unconfined) => Ok(Wanted::Unconfined),
        Ok(ProfileType::RuntimeDefault) => Ok(Wanted::RuntimeDefault),
        Ok(ProfileType::Localhost) => Ok(Wanted::Localhost(without_prefix(&profile.localhost_ref))),
        Err(_) => Err(Invalid::new(FIELD, "seccomp unknown ProfileType")),
    }
}

fn by_path(path: &str) -> Result<Wanted, Invalid> {
    match path {
        "" | "unconfined" => Ok(Wanted::Unconfined),
        "runtime/default" | "docker/default" => Ok(Wanted::RuntimeDefault),
        path if path.starts_with("localhost/") => Ok(Wanted::Localhost(without_prefix(path))),
        path => Err(Invalid::new("linux.security_context.seccomp_profile_path", format!("invalid profile {path:?}"))),
    }
}

fn without_prefix(path: &str) -> String {
    path.strip_prefix("localhost/").unwrap_or(path).to_owned()
}

/// The host's profile that a context names, for the caller to read: an absolute path.
///
/// # Errors
/// A profile type nobody knows, a path where none belongs.
pub fn localhost_ref(profile: Option<&SecurityProfile>, path: &str) -> Result<Option<String>, Invalid> {
    Ok(match wanted(profile, path)? {
        Wanted::Localhost(file) => Some(file),
        Wanted::Unconfined | Wanted::RuntimeDefault => None,
    })
}

/// The filter of a container that holds `capabilities`; `None` for none. `text` is the host's profile, where one is named.
pub(crate) fn filter(
    wanted: &Wanted,
    enabled: bool,
    capabilities: &oci_spec::runtime::Capabilities,
    text: Option<&str>,
) -> Result<Option<LinuxSeccomp>, Invalid> {
    if *wanted == Wanted::Unconfined {
        return Ok(None);
    }
    if !enabled {
        return Err(Invalid::new(FIELD, "seccomp is not supported"));
    }
    match wanted {
        Wanted::Localhost(file) => read(file, text).map(Some),
        _ => Ok(Some(default_profile(std::env::consts::ARCH, capabilities))),
    }
}

fn read(file: &str, text: Option<&str>) -> Result<LinuxSeccomp, Invalid> {
    let text = text.ok_or_else(|| Invalid::new(FIELD, format!("cannot load seccomp profile {file:?}")))?;
    serde_json::from_str(text)
        .map_err(|error| Invalid::new(FIELD, format!("decoding seccomp profile failed {file:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(kind: ProfileType, file: &str) -> SecurityProfile {
        SecurityProfile { profile_type: kind.into(), localhost_ref: file.into() }
    }

    #[test]
    fn the_newer_field_wins_and_the_older_is_read() {
        let unconfined = profile(ProfileType::Unconfined, "");
        assert_eq!(wanted(Some(&unconfined), "runtime/default"), Ok(Wanted::Unconfined));
        assert_eq!(wanted(None, ""), Ok(Wanted::Unconfined));
        assert_eq!(wanted(None, "docker/default"), Ok(Wanted::RuntimeDefault));
        assert_eq!(wanted(None, "localhost//p.json"), Ok(Wanted::Localhost("/p.json".into())));
        assert_eq!(
            wanted(None, "p.json").unwrap_err().to_string(),
            "linux.security_context.seccomp_profile_path: invalid profile \"p.json\""
        );
        assert!(wanted(Some(&profile(ProfileType::RuntimeDefault, "/p")), "").is_err());
    }

    #[test]
    fn a_profile_of_the_host_is_the_oci_form() {
        let wanted = Wanted::Localhost("/p.json".into());
        let none = oci_spec::runtime::Capabilities::new();
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}"#;
        let filter_of = |enabled, text| filter(&wanted, enabled, &none, text).map_err(|error| error.reason);
        assert_eq!(filter_of(true, Some(text)).unwrap().unwrap().syscalls().as_ref().unwrap().len(), 1);
        assert_eq!(filter_of(true, None).unwrap_err(), "cannot load seccomp profile \"/p.json\"");
        assert!(filter_of(true, Some("{")).unwrap_err().starts_with("decoding seccomp profile failed \"/p.json\": "));
        assert_eq!(filter_of(false, Some(text)).unwrap_err(), "seccomp is not supported");
    }
}
