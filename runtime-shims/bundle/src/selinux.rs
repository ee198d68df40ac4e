//! SELinux labels of a container's process and files.
//!
//! Must not know: the policy that is loaded.

use std::path::PathBuf;

use pintle_cri::v1::{ContainerConfig, PodSandboxConfig, SeLinuxOption};

use crate::{Host, Invalid, SandboxFiles, SandboxNamespaces, Selinux};

/// Categories of a policy with many.
const CATEGORIES: u16 = 1024;
/// Levels in use are few beside the half million there are.
const ATTEMPTS: usize = 1000;

/// Labels of the process and of its mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub process: Option<String>,
    pub mount: Option<String>,
}

/// The level of a pod's containers that are given none: as the pod asks, or one that no other pod has (`taken`). Empty where
/// the host has no SELinux.
pub fn sandbox_level(
    config: &PodSandboxConfig,
    host: &Host,
    random: impl FnMut() -> u16,
    taken: impl Fn(&str) -> bool,
) -> String {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let asked = context.and_then(|context| context.selinux_options.as_ref()).map(|asked| asked.level.as_str());
    match (&host.selinux, asked) {
        (None, _) => String::new(),
        (Some(_), Some(level)) if !level.is_empty() => level.to_owned(),
        (Some(_), _) => free_level(random, taken),
    }
}

/// A level of two categories that nobody has yet: `s0:c12,c345`.
fn free_level(mut random: impl FnMut() -> u16, taken: impl Fn(&str) -> bool) -> String {
    let mut level = String::new();
    for _ in 0..ATTEMPTS {
        let (one, other) = (random() % CATEGORIES, random() % CATEGORIES);
        level = format!("s0:c{},c{}", one.min(other), one.max(other));
        if one != other && !taken(&level) {
            break;
        }
    }
    level
}

/// What of the host gets the label of the container's files: the pod's own files, and the mounts that ask for it.
pub fn relabelled(config: &ContainerConfig, own: &SandboxNamespaces, files: &SandboxFiles) -> Vec<PathBuf> {
    // the host's shared memory is not the pod's
    let shm = files.shm.as_ref().filter(|_| own.ipc);
    let files = [files.hostname.as_ref(), files.hosts.as_ref(), files.resolv_conf.as_ref(), shm];
    let asked = config.mounts.iter().filter(|mount| mount.selinux_relabel && mount.image.is_none());
    files.into_iter().flatten().cloned().chain(asked.map(|mount| mount.host_path.clone().into())).collect()
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
    // source: go-selinux's `InitLabels`
    let (user, level) = (options.user.clone(), options.level.clone());
    let files = SeLinuxOption { user, level, ..SeLinuxOption::default() };
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
    fn a_pod_has_the_level_it_asks_for_or_one_that_is_nobodys() {
        use pintle_cri::v1::{LinuxPodSandboxConfig, LinuxSandboxSecurityContext};
        let selinux = Selinux { process: "u:r:t:s0".into(), file: "u:r:f:s0".into() };
        let host = Host { selinux: Some(selinux), ..Host::default() };
        let numbers = || {
            let mut numbers = [7, 7, 9, 3, 1030, 5].into_iter();
            move || numbers.next().unwrap()
        };
        let pod = PodSandboxConfig::default();
        assert_eq!(sandbox_level(&pod, &host, numbers(), |_| false), "s0:c3,c9", "two categories, in their order");
        assert_eq!(sandbox_level(&pod, &host, numbers(), |level| level == "s0:c3,c9"), "s0:c5,c6");
        assert_eq!(sandbox_level(&pod, &Host::default(), numbers(), |_| false), "");
        let security_context =
            Some(LinuxSandboxSecurityContext { selinux_options: Some(level("s0:c1")), ..Default::default() });
        let linux = Some(LinuxPodSandboxConfig { security_context, ..Default::default() });
        let pod = PodSandboxConfig { linux, ..Default::default() };
        assert_eq!(sandbox_level(&pod, &host, numbers(), |_| false), "s0:c1");
    }

    #[test]
    fn a_pods_files_and_the_mounts_that_ask_are_relabelled() {
        use pintle_cri::v1::{ImageSpec, Mount};
        let mount = |path: &str, selinux_relabel| Mount { host_path: path.into(), selinux_relabel, ..Mount::default() };
        let image = Mount { image: Some(ImageSpec::default()), ..mount("", true) };
        let config =
            ContainerConfig { mounts: vec![mount("/a", true), mount("/b", false), image], ..Default::default() };
        let files = SandboxFiles { hosts: Some("/h".into()), shm: Some("/s".into()), ..SandboxFiles::default() };
        let of = |ipc| relabelled(&config, &SandboxNamespaces { ipc, ..Default::default() }, &files);
        assert_eq!(of(true), ["/h", "/s", "/a"].map(PathBuf::from));
        assert_eq!(of(false), ["/h", "/a"].map(PathBuf::from), "shared memory of the host's");
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
