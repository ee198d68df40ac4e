//! AppArmor and SELinux: which label a container's processes have, and that it confines them.
//!
//! Must not know: what else confines containers.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use pintle_cri::v1;
use pintle_cri::v1::security_profile::ProfileType;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, Skip, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "security/apparmor",
        "the runtime's default profile is on the process, none where that is asked for",
        "runtime.v1 LinuxContainerSecurityContext.apparmor",
        apparmor
    ),
    demand!(
        "security/apparmor-implied",
        "the default profile is on a process for which none is asked, but not on a privileged one",
        "runtime.v1 LinuxContainerSecurityContext.apparmor: not set; privileged",
        apparmor_implied
    ),
    demand!(
        "security/apparmor-denies",
        "the default profile denies mounts to a process that has the capability for them",
        "runtime.v1 LinuxContainerSecurityContext.apparmor",
        apparmor_denies
    ),
    demand!(
        "security/apparmor-exec",
        "a command in a container has the container's profile",
        "runtime.v1 ExecSync; kubectl exec",
        apparmor_exec
    ),
    demand!(
        "security/apparmor-localhost",
        "a profile of the host confines the process, by either field, with no-new-privileges too",
        "runtime.v1 SecurityProfile.localhost_ref; LinuxContainerSecurityContext.apparmor_profile",
        apparmor_localhost
    ),
    demand!(
        "security/apparmor-missing",
        "a profile that the host has not loaded is refused",
        "runtime.v1 SecurityProfile.localhost_ref; Pod's appArmorProfile",
        apparmor_missing
    ),
    demand!(
        "security/selinux",
        "the process has the label that is asked for, and so has a command in it",
        "runtime.v1 LinuxContainerSecurityContext.selinux_options",
        selinux
    ),
    demand!(
        "security/selinux-pod",
        "containers of a pod share a label that no other pod has, where none is asked for",
        "runtime.v1 LinuxSandboxSecurityContext.selinux_options: not set",
        selinux_pod
    ),
    demand!(
        "security/selinux-relabel",
        "a mount that is to be relabelled gets the label of the container's files, another keeps its own",
        "runtime.v1 Mount.selinux_relabel",
        selinux_relabel
    ),
    demand!(
        "security/selinux-denies",
        "where labels are enforced, a container reads neither what of the host was not relabelled nor another pod's",
        "runtime.v1 Mount.selinux_relabel; LinuxContainerSecurityContext.selinux_options",
        selinux_denies
    ),
    demand!(
        "security/selinux-privileged",
        "a privileged container's processes have not the label that confines others",
        "runtime.v1 LinuxContainerSecurityContext.privileged",
        selinux_privileged
    ),
];

const LABEL: &[&str] = &["cat", "/proc/1/attr/current"];
const OWN_LABEL: &[&str] = &["cat", "/proc/self/attr/current"];
/// Of this suite, loaded by it.
const PROFILE: &str = "pintle-conformance";
const PROFILE_TEXT: &str = "profile pintle-conformance flags=(attach_disconnected) {\n  capability,\n  file,\n  network,\n  \
                            signal,\n  ptrace,\n  mount,\n  deny /tmp/denied w,\n}\n";

type Context = v1::LinuxContainerSecurityContext;

async fn running(bench: &Bench, change: impl FnOnce(&mut Context)) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    bench.ready(&pod, bench.secured(&pod, &["wait"], change)).await
}

fn profile(kind: ProfileType, localhost_ref: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: localhost_ref.into() })
}

fn needs_apparmor() -> anyhow::Result<()> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() == "Y" { Ok(()) } else { Err(Skip("the kernel has no AppArmor".into()).into()) }
}

/// Runtimes load their default profiles with the host's `apparmor_parser`.
fn needs_parser() -> anyhow::Result<()> {
    needs_apparmor()?;
    match Command::new("apparmor_parser").arg("--version").stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Skip("the kernel has AppArmor, the host no apparmor_parser to load profiles with".into()).into()),
    }
}

