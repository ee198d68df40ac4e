//! Users, capabilities, filters, and what a container must not reach.
//!
//! Must not know: what else containers are configured with.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;
use pintle_cri::v1::security_profile::ProfileType;

use super::demand;
use crate::bench::{Bench, status_line};
use crate::demand::{Demand, equal, image};
use crate::images::{NAMED_USER, NUMBERED_USER};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "security/run-as-user",
        "a container runs as the user and group that it is given by number",
        "runtime.v1 LinuxContainerSecurityContext.run_as_user, run_as_group",
        run_as_user
    ),
    demand!(
        "security/run-as-username",
        "a container runs as the user that it is given by name, with the image's numbers for it",
        "runtime.v1 LinuxContainerSecurityContext.run_as_username",
        run_as_username
    ),
    demand!(
        "security/user-of-image",
        "without a user of its own, a container runs as the image's, by number or by name",
        "OCI image User",
        user_of_image
    ),
    demand!(
        "security/supplemental-groups",
        "supplemental groups are added",
        "runtime.v1 LinuxContainerSecurityContext.supplemental_groups; Pod's fsGroup",
        supplemental_groups
    ),
    demand!("security/exec-as-user", "a command runs as the container's user", "runtime.v1 ExecSync", exec_as_user),
    demand!(
        "security/capabilities-dropped",
        "dropping ALL leaves no capability",
        "runtime.v1 Capability.drop_capabilities",
        capabilities_dropped
    ),
    demand!(
        "security/capabilities-added",
        "a capability is added to those of the runtime, the others are not",
        "runtime.v1 Capability.add_capabilities",
        capabilities_added
    ),
    demand!(
        "security/unprivileged",
        "a container has no administrator's capabilities by default, and a command in it neither",
        "runtime.v1 LinuxContainerSecurityContext.privileged: false",
        unprivileged
    ),
    demand!(
        "security/privileged",
        "a privileged container has every capability of the host's runtime",
        "runtime.v1 LinuxContainerSecurityContext.privileged",
        privileged
    ),
    demand!(
        "security/no-new-privileges",
        "the process can gain no privileges where that is asked for",
        "runtime.v1 LinuxContainerSecurityContext.no_new_privs",
        no_new_privileges
    ),
    demand!(
        "security/seccomp-default",
        "the runtime's default filter is on a container's process and on commands in it",
        "runtime.v1 SecurityProfile RuntimeDefault",
        seccomp_default
    ),
    demand!(
        "security/seccomp-localhost",
        "a filter from a file of the host's is applied",
        "runtime.v1 SecurityProfile Localhost, localhost_ref",
        seccomp_localhost
    ),
    demand!(
        "security/seccomp-unconfined",
        "an unconfined container has no filter",
        "runtime.v1 SecurityProfile Unconfined",
        seccomp_unconfined
    ),
    demand!(
        "security/read-only-root",
        "a read-only root cannot be written",
        "runtime.v1 LinuxContainerSecurityContext.readonly_rootfs",
        read_only_root
    ),
    demand!(
        "security/masked-paths",
        "masked paths show nothing",
        "runtime.v1 LinuxContainerSecurityContext.masked_paths; Pod's procMount",
        masked_paths
    ),
    demand!(
        "security/read-only-paths",
        "read-only paths cannot be written",
        "runtime.v1 LinuxContainerSecurityContext.readonly_paths; Pod's procMount",
        read_only_paths
    ),
    demand!(
        "security/disks",
        "a disk's device node cannot be made, or cannot be opened",
        "runtime.v1 LinuxContainerSecurityContext.privileged: false; device cgroup",
        disks
    ),
];

const PROCESS: &[&str] = &["cat", "/proc/self/status"];
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// The process's status of a container with this security context.
async fn process(bench: &Bench, change: impl FnOnce(&mut v1::LinuxContainerSecurityContext)) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    bench.printed(&pod, bench.secured(&pod, PROCESS, change)).await
}

/// A running container with this security context, and its pod.
async fn running(bench: &Bench, change: impl FnOnce(&mut v1::LinuxContainerSecurityContext)) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    bench.run(&pod, bench.secured(&pod, &["wait"], change)).await
}

fn is_user(status: &str, uid: &str, gid: &str) -> anyhow::Result<()> {
    let four = |id: &str| [id; 4].join("\t");
    equal("Uid", status_line(status, "Uid"), four(uid))?;
    equal("Gid", status_line(status, "Gid"), four(gid))
}

fn capabilities(status: &str) -> anyhow::Result<u64> {
    u64::from_str_radix(status_line(status, "CapEff"), 16).context("no CapEff")
}

fn has(set: u64, capability: u32) -> bool {
    set & (1 << capability) != 0
}

fn number(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

async fn run_as_user(bench: &Bench) -> anyhow::Result<()> {
    let status = process(bench, |it| {
        it.run_as_user = number(2001);
        it.run_as_group = number(2002);
    });
    is_user(&status.await?, "2001", "2002")
}

async fn run_as_username(bench: &Bench) -> anyhow::Result<()> {
    is_user(&process(bench, |it| it.run_as_username = "tester".into()).await?, "1234", "1235")
}

async fn user_of_image(bench: &Bench) -> anyhow::Result<()> {
    for (name, uid, gid) in [(NUMBERED_USER, "4321", "4322"), (NAMED_USER, "1234", "1235")] {
        let pod = bench.pod().await?;
        let mut config = bench.container(&pod, PROCESS);
        config.image = Some(image(&bench.shared.registry.tagged(name)));
        is_user(&bench.printed(&pod, config).await?, uid, gid).context(name)?;
    }
    Ok(())
}

async fn supplemental_groups(bench: &Bench) -> anyhow::Result<()> {
    let status = process(bench, |it| {
        it.run_as_user = number(2001);
        it.supplemental_groups = vec![3001, 3002];
    });
    let status = status.await?;
    let groups: Vec<&str> = status_line(&status, "Groups").split_whitespace().collect();
    ensure!(["3001", "3002"].iter().all(|group| groups.contains(group)), "the groups are {groups:?}");
    Ok(())
}

async fn exec_as_user(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |it| {
        it.run_as_user = number(2001);
        it.run_as_group = number(2002);
    });
    is_user(&bench.said(&id.await?, PROCESS).await?, "2001", "2002")
}

