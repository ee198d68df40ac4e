//! SELinux: what the host's policy has for containers, and files that get labels.
//!
//! Must not know: which container gets which label.

use std::ffi::CString;
use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::libc;

const ENFORCE: &str = "/sys/fs/selinux/enforce";
const POLICIES: &str = "/etc/selinux";
/// Of the package container-selinux; before the policy's own.
const CONTEXTS: &str = "/usr/share/containers/selinux/contexts";
/// Labels are shorter: the kernel gives and takes them by the page.
const LONGEST: usize = 4096;
/// Nothing that belongs to the whole host gets a container's label. Source: go-selinux's `chcon`.
const NEVER: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// What the policy gives containers: labels, `user:role:type:level`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts {
    /// Of their processes.
    pub process: String,
    /// Of their files.
    pub file: String,
    /// Of what they only read, each of them: images' layers below their roots. Older policies have none.
    pub read_only: Option<String>,
}

/// Whether the kernel has SELinux and a policy.
pub fn is_enabled() -> bool {
    Path::new(ENFORCE).exists()
}

/// The labels of containers, where the kernel has SELinux and the policy it has loaded knows them: Debian's names labels of
/// a module that it does not install.
pub fn look() -> Option<Contexts> {
    if !is_enabled() {
        return None;
    }
    let config = fs::read_to_string(Path::new(POLICIES).join("config")).unwrap_or_default();
    let policy = value(&config, "SELINUXTYPE")?;
    let own: PathBuf = [POLICIES, &policy, "contexts/lxc_contexts"].iter().collect();
    let text = fs::read_to_string(CONTEXTS).or_else(|_| fs::read_to_string(own)).ok()?;
    let read_only = value(&text, "ro_file").filter(|label| is_known(label));
    let labels = Contexts { process: value(&text, "process")?, file: value(&text, "file")?, read_only };
    let unknown = [&labels.process, &labels.file].into_iter().find(|label| !is_known(label));
    if let Some(label) = unknown {
        tracing::warn!(label, "SELinux' policy does not know the label that it names for containers: they get none");
        return None;
    }
    Some(labels)
}

/// Source: `security_check_context`.
fn is_known(label: &str) -> bool {
    let file = fs::OpenOptions::new().write(true).open("/sys/fs/selinux/context");
    file.and_then(|mut file| file.write_all(label.as_bytes())).is_ok()
}

/// `key = "value"`, with or without quotes and spaces.
fn value(text: &str, key: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let found = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().trim_matches('"'));
    found.map(str::to_owned).find(|value| !value.is_empty())
}

/// Gives a file, or a folder with everything in it, a label. A link is followed, as it is when it is mounted; links in the
/// folder are labelled themselves. What goes meanwhile is no error.
///
/// # Errors
/// It belongs to the whole host, or the policy or its file system refuses. One without labels is left as it is.
pub fn relabel(path: &Path, label: &str) -> anyhow::Result<()> {
    let named: PathBuf = path.components().collect();
    let found = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => named.clone(),
        found => found.with_context(|| format!("finding {}", path.display()))?,
    };
    let never = |path: &Path| NEVER.iter().any(|one| path == Path::new(one));
    ensure!(!never(&named) && !never(&found), "SELinux relabeling of {} is not allowed", path.display());
    let label = CString::new(label).context("a label with a NUL byte")?;
    walk(found, &label)
}

/// As [`relabel`], unless the folder has the label: what is made in it inherits that.
///
/// # Errors
/// As [`relabel`]'s.
pub fn label_folder(path: &Path, label: &str) -> anyhow::Result<()> {
    if get(path).is_some_and(|own| own == label.as_bytes()) { Ok(()) } else { relabel(path, label) }
}

/// A file's label, links not followed; none where its file system keeps none.
fn get(path: &Path) -> Option<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut value = vec![0; LONGEST];
    let name = c"security.selinux".as_ptr();
    // SAFETY: the strings and the buffer live through the call, which writes at most as much as the buffer has.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name, value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    while value.last() == Some(&0) {
        value.pop();
    }
    Some(value)
}

/// No call in a call for a folder in a folder: whoever made them may have made many.
fn walk(top: PathBuf, label: &CString) -> anyhow::Result<()> {
    let mut waiting = vec![top];
    while let Some(path) = waiting.pop() {
        match set(&path, label) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => continue,
            done => done.with_context(|| format!("labelling {}", path.display()))?,
        }
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            let entries = fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))?;
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

fn set(path: &Path, label: &CString) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let value = label.as_bytes_with_nul();
    // SAFETY: the strings and the value live through the call, which keeps none of them.
    let done =
        unsafe { libc::lsetxattr(path.as_ptr(), c"security.selinux".as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_read_as_policies_write_them() {
        let text = "# of containers\nprocess = \"system_u:system_r:container_t:s0\"\nfile=\"f\"\nro_file = \"r\"\n";
        assert_eq!(value(text, "process").as_deref(), Some("system_u:system_r:container_t:s0"));
        assert_eq!((value(text, "file").as_deref(), value(text, "content")), (Some("f"), None));
        assert_eq!(value("SELINUX=permissive\nSELINUXTYPE=default\n", "SELINUXTYPE").as_deref(), Some("default"));
    }

    #[test]
    fn what_belongs_to_the_host_is_not_relabelled() {
        for path in ["/", "/etc/", "/var/lib/."] {
            let error = relabel(Path::new(path), "x").unwrap_err().to_string();
            assert!(error.contains("is not allowed"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        assert!(relabel(&dir.path().join("link"), "x").is_err());
        assert!(relabel(Path::new("/no/such/file"), "x").is_ok());
        assert!(label_folder(Path::new("/etc"), "x").is_err());
    }
}