async fn apparmor(bench: &Bench) -> anyhow::Result<()> {
    needs_parser()?;
    let id = running(bench, |it| it.apparmor = profile(ProfileType::RuntimeDefault, "")).await?;
    let found = bench.said(&id, LABEL).await?;
    ensure!(found.contains("(enforce)"), "the profile is {found:?}");
    let free = running(bench, |it| it.apparmor = profile(ProfileType::Unconfined, "")).await?;
    equal("the profile", bench.said(&free, LABEL).await?, "unconfined")
}

async fn apparmor_implied(bench: &Bench) -> anyhow::Result<()> {
    needs_parser()?;
    let id = running(bench, |it| it.apparmor = None).await?;
    let found = bench.said(&id, LABEL).await?;
    ensure!(found.contains("(enforce)"), "the profile is {found:?}");
    let mut config = bench.pod_config();
    if let Some(context) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
        context.privileged = true;
    }
    let pod = bench.run_pod(config).await?;
    let id = bench.ready(&pod, bench.secured(&pod, &["wait"], |it| it.privileged = true)).await?;
    equal("a privileged container's profile", bench.said(&id, LABEL).await?, "unconfined")
}

/// The capability and no filter: the profile alone decides.
fn may_mount(context: &mut Context, kind: ProfileType) {
    let capabilities = v1::Capability { add_capabilities: vec!["SYS_ADMIN".into()], ..Default::default() };
    context.capabilities = Some(capabilities);
    context.seccomp = profile(ProfileType::Unconfined, "");
    context.apparmor = profile(kind, "");
}

async fn apparmor_denies(bench: &Bench) -> anyhow::Result<()> {
    needs_parser()?;
    let id = running(bench, |it| may_mount(it, ProfileType::RuntimeDefault)).await?;
    let complaint = bench.complained(&id, &["mount-tmpfs", "/tmp"]).await?;
    ensure!(complaint.contains("os error 13)"), "{complaint}");
    let free = running(bench, |it| may_mount(it, ProfileType::Unconfined)).await?;
    bench.said(&free, &["mount-tmpfs", "/tmp"]).await.map(drop).context("unconfined")
}

async fn apparmor_exec(bench: &Bench) -> anyhow::Result<()> {
    needs_parser()?;
    let id = running(bench, |it| it.apparmor = profile(ProfileType::RuntimeDefault, "")).await?;
    equal("a command's profile", bench.said(&id, OWN_LABEL).await?, bench.said(&id, LABEL).await?)
}

fn load_profile() -> anyhow::Result<()> {
    let mut command = Command::new("apparmor_parser");
    command.args(["--quiet", "--skip-cache", "--replace"]).stdin(Stdio::piped());
    let mut child = command.spawn().context("apparmor_parser")?;
    child.stdin.take().context("no standard input")?.write_all(PROFILE_TEXT.as_bytes())?;
    ensure!(child.wait()?.success(), "apparmor_parser refused a profile");
    Ok(())
}

/// Taken back however the test ends.
struct Loaded;

impl Drop for Loaded {
    fn drop(&mut self) {
        // it confines nobody any more, and the next run replaces it
        let _ = std::fs::write("/sys/kernel/security/apparmor/.remove", PROFILE);
    }
}

async fn apparmor_localhost(bench: &Bench) -> anyhow::Result<()> {
    needs_parser()?;
    load_profile()?;
    let _loaded = Loaded;
    let by_field = |it: &mut Context| it.apparmor = profile(ProfileType::Localhost, PROFILE);
    #[allow(deprecated)]
    let by_older_field = |it: &mut Context| {
        it.apparmor_profile = format!("localhost/{PROFILE}");
        it.no_new_privs = true;
    };
    for id in [running(bench, by_field).await?, running(bench, by_older_field).await?] {
        equal("the profile", bench.said(&id, LABEL).await?, format!("{PROFILE} (enforce)"))?;
        let complaint = bench.complained(&id, &["write", "/tmp/denied", "x"]).await?;
        ensure!(complaint.contains("os error 13)"), "{complaint}");
        bench.said(&id, &["write", "/tmp/allowed", "x"]).await.context("what the profile allows")?;
        bench.stop(&id, 0).await?;
    }
    Ok(())
}

