//! What security contexts come to beyond single fields: groups, defaults, what contradicts itself.
//!
//! Must not know: what else containers are configured with.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;
use pintle_cri::v1::SupplementalGroupsPolicy as Policy;
use pintle_cri::v1::security_profile::ProfileType;

use super::demand;
use super::mounts::of;
use crate::bench::{Bench, status_line};
use crate::demand::{Demand, Skip, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "security/group-of-user",
        "a user without a group of its own gets the one of the image's user files",
        "runtime.v1 LinuxContainerSecurityContext.run_as_user without run_as_group",
        group_of_user
    ),
    demand!(
        "security/group-without-user",
        "a group without a user is refused",
        "runtime.v1 LinuxContainerSecurityContext.run_as_group: only with a user",
        group_without_user
    ),
    demand!(
        "security/unknown-username",
        "a user's name that the image does not know is refused",
        "runtime.v1 LinuxContainerSecurityContext.run_as_username",
        unknown_username
    ),
    demand!(
        "security/groups-merged",
        "groups of the image's user files are added to those that are asked for",
        "runtime.v1 SupplementalGroupsPolicy Merge; KEP-3619",
        groups_merged
    ),
    demand!(
        "security/groups-strict",
        "where only those are wanted that are asked for, the image adds none",
        "runtime.v1 SupplementalGroupsPolicy Strict; KEP-3619",
        groups_strict
    ),
    demand!(
        "security/exec-groups",
        "a command in a container has the container's groups",
        "runtime.v1 ExecSync",
        exec_groups
    ),
    demand!(
        "security/exec-confined",
        "a command in a container has its namespaces, cgroups, capabilities, filter and no-new-privileges",
        "runtime.v1 ExecSync; kubectl exec",
        exec_confined
    ),
    demand!(
        "security/capabilities-all",
        "adding ALL adds every capability of the host's",
        "runtime.v1 Capability.add_capabilities",
        capabilities_all
    ),
    demand!(
        "security/capabilities-exchanged",
        "ALL dropped and one added leaves that one",
        "runtime.v1 Capability: drop before add; PodSecurity restricted",
        capabilities_exchanged
    ),
    demand!(
        "security/capabilities-of-user",
        "a user other than root holds no capabilities, and inherits none",
        "runtime.v1 LinuxContainerSecurityContext.run_as_user; CVE-2022-24769",
        capabilities_of_user
    ),
    demand!(
        "security/new-privileges",
        "unless asked otherwise the process may gain privileges",
        "runtime.v1 LinuxContainerSecurityContext.no_new_privs: false",
        new_privileges
    ),
    demand!(
        "security/privileged-needs-sandbox",
        "no privileged container runs in a sandbox that is not",
        "runtime.v1 LinuxSandboxSecurityContext.privileged",
        privileged_needs_sandbox
    ),
    demand!(
        "security/privileged-unmasked",
        "a privileged container can write /sys and sees all of /proc",
        "runtime.v1 LinuxContainerSecurityContext.privileged",
        privileged_unmasked
    ),
    demand!(
        "security/seccomp-filters",
        "the default filter keeps a container from the kernel's keyrings, without one they are there",
        "runtime.v1 SecurityProfile RuntimeDefault",
        seccomp_filters
    ),
    demand!(
        "security/seccomp-missing",
        "a filter whose file is not there is refused",
        "runtime.v1 SecurityProfile.localhost_ref",
        seccomp_missing
    ),
    demand!(
        "security/seccomp-without-privileges",
        "the default filter is on a user's process that can gain no privileges",
        "runtime.v1 SecurityProfile with no_new_privs; PodSecurity restricted",
        seccomp_without_privileges
    ),
    demand!(
        "security/no-mounts",
        "a container cannot mount",
        "runtime.v1 LinuxContainerSecurityContext.privileged: false",
        no_mounts
    ),
    demand!(
        "security/read-only-sys",
        "/sys and the cgroups in it cannot be written",
        "runtime.v1 LinuxContainerSecurityContext.privileged: false",
        read_only_sys
    ),
    demand!(
        "security/read-only-root-volumes",
        "with a read-only root, volumes and /dev/shm can be written",
        "runtime.v1 LinuxContainerSecurityContext.readonly_rootfs; Pod's emptyDir",
        read_only_root_volumes
    ),
    demand!(
        "security/unmasked",
        "without masked and read-only paths nothing below /proc is covered",
        "runtime.v1 LinuxContainerSecurityContext.masked_paths: empty; Pod's procMount Unmasked",
        unmasked
    ),
];

const PROCESS: &[&str] = &["cat", "/proc/self/status"];
const NET_BIND_SERVICE: u64 = 1 << 10;

type Context = v1::LinuxContainerSecurityContext;

async fn running(bench: &Bench, change: impl FnOnce(&mut Context)) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    bench.ready(&pod, bench.secured(&pod, &["wait"], change)).await
}

async fn process(bench: &Bench, change: impl FnOnce(&mut Context)) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    bench.printed(&pod, bench.secured(&pod, PROCESS, change)).await
}

