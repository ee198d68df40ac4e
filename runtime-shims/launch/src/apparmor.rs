//! AppArmor: which profiles the kernel has, and the one that containers get by default, generated and loaded.
//!
//! Must not know: which container gets which profile.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

/// The profile of containers that name none.
pub const DEFAULT: &str = "pintle-default";

const FOLDER: &str = "/sys/kernel/security/apparmor";
const PARSER: [&str; 3] = ["apparmor_parser", "/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];

/// Whether this process has given the kernel its own version of the default profile.
static OWN: Mutex<bool> = Mutex::new(false);

/// What the kernel can confine with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profiles {
    /// Names of the profiles that are loaded.
    pub loaded: Vec<String>,
    /// [`DEFAULT`], which is loaded; `None` where the host has no `apparmor_parser` to load it with.
    pub default: Option<String>,
}

/// Whether the kernel confines by AppArmor and this process can see by what.
pub fn is_enabled() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    enabled.trim() == "Y" && Path::new(FOLDER).join("profiles").exists()
}

/// The profiles there are, after the default one was loaded: the first time in each process, so that an older program's
/// is replaced, and whenever somebody unloaded it. `None` where AppArmor is not enabled.
///
/// # Errors
/// The profiles cannot be read, or `apparmor_parser` refuses the default one.
pub fn profiles() -> Result<Option<Profiles>> {
    if !is_enabled() {
        return Ok(None);
    }
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded()?;
    let there = loaded.iter().any(|name| name == DEFAULT);
    let known = (*own && there) || load(&default_profile(&own_label(), &Path::exists))?;
    *own = known;
    // one that an earlier program loaded is better than none
    Ok(Some(Profiles { loaded, default: (known || there).then(|| DEFAULT.to_owned()) }))
}

/// Unloads the default profile, and says whether it did: not while a process is confined by it.
///
/// # Errors
/// The kernel refuses.
pub fn unload_default() -> Result<bool> {
    if !is_enabled() || !loaded()?.iter().any(|name| name == DEFAULT) || is_used(DEFAULT) {
        return Ok(false);
    }
    let file = Path::new(FOLDER).join(".remove");
    fs::write(file, DEFAULT).with_context(|| format!("unloading the AppArmor profile {DEFAULT}"))?;
    Ok(true)
}

fn is_used(profile: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let labels = processes.filter_map(|process| fs::read_to_string(process.path().join("attr/current")).ok());
    labels.map(|label| without_mode(label.trim()).to_owned()).any(|label| label == profile)
}

fn loaded() -> Result<Vec<String>> {
    let file = Path::new(FOLDER).join("profiles");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    Ok(text.lines().map(|line| without_mode(line).to_owned()).collect())
}

/// `name (enforce)` → `name`.
fn without_mode(line: &str) -> &str {
    line.rsplit_once(" (").map_or(line, |(name, _)| name)
}

/// How processes of this program are confined, whose signals containers must take.
fn own_label() -> String {
    let label = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let name = without_mode(label.trim());
    if name.is_empty() { "unconfined".to_owned() } else { name.to_owned() }
}

/// Gives the kernel a profile; false where the host has no program for that.
///
/// # Errors
/// The program refuses it.
pub fn load(text: &str) -> Result<bool> {
    for program in PARSER {
        match parse(program, text) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => {
                let done = done.with_context(|| format!("running {program}"))?;
                let complaint = String::from_utf8_lossy(&done.stderr);
                ensure!(done.status.success(), "{program} refused the AppArmor profile: {}", complaint.trim());
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// From its standard input, past its cache, in place of one of the same name.
fn parse(program: &str, text: &str) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .args(["--quiet", "--skip-cache", "--replace"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
    let done = child.wait_with_output()?;
    // one that ended early says why better than the pipe does
    if done.status.success() { written.map(|()| done) } else { Ok(done) }
}

/// The default profile: everything that the other walls of a container leave open, but for mounts and for what changes
/// the kernel through /proc and /sys. It denies what containerd's and Docker's default profiles deny.
///
/// `host` is the label of the processes that end containers; `exists` tells which of the host's definitions are there.
fn default_profile(host: &str, exists: &dyn Fn(&Path) -> bool) -> String {
    let there = |file: &str| exists(&Path::new("/etc/apparmor.d").join(file));
    let head = if there("tunables/global") { "#include <tunables/global>" } else { "@{PROC} = /proc/" };
    let base = if there("abstractions/base") { "#include <abstractions/base>" } else { "" };
    let mut peers = vec!["unconfined", "runc", "crun"];
    if !peers.contains(&host) {
        peers.push(host);
    }
    let signals: String = peers.iter().map(|peer| format!("  signal (receive) peer={peer:?},\n")).collect();
    format!(
        r#"{head}

profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  {base}
  capability,
  file,
  network,
  umount,
{signals}  signal (send, receive) peer={DEFAULT},
  ptrace (trace, read, tracedby, readby) peer={DEFAULT},

  deny mount,

  # of /proc, processes and /proc/sys/kernel/shm* alone
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/{{sysrq-trigger,mem,kmem,kcore}} rwklx,

  # of /sys, /sys/fs/cgroup alone
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/{{firmware,devices/virtual/powercap,kernel/security}}/** rwklx,
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_before_their_modes() {
        assert_eq!(without_mode("pintle-default (enforce)"), "pintle-default");
        assert_eq!(without_mode("/usr/bin/man (odd) (complain)"), "/usr/bin/man (odd)");
        assert_eq!(without_mode("unconfined"), "unconfined");
    }

    #[test]
    fn the_default_profile_uses_what_the_host_defines() {
        let bare = default_profile("unconfined", &|_| false);
        assert!(bare.starts_with("@{PROC} = /proc/\n") && !bare.contains("#include"), "{bare}");
        assert_eq!(bare.matches("signal (receive)").count(), 3);
        let whole = default_profile("/usr/bin/pintle", &|_| true);
        assert!(whole.starts_with("#include <tunables/global>\n"), "{whole}");
        assert!(
            whole.contains("#include <abstractions/base>") && whole.contains("peer=\"/usr/bin/pintle\""),
            "{whole}"
        );
    }

    #[test]
    fn braces_are_those_of_the_profile() {
        let text = default_profile("unconfined", &|_| true);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert!(text.contains("deny @{PROC}/* w,") && text.contains("deny @{PROC}/sys/kernel/{?,??,"), "{text}");
    }
}