async fn apparmor_missing(bench: &Bench) -> anyhow::Result<()> {
    needs_apparmor()?;
    let pod = bench.pod().await?;
    let missing = |it: &mut Context| it.apparmor = profile(ProfileType::Localhost, "no-such-profile-is-loaded");
    ensure!(bench.run(&pod, bench.secured(&pod, &["wait"], missing)).await.is_err(), "it was started");
    Ok(())
}

pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn needs_selinux() -> anyhow::Result<()> {
    if has_selinux() {
        return Ok(());
    }
    Err(Skip("the kernel has no SELinux".into()).into())
}

/// The host's policy knows the label that it names for containers' processes.
fn needs_contexts() -> anyhow::Result<()> {
    needs_selinux()?;
    if contexts().any(|text| is_known(&text)) {
        return Ok(());
    }
    Err(Skip("the host's SELinux policy does not know containers' labels".into()).into())
}

/// Texts of what policies name for containers.
fn contexts() -> impl Iterator<Item = String> {
    let policies = std::fs::read_dir("/etc/selinux").into_iter().flatten().flatten();
    let own = policies.map(|policy| policy.path().join("contexts/lxc_contexts"));
    let files = own.chain(["/usr/share/containers/selinux/contexts".into()]);
    files.filter_map(|file| std::fs::read_to_string(file).ok())
}

fn is_known(contexts: &str) -> bool {
    let check = || std::fs::OpenOptions::new().write(true).open("/sys/fs/selinux/context");
    value(contexts, "process")
        .is_some_and(|label| check().and_then(|mut file| file.write_all(label.as_bytes())).is_ok())
}

fn value(contexts: &str, key: &str) -> Option<String> {
    let mut pairs = contexts.lines().filter_map(|line| line.split_once('='));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, label)| label.trim().trim_matches('"').to_owned())
}

fn options(level: &str) -> Option<v1::SeLinuxOption> {
    Some(v1::SeLinuxOption { level: level.to_owned(), ..Default::default() })
}

/// A label's fourth part.
fn level(label: &str) -> &str {
    label.trim_end_matches('\0').splitn(4, ':').nth(3).unwrap_or_default()
}

async fn selinux(bench: &Bench) -> anyhow::Result<()> {
    needs_contexts()?;
    let id = running(bench, |it| it.selinux_options = options("s0:c100,c200")).await?;
    for words in [LABEL, OWN_LABEL] {
        let found = bench.said(&id, words).await?;
        equal("the level", level(&found), "s0:c100,c200")?;
    }
    Ok(())
}

async fn selinux_pod(bench: &Bench) -> anyhow::Result<()> {
    needs_contexts()?;
    let pod = bench.pod().await?;
    let first = bench.waiting(&pod).await?;
    let second = bench.ready(&pod, Bench::named(bench.container(&pod, &["wait"]), "second")).await?;
    let label = bench.said(&first, LABEL).await?;
    ensure!(level(&label).contains(":c"), "the label has no categories: {label:?}");
    equal("the second container's label", bench.said(&second, LABEL).await?, &*label)?;
    let other = bench.waiting(&bench.pod().await?).await?;
    let found = bench.said(&other, LABEL).await?;
    ensure!(found != label, "another pod has the same label {label:?}");
    Ok(())
}

/// A folder of this test's with a file in it, mounted at its name below `/mnt`.
fn volume(bench: &Bench, name: &str, selinux_relabel: bool) -> anyhow::Result<v1::Mount> {
    let host = bench.dir()?.join(name);
    std::fs::create_dir_all(&host)?;
    std::fs::write(host.join("file"), "x")?;
    let (container_path, host_path) = (format!("/mnt/{name}"), host.display().to_string());
    Ok(v1::Mount { container_path, host_path, selinux_relabel, ..Default::default() })
}