/// Creating such a container, or starting it, must fail.
async fn refused(bench: &Bench, change: impl FnOnce(&mut Context)) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    ensure!(bench.run(&pod, bench.secured(&pod, &["wait"], change)).await.is_err(), "it was started");
    Ok(())
}

fn number(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn groups(status: &str) -> Vec<&str> {
    status_line(status, "Groups").split_whitespace().collect()
}

async fn group_of_user(bench: &Bench) -> anyhow::Result<()> {
    let status = process(bench, |it| it.run_as_user = number(1234)).await?;
    equal("Gid", status_line(&status, "Gid"), "1235\t1235\t1235\t1235")
}

async fn group_without_user(bench: &Bench) -> anyhow::Result<()> {
    refused(bench, |it| it.run_as_group = number(2002)).await
}

async fn unknown_username(bench: &Bench) -> anyhow::Result<()> {
    refused(bench, |it| it.run_as_username = "nobody-of-this-name".into()).await
}

async fn groups_merged(bench: &Bench) -> anyhow::Result<()> {
    let status = process(bench, |it| {
        it.run_as_user = number(1234);
        it.supplemental_groups = vec![3001];
    });
    let status = status.await?;
    let found = groups(&status);
    ensure!(["1236", "3001"].iter().all(|group| found.contains(group)), "the groups are {found:?}");
    Ok(())
}

async fn groups_strict(bench: &Bench) -> anyhow::Result<()> {
    if !bench.shared.told.features.is_some_and(|features| features.supplemental_groups_policy) {
        return Err(Skip("Status tells no supplemental_groups_policy".into()).into());
    }
    let status = process(bench, |it| {
        it.run_as_user = number(1234);
        it.supplemental_groups = vec![3001];
        it.supplemental_groups_policy = Policy::Strict.into();
    });
    let status = status.await?;
    let found = groups(&status);
    ensure!(found.contains(&"3001") && !found.contains(&"1236"), "the groups are {found:?}");
    Ok(())
}

async fn exec_groups(bench: &Bench) -> anyhow::Result<()> {
    let change = |it: &mut Context| {
        it.run_as_user = number(1234);
        it.supplemental_groups = vec![3001];
    };
    let id = running(bench, change).await?;
    let (first, command) = (bench.said(&id, &["cat", "/proc/1/status"]).await?, bench.said(&id, PROCESS).await?);
    let (mut first, mut command) = (groups(&first), groups(&command));
    first.sort_unstable();
    command.sort_unstable();
    equal("the command's groups", command, first)
}

async fn exec_confined(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |it| {
        it.no_new_privs = true;
        it.seccomp = profile(ProfileType::RuntimeDefault, "");
        it.capabilities = Some(v1::Capability { drop_capabilities: vec!["CHOWN".into()], ..Default::default() });
    });
    let id = id.await?;
    for kind in ["pid", "net", "ipc", "uts", "mnt", "user", "cgroup"] {
        let links = [format!("/proc/1/ns/{kind}"), format!("/proc/self/ns/{kind}")];
        let [first, own] = [bench.said(&id, &["link", &links[0]]).await?, bench.said(&id, &["link", &links[1]]).await?];
        equal(&format!("the command's namespace of {kind}"), own, first)?;
    }
    let (first, own) = (bench.said(&id, &["cat", "/proc/1/status"]).await?, bench.said(&id, PROCESS).await?);
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        equal(line, status_line(&own, line), status_line(&first, line))?;
    }
    let first = bench.said(&id, &["cat", "/proc/1/cgroup"]).await?;
    equal("the command's cgroups", bench.said(&id, &["cat", "/proc/self/cgroup"]).await?, first)
}

fn effective(status: &str) -> anyhow::Result<u64> {
    u64::from_str_radix(status_line(status, "CapEff"), 16).context("no CapEff")
}

fn capabilities(add: &[&str], drop: &[&str]) -> Option<v1::Capability> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Some(v1::Capability { add_capabilities: owned(add), drop_capabilities: owned(drop), ..Default::default() })
}

async fn capabilities_all(bench: &Bench) -> anyhow::Result<()> {
    let status = process(bench, |it| it.capabilities = capabilities(&["ALL"], &[])).await?;
    let host = std::fs::read_to_string("/proc/self/status")?;
    // the suite runs as root beside the runtime
    equal("CapEff", effective(&status)?, effective(&host)?)
}

async fn capabilities_exchanged(bench: &Bench) -> anyhow::Result<()> {
    let status = process(bench, |it| it.capabilities = capabilities(&["NET_BIND_SERVICE"], &["ALL"])).await?;
    equal("CapEff", effective(&status)?, NET_BIND_SERVICE)?;
    equal("CapBnd", status_line(&status, "CapBnd"), format!("{NET_BIND_SERVICE:016x}"))
}

async fn capabilities_of_user(bench: &Bench) -> anyhow::Result<()> {
    let status = process(bench, |it| it.run_as_user = number(2001)).await?;
    for line in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        equal(line, status_line(&status, line), "0000000000000000")?;
    }
    Ok(())
}

