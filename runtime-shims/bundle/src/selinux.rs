//! SELinux labels of a container's process and files.
//!
//! Must not know: the policy that is loaded.

use pintle_cri::v1::SeLinuxOption;

use crate::{Invalid, Selinux};

/// Labels of the process and of its mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub process: Option<String>,
    pub mount: Option<String>,
}

/// The container's options, else its sandbox's, over the host's labels; `level` is that of its pod, which all of its
/// containers share that are given none. None where the host has no SELinux; a privileged container's process has none
/// of its own.
///
/// # Errors
/// A level that is none.
pub(crate) fn labels(
    own: Option<&SeLinuxOption>,
    sandbox: Option<&SeLinuxOption>,
    level: &str,
    privileged: bool,
    host: Option<&Selinux>,
) -> Result<Labels, Invalid> {
    let empty = SeLinuxOption::default();
    let mut options = own.filter(|own| **own != empty).or(sandbox).unwrap_or(&empty).clone();
    check_level(&options.level)?;
    if options.level.is_empty() {
        let given = sandbox.map(|sandbox| sandbox.level.as_str()).filter(|level| !level.is_empty());
        options.level = given.unwrap_or(level).to_owned();
    }
    let Some(host) = host else { return Ok(Labels::default()) };
    let files = SeLinuxOption { level: options.level.clone(), ..SeLinuxOption::default() };
    let process = Some(replaced(&host.process, &options)).filter(|_| !privileged);
    Ok(Labels { process, mount: Some(replaced(&host.file, &files)) })
}

fn replaced(label: &str, options: &SeLinuxOption) -> String {
    let mut parts: Vec<&str> = label.splitn(4, ':').collect();
    let given = [&options.user, &options.role, &options.r#type, &options.level];
    for (index, value) in given.into_iter().enumerate().filter(|(_, value)| !value.is_empty()) {
        match parts.get_mut(index) {
            Some(part) => *part = value,
            None => parts.push(value),
        }
    }
    parts.join(":")
}

/// A level is `s0`, `s0-s1`, and categories: `s0:c1,c2.c5`.
fn check_level(level: &str) -> Result<(), Invalid> {
    if level.is_empty() || is_level(level) {
        return Ok(());
    }
    let reason = format!("the format of 'level' {level:?} is not correct");
    Err(Invalid::new("linux.security_context.selinux_options.level", reason))
}

fn is_level(level: &str) -> bool {
    let (sensitivity, categories) = level.split_once(':').map_or((level, None), |(low, rest)| (low, Some(rest)));
    let sensitivities: Vec<_> = sensitivity.split('-').collect();
    let known = |text: &&str| text.len() == 2 && text.starts_with('s') && text.as_bytes()[1].is_ascii_digit();
    sensitivities.len() <= 2
        && sensitivities.iter().all(known)
        && categories.is_none_or(|categories| categories.split(',').all(is_range))
}

fn is_range(range: &str) -> bool {
    let ends: Vec<_> = range.split('.').collect();
    ends.len() <= 2 && ends.into_iter().all(is_category)
}

fn is_category(text: &str) -> bool {
    let digits = text.strip_prefix('c').unwrap_or_default();
    (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(level: &str) -> SeLinuxOption {
        SeLinuxOption { level: level.into(), ..Default::default() }
    }

    #[test]
    fn options_replace_parts_of_the_hosts_labels() {
        let host = Selinux {
            process: "system_u:system_r:container_t:s0:c1,c2".into(),
            file: "system_u:object_r:container_file_t:s0:c1,c2".into(),
        };
        let typed = SeLinuxOption { r#type: "spc_t".into(), level: "s0:c4,c5".into(), ..Default::default() };
        let of = |own: Option<&SeLinuxOption>, privileged| {
            labels(own, Some(&level("s0:c9")), "s0:c7", privileged, Some(&host))
        };
        let got = of(Some(&typed), false).unwrap();
        assert_eq!(got.process.as_deref(), Some("system_u:system_r:spc_t:s0:c4,c5"));
        assert_eq!(got.mount.as_deref(), Some("system_u:object_r:container_file_t:s0:c4,c5"));
        assert_eq!(of(None, false).unwrap().process.as_deref(), Some("system_u:system_r:container_t:s0:c9"));
        assert_eq!(of(None, true).unwrap().process, None);
        assert_eq!(labels(Some(&typed), None, "", false, None), Ok(Labels::default()));
        let alone = labels(None, None, "s0:c7,c8", false, Some(&host)).unwrap();
        assert_eq!(alone.process.as_deref(), Some("system_u:system_r:container_t:s0:c7,c8"), "its pod's");
    }

    #[test]
    fn a_level_has_a_form() {
        for good in ["s0", "s0-s1", "s0:c1", "s0:c1,c2", "s0-s0:c1.c1023,c4"] {
            assert!(check_level(good).is_ok(), "{good}");
        }
        for bad in ["s", "s0:", "s0:c12345", "c0", "s0:c1.", "s0-s1-s2", "s0:c1.c2.c3"] {
            let error = labels(Some(&level(bad)), None, "", false, None).unwrap_err();
            assert_eq!(error.reason, format!("the format of 'level' {bad:?} is not correct"));
        }
    }
}