async fn capabilities_dropped(bench: &Bench) -> anyhow::Result<()> {
    let drop_capabilities = vec!["ALL".to_owned()];
    let all = v1::Capability { drop_capabilities, ..Default::default() };
    let status = process(bench, |it| it.capabilities = Some(all)).await?;
    equal("CapEff", capabilities(&status)?, 0)?;
    equal("CapBnd", status_line(&status, "CapBnd"), "0000000000000000")
}

async fn capabilities_added(bench: &Bench) -> anyhow::Result<()> {
    let add_capabilities = vec!["NET_ADMIN".to_owned()];
    let added = v1::Capability { add_capabilities, ..Default::default() };
    let set = capabilities(&process(bench, |it| it.capabilities = Some(added)).await?)?;
    ensure!(has(set, CAP_NET_ADMIN), "no NET_ADMIN in {set:x}");
    ensure!(!has(set, CAP_SYS_ADMIN), "SYS_ADMIN is in {set:x}");
    Ok(())
}

async fn unprivileged(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |_| {}).await?;
    for path in ["/proc/1/status", "/proc/self/status"] {
        let set = capabilities(&bench.said(&id, &["cat", path]).await?)?;
        ensure!(!has(set, CAP_SYS_ADMIN) && !has(set, CAP_NET_ADMIN), "{path}: {set:x}");
    }
    Ok(())
}

async fn privileged(bench: &Bench) -> anyhow::Result<()> {
    let mut config = bench.pod_config();
    if let Some(context) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
        context.privileged = true;
    }
    let pod = bench.run_pod(config).await?;
    let status = bench.printed(&pod, bench.secured(&pod, PROCESS, |it| it.privileged = true)).await?;
    let set = capabilities(&status)?;
    ensure!(has(set, CAP_SYS_ADMIN) && has(set, CAP_NET_ADMIN), "CapEff is {set:x}");
    equal("Seccomp", status_line(&status, "Seccomp"), "0")
}

async fn no_new_privileges(bench: &Bench) -> anyhow::Result<()> {
    equal("NoNewPrivs", status_line(&process(bench, |it| it.no_new_privs = true).await?, "NoNewPrivs"), "1")
}

fn profile(kind: ProfileType, localhost_ref: String) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref })
}

async fn seccomp_default(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |it| it.seccomp = profile(ProfileType::RuntimeDefault, String::new())).await?;
    for path in ["/proc/1/status", "/proc/self/status"] {
        equal(path, status_line(&bench.said(&id, &["cat", path]).await?, "Seccomp"), "2")?;
    }
    Ok(())
}

async fn seccomp_localhost(bench: &Bench) -> anyhow::Result<()> {
    let path = bench.dir()?.join("profile.json");
    let rule = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#;
    std::fs::write(&path, rule)?;
    let of_host = profile(ProfileType::Localhost, path.display().to_string());
    let id = running(bench, |it| it.seccomp = of_host).await?;
    let complaint = bench.complained(&id, &["mkdir", "/tmp/it"]).await?;
    ensure!(complaint.contains("os error 1)"), "{complaint}");
    bench.said(&id, &["write", "/tmp/it", "x"]).await.map(drop)
}

async fn seccomp_unconfined(bench: &Bench) -> anyhow::Result<()> {
    let none = profile(ProfileType::Unconfined, String::new());
    equal("Seccomp", status_line(&process(bench, |it| it.seccomp = none).await?, "Seccomp"), "0")
}

async fn read_only_root(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |it| it.readonly_rootfs = true).await?;
    let complaint = bench.complained(&id, &["write", "/tmp/it", "x"]).await?;
    ensure!(complaint.contains("Read-only file system"), "{complaint}");
    Ok(())
}

async fn masked_paths(bench: &Bench) -> anyhow::Result<()> {
    let masked = ["/etc/passwd", "/work", "/no/such/path"];
    let id = running(bench, |it| it.masked_paths = masked.map(str::to_owned).into()).await?;
    equal("the masked file", bench.said(&id, &["cat", "/etc/passwd"]).await?, "")?;
    bench.complained(&id, &["write", "/work/it", "x"]).await.map(drop)
}

async fn read_only_paths(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |it| it.readonly_paths = vec!["/work".into(), "/no/such/path".into()]).await?;
    let complaint = bench.complained(&id, &["write", "/work/it", "x"]).await?;
    ensure!(complaint.contains("Read-only file system"), "{complaint}");
    bench.said(&id, &["write", "/tmp/it", "x"]).await.map(drop)
}

async fn disks(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |_| {}).await?;
    // the first SCSI disk and the first of virtio: whether they are there or not, the kernel asks the cgroup first
    for major in ["8", "254"] {
        let complaint = bench.complained(&id, &["block-device", &format!("/tmp/{major}"), major, "0"]).await?;
        ensure!(complaint.contains("os error 1)"), "major {major}: {complaint}");
    }
    Ok(())
}