async fn new_privileges(bench: &Bench) -> anyhow::Result<()> {
    equal("NoNewPrivs", status_line(&process(bench, |_| {}).await?, "NoNewPrivs"), "0")
}

async fn privileged_needs_sandbox(bench: &Bench) -> anyhow::Result<()> {
    refused(bench, |it| it.privileged = true).await
}

/// On the host's network, as most are: whether `/sys` can be written is the network namespace's first mount's to say.
async fn privileged_unmasked(bench: &Bench) -> anyhow::Result<()> {
    let mut config = bench.pod_config_with(|it| it.network = v1::NamespaceMode::Node.into());
    if let Some(context) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
        context.privileged = true;
    }
    let pod = bench.run_pod(config).await?;
    let id = bench.ready(&pod, bench.secured(&pod, &["wait"], |it| it.privileged = true)).await?;
    let table = bench.said(&id, &["cat", "/proc/self/mounts"]).await?;
    let sys = table.lines().find(|line| line.split(' ').nth(1) == Some("/sys")).context("no /sys")?;
    let options: Vec<&str> = sys.split(' ').nth(3).unwrap_or_default().split(',').collect();
    ensure!(options.contains(&"rw"), "/sys is mounted {options:?}");
    ensure!(!table.contains(" /proc/"), "something is mounted below /proc:\n{table}");
    Ok(())
}

fn profile(kind: ProfileType, localhost_ref: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: localhost_ref.into() })
}

async fn seccomp_filters(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |it| it.seccomp = profile(ProfileType::RuntimeDefault, "")).await?;
    let complaint = bench.complained(&id, &["add-key"]).await?;
    // EPERM, or ENOSYS where a profile answers so for all that it does not name
    ensure!(complaint.contains("os error 1)") || complaint.contains("os error 38)"), "{complaint}");
    let free = running(bench, |it| it.seccomp = profile(ProfileType::Unconfined, "")).await?;
    let added = bench.exec(&free, &["add-key"]).await?;
    let complaint = String::from_utf8_lossy(&added.stderr);
    // a kernel without keyrings says that it has no such call
    ensure!(added.exit_code == 0 || complaint.contains("os error 38)"), "without a filter: {complaint}");
    Ok(())
}

async fn seccomp_missing(bench: &Bench) -> anyhow::Result<()> {
    refused(bench, |it| it.seccomp = profile(ProfileType::Localhost, "/no/such/profile.json")).await
}

async fn seccomp_without_privileges(bench: &Bench) -> anyhow::Result<()> {
    let status = process(bench, |it| {
        it.run_as_user = number(2001);
        it.no_new_privs = true;
        it.capabilities = capabilities(&[], &["ALL"]);
        it.seccomp = profile(ProfileType::RuntimeDefault, "");
    });
    let status = status.await?;
    equal("Seccomp", status_line(&status, "Seccomp"), "2")?;
    equal("NoNewPrivs", status_line(&status, "NoNewPrivs"), "1")
}

async fn no_mounts(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |_| {}).await?;
    let complaint = bench.complained(&id, &["mount-tmpfs", "/tmp"]).await?;
    ensure!(complaint.contains("os error 1)") || complaint.contains("os error 13)"), "{complaint}");
    Ok(())
}

async fn read_only_sys(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |_| {}).await?;
    bench.complained(&id, &["mkdir", "/sys/made"]).await.context("/sys")?;
    let v2 = bench.exec(&id, &["cat", "/sys/fs/cgroup/cgroup.procs"]).await?.exit_code == 0;
    let cgroup = if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
    bench.said(&id, &["cat", &format!("{cgroup}/cgroup.procs")]).await?;
    bench.complained(&id, &["mkdir", &format!("{cgroup}/made")]).await.context("a cgroup")?;
    bench.complained(&id, &["write", &format!("{cgroup}/cgroup.procs"), "0"]).await.map(drop).context("its processes")
}

async fn read_only_root_volumes(bench: &Bench) -> anyhow::Result<()> {
    let dir = bench.dir()?.join("volume");
    std::fs::create_dir_all(&dir)?;
    let pod = bench.pod().await?;
    let mut config = bench.secured(&pod, &["wait"], |it| it.readonly_rootfs = true);
    config.mounts = vec![of(&dir, "/mnt/it")];
    let id = bench.ready(&pod, config).await?;
    bench.complained(&id, &["write", "/tmp/it", "x"]).await?;
    for path in ["/mnt/it/out", "/dev/shm/out"] {
        bench.said(&id, &["write", path, "x"]).await.context(path)?;
    }
    Ok(())
}

async fn unmasked(bench: &Bench) -> anyhow::Result<()> {
    let id = running(bench, |_| {}).await?;
    let table = bench.said(&id, &["cat", "/proc/self/mounts"]).await?;
    ensure!(!table.contains(" /proc/"), "something is mounted below /proc:\n{table}");
    Ok(())
}