async fn selinux_relabel(bench: &Bench) -> anyhow::Result<()> {
    needs_contexts()?;
    let dir = bench.dir()?;
    let pod = bench.pod().await?;
    let mut config = bench.secured(&pod, &["wait"], |it| it.selinux_options = options("s0:c100,c200"));
    config.mounts = vec![volume(bench, "relabelled", true)?, volume(bench, "kept", false)?];
    let before = label_of(&dir.join("kept/file"))?;
    let id = bench.ready(&pod, config).await?;
    let label = label_of(&dir.join("relabelled/file"))?;
    equal("the level of a file that is relabelled", level(&label), "s0:c100,c200")?;
    equal("the label of a file that is not", label_of(&dir.join("kept/file"))?, before)?;
    bench.said(&id, &["cat", "/mnt/relabelled/file"]).await.map(drop).context("a file that is relabelled")
}

async fn selinux_denies(bench: &Bench) -> anyhow::Result<()> {
    needs_contexts()?;
    let enforced = std::fs::read_to_string("/sys/fs/selinux/enforce").unwrap_or_default();
    if enforced.trim() != "1" {
        return Err(Skip("SELinux is permissive".into()).into());
    }
    let (own, hosts) = (volume(bench, "relabelled", true)?, volume(bench, "kept", false)?);
    let others = v1::Mount { selinux_relabel: false, ..own.clone() };
    let first = mounting(bench, vec![own, hosts]).await?;
    bench.said(&first, &["cat", "/mnt/relabelled/file"]).await?;
    denied(bench, &first, "/mnt/kept/file").await?;
    let second = mounting(bench, vec![others]).await?;
    denied(bench, &second, "/mnt/relabelled/file").await
}

/// A container in a pod of its own.
async fn mounting(bench: &Bench, mounts: Vec<v1::Mount>) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    bench.ready(&pod, v1::ContainerConfig { mounts, ..bench.container(&pod, &["wait"]) }).await
}

async fn denied(bench: &Bench, id: &str, path: &str) -> anyhow::Result<()> {
    let complaint = bench.complained(id, &["cat", path]).await.context(path.to_owned())?;
    ensure!(complaint.contains("os error 13)"), "{path}: {complaint}");
    Ok(())
}

async fn selinux_privileged(bench: &Bench) -> anyhow::Result<()> {
    needs_contexts()?;
    let id = running(bench, |_| {}).await?;
    let confined = bench.said(&id, LABEL).await?;
    let mut config = bench.pod_config();
    if let Some(context) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
        context.privileged = true;
    }
    let pod = bench.run_pod(config).await?;
    let id = bench.ready(&pod, bench.secured(&pod, &["wait"], |it| it.privileged = true)).await?;
    for words in [LABEL, OWN_LABEL] {
        let found = bench.said(&id, words).await?;
        ensure!(kind(&found) != kind(&confined), "the label is {found:?}");
    }
    Ok(())
}

/// A label's third part: its type.
fn kind(label: &str) -> &str {
    label.split(':').nth(2).unwrap_or_default()
}

/// Gives a file of the host a label that every container may read, as the vendor of a device does with what its
/// specification mounts: nobody asks a runtime to relabel that. Nothing where the host has no labels for containers.
pub fn for_all_containers(path: &Path) -> anyhow::Result<()> {
    let Some(label) = contexts().find_map(|text| is_known(&text).then(|| value(&text, "file")).flatten()) else {
        return Ok(());
    };
    let done = Command::new("chcon").arg(label).arg(path).output().context("chcon")?;
    ensure!(done.status.success(), "chcon: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn label_of(path: &Path) -> anyhow::Result<String> {
    let asked = Command::new("stat").args(["--format", "%C"]).arg(path).output().context("stat")?;
    ensure!(asked.status.success(), "stat: {}", String::from_utf8_lossy(&asked.stderr));
    Ok(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}
