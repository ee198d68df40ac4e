//! Limits: set, changed, told; and what happens beyond them.
//!
//! Must not know: which version of cgroups there is, but where their files are.

use std::path::Path;

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use crate::bench::{Bench, Pod};
use crate::cgroup::Parent;
use crate::demand::{Demand, Skip, equal, failed, optional};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "resources/memory",
        "the memory limit is set on the container's cgroup",
        "runtime.v1 LinuxContainerResources.memory_limit_in_bytes",
        memory
    ),
    demand!(
        "resources/cpu-quota",
        "quota and period of processor time are set",
        "runtime.v1 LinuxContainerResources.cpu_quota, cpu_period; Pod's limits.cpu",
        cpu_quota
    ),
    demand!(
        "resources/cpu-shares",
        "more shares are more weight",
        "runtime.v1 LinuxContainerResources.cpu_shares; Pod's requests.cpu",
        cpu_shares
    ),
    demand!(
        "resources/cpuset",
        "a container is bound to processors and memory nodes",
        "runtime.v1 LinuxContainerResources.cpuset_cpus, cpuset_mems; CPU and memory manager",
        cpuset
    ),
    demand!(
        "resources/swap",
        "memory and swap together are limited",
        "runtime.v1 LinuxContainerResources.memory_swap_limit_in_bytes; KEP-2400",
        swap
    ),
    demand!(
        "resources/huge-pages",
        "huge pages are limited",
        "runtime.v1 LinuxContainerResources.hugepage_limits",
        huge_pages
    ),
    demand!(
        "resources/unified",
        "files of cgroup v2 are written as asked",
        "runtime.v1 LinuxContainerResources.unified; memory QoS",
        unified
    ),
    demand!(
        "resources/oom-score",
        "the OOM score adjustment is set, for commands in the container too",
        "runtime.v1 LinuxContainerResources.oom_score_adj",
        oom_score
    ),
    demand!(
        "resources/oom-killed",
        "a container that takes more memory than its limit is killed, and the reason is OOMKilled",
        "runtime.v1 ContainerStatus.reason; kubelet's OOMKilled",
        oom_killed
    ),
    demand!(
        "resources/update-memory",
        "the memory limit is changed while the container runs",
        "runtime.v1 UpdateContainerResources; KEP-1287",
        update_memory
    ),
    demand!(
        "resources/update-cpu",
        "shares, quota and period are changed while the container runs",
        "runtime.v1 UpdateContainerResources; KEP-1287",
        update_cpu
    ),
    demand!(
        "resources/update-cpuset",
        "the processors are changed while the container runs",
        "runtime.v1 UpdateContainerResources.cpuset_cpus; CPU manager",
        update_cpuset
    ),
    demand!(
        "resources/update-part",
        "an update leaves what it does not name",
        "runtime.v1 UpdateContainerResources: unset fields; CPU manager",
        update_part
    ),
    demand!(
        "resources/update-unknown",
        "an update of a container that is not there is refused",
        "runtime.v1 UpdateContainerResources",
        update_unknown
    ),
    demand!(
        "resources/told",
        "a container's status tells its limits, as they are after an update too",
        "runtime.v1 ContainerStatus.resources; KEP-1287",
        told
    ),
    demand!(
        "resources/cgroup-parent",
        "a pod's containers are in cgroups below the pod's",
        "runtime.v1 LinuxPodSandboxConfig.cgroup_parent; kubelet's pod cgroups",
        cgroup_parent
    ),
    demand!(
        "resources/update-pod",
        "the runtime hears of a pod's new limits",
        "runtime.v1 UpdatePodSandboxResources; KEP-1287",
        update_pod
    ),
];

const MEMORY: u64 = 64 << 20;

fn memory_limit() -> v1::LinuxContainerResources {
    v1::LinuxContainerResources { memory_limit_in_bytes: MEMORY.cast_signed(), ..Default::default() }
}

fn processor_limits() -> v1::LinuxContainerResources {
    v1::LinuxContainerResources { cpu_quota: 50_000, cpu_period: 100_000, cpu_shares: 512, ..Default::default() }
}

fn limits() -> v1::LinuxContainerResources {
    v1::LinuxContainerResources { memory_limit_in_bytes: MEMORY.cast_signed(), ..processor_limits() }
}

async fn limited(bench: &Bench, pod: &Pod, limits: v1::LinuxContainerResources) -> anyhow::Result<String> {
    bench.ready(pod, bench.limited(pod, &["wait"], limits)).await
}

/// A file of the container's cgroup, which is at one place on v1 and at another on v2.
async fn file(bench: &Bench, id: &str, v1: &str, v2: &str) -> anyhow::Result<String> {
    let found = bench.exec(id, &["cat", &format!("/sys/fs/cgroup/{v1}")]).await?;
    if found.exit_code == 0 {
        return Ok(String::from_utf8_lossy(&found.stdout).trim().to_owned());
    }
    bench.said(id, &["cat", &format!("/sys/fs/cgroup/{v2}")]).await
}

async fn memory_of(bench: &Bench, id: &str) -> anyhow::Result<String> {
    file(bench, id, "memory/memory.limit_in_bytes", "memory.max").await
}

/// Quota and period, in microseconds.
async fn quota_of(bench: &Bench, id: &str) -> anyhow::Result<String> {
    if let Ok(period) = bench.said(id, &["cat", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"]).await {
        return Ok(format!("{} {period}", bench.said(id, &["cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"]).await?));
    }
    bench.said(id, &["cat", "/sys/fs/cgroup/cpu.max"]).await
}

/// Shares on v1, a weight on v2.
async fn weight_of(bench: &Bench, id: &str) -> anyhow::Result<u64> {
    file(bench, id, "cpu/cpu.shares", "cpu.weight").await?.parse().context("no number")
}

async fn update(bench: &Bench, id: &str, limits: v1::LinuxContainerResources) -> anyhow::Result<()> {
    let request =
        v1::UpdateContainerResourcesRequest { container_id: id.into(), linux: Some(limits), ..Default::default() };
    bench.cri().update_container_resources(request).await.map(drop).context("UpdateContainerResources")
}

async fn memory(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["memory"])?;
    let id = limited(bench, &bench.pod().await?, memory_limit()).await?;
    equal("the limit", memory_of(bench, &id).await?, MEMORY.to_string())
}

async fn cpu_quota(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["cpu"])?;
    let id = limited(bench, &bench.pod().await?, processor_limits()).await?;
    equal("quota and period", quota_of(bench, &id).await?, "50000 100000")
}

async fn cpu_shares(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["cpu"])?;
    let pod = bench.pod().await?;
    let shares = |cpu_shares| v1::LinuxContainerResources { cpu_shares, ..Default::default() };
    let few = limited(bench, &pod, shares(256)).await?;
    let many = bench.ready(&pod, Bench::named(bench.limited(&pod, &["wait"], shares(4096)), "many")).await?;
    let (few, many) = (weight_of(bench, &few).await?, weight_of(bench, &many).await?);
    ensure!(few < many && few > 0, "256 shares are {few}, 4096 are {many}");
    Ok(())
}

async fn cpuset(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["cpuset"])?;
    let bound = v1::LinuxContainerResources { cpuset_cpus: "0".into(), cpuset_mems: "0".into(), ..Default::default() };
    let id = limited(bench, &bench.pod().await?, bound).await?;
    let status = bench.said(&id, &["cat", "/proc/1/status"]).await?;
    equal("Cpus_allowed_list", crate::bench::status_line(&status, "Cpus_allowed_list"), "0")?;
    equal("Mems_allowed_list", crate::bench::status_line(&status, "Mems_allowed_list"), "0")
}

async fn swap(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["memory"])?;
    let both =
        v1::LinuxContainerResources { memory_swap_limit_in_bytes: MEMORY.cast_signed() + 4096, ..memory_limit() };
    let pod = bench.pod().await?;
    let config = bench.limited(&pod, &["wait"], both);
    let v1 = Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
    // a kernel that can swap limits it by v2, if nobody told it not to
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && Path::new("/proc/swaps").exists();
    if !v1 && !v2 {
        return Err(Skip("the kernel does not account for swap".into()).into());
    }
    let id = bench.ready(&pod, config).await?;
    let demanded = if v1 { (MEMORY + 4096).to_string() } else { "4096".to_owned() };
    let found = file(bench, &id, "memory/memory.memsw.limit_in_bytes", "memory.swap.max").await?;
    equal("the limit", found, demanded)
}

async fn huge_pages(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["hugetlb"])?;
    if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        return Err(Skip("the kernel has no huge pages of 2 MiB".into()).into());
    }
    let limit = v1::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 };
    let resources = v1::LinuxContainerResources { hugepage_limits: vec![limit], ..Default::default() };
    let id = limited(bench, &bench.pod().await?, resources).await?;
    let found = file(bench, &id, "hugetlb/hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max").await?;
    equal("the limit", found, (4_u64 << 20).to_string())
}

async fn unified(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["memory"])?;
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Err(Skip("the host's cgroups are not of v2".into()).into());
    }
    let unified = [("memory.high".to_owned(), (32_u64 << 20).to_string())].into();
    let resources = v1::LinuxContainerResources { unified, ..memory_limit() };
    let id = limited(bench, &bench.pod().await?, resources).await?;
    equal("memory.high", bench.said(&id, &["cat", "/sys/fs/cgroup/memory.high"]).await?, (32_u64 << 20).to_string())
}

async fn oom_score(bench: &Bench) -> anyhow::Result<()> {
    let resources = v1::LinuxContainerResources { oom_score_adj: 987, ..Default::default() };
    let id = limited(bench, &bench.pod().await?, resources).await?;
    for path in ["/proc/1/oom_score_adj", "/proc/self/oom_score_adj"] {
        equal(path, bench.said(&id, &["cat", path]).await?, "987")?;
    }
    Ok(())
}

async fn oom_killed(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["memory"])?;
    let pod = bench.pod().await?;
    let small = v1::LinuxContainerResources {
        memory_limit_in_bytes: 24 << 20,
        memory_swap_limit_in_bytes: 24 << 20,
        ..Default::default()
    };
    let id = bench.run(&pod, bench.limited(&pod, &["hog", "200"], small)).await?;
    equal("the exit code", bench.exited(&id).await?.exit_code, 137)?;
    // containerd 1.6 hears of the kill and of the end apart, in either order
    bench.until("the reason is OOMKilled", async || Ok(bench.status(&id).await?.reason == "OOMKilled")).await
}

async fn update_memory(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["memory"])?;
    let id = limited(bench, &bench.pod().await?, memory_limit()).await?;
    for mebibytes in [96_i64, 48] {
        let memory_limit_in_bytes = mebibytes << 20;
        update(bench, &id, v1::LinuxContainerResources { memory_limit_in_bytes, ..Default::default() }).await?;
        equal("the limit", memory_of(bench, &id).await?, memory_limit_in_bytes.to_string())?;
    }
    Ok(())
}

async fn update_cpu(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["cpu"])?;
    let id = limited(bench, &bench.pod().await?, processor_limits()).await?;
    let before = weight_of(bench, &id).await?;
    let more =
        v1::LinuxContainerResources { cpu_quota: 30_000, cpu_period: 50_000, cpu_shares: 2048, ..Default::default() };
    update(bench, &id, more).await?;
    equal("quota and period", quota_of(bench, &id).await?, "30000 50000")?;
    let after = weight_of(bench, &id).await?;
    ensure!(after > before, "512 shares are {before}, 2048 are {after}");
    let unlimited = v1::LinuxContainerResources { cpu_quota: -1, cpu_period: 50_000, ..Default::default() };
    update(bench, &id, unlimited).await?;
    let found = quota_of(bench, &id).await?;
    ensure!(found.starts_with("-1 ") || found.starts_with("max "), "without a quota it is {found}");
    Ok(())
}

async fn update_cpuset(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["cpuset"])?;
    let id = bench.waiting(&bench.pod().await?).await?;
    update(bench, &id, v1::LinuxContainerResources { cpuset_cpus: "0".into(), ..Default::default() }).await?;
    let status = bench.said(&id, &["cat", "/proc/1/status"]).await?;
    equal("Cpus_allowed_list", crate::bench::status_line(&status, "Cpus_allowed_list"), "0")
}

async fn update_part(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["cpu", "memory"])?;
    let id = limited(bench, &bench.pod().await?, limits()).await?;
    let shares = weight_of(bench, &id).await?;
    let more = MEMORY.cast_signed() + (32 << 20);
    update(bench, &id, v1::LinuxContainerResources { memory_limit_in_bytes: more, ..Default::default() }).await?;
    if bench.shared.controllers.has("cpuset") {
        update(bench, &id, v1::LinuxContainerResources { cpuset_cpus: "0".into(), ..Default::default() }).await?;
    }
    equal("the memory limit", memory_of(bench, &id).await?, more.to_string())?;
    equal("quota and period", quota_of(bench, &id).await?, "50000 100000")?;
    equal("the weight", weight_of(bench, &id).await?, shares)
}

async fn update_unknown(bench: &Bench) -> anyhow::Result<()> {
    let request = v1::UpdateContainerResourcesRequest {
        container_id: "no-such-container".into(),
        linux: Some(limits()),
        ..Default::default()
    };
    failed("it", bench.cri().update_container_resources(request).await)
}

async fn told(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["cpu", "memory"])?;
    let id = limited(bench, &bench.pod().await?, limits()).await?;
    let resources = async || {
        let told = bench.status(&id).await?.resources.and_then(|resources| resources.linux);
        let older = || Skip("the runtime tells no resources: it is older than they are".into());
        Ok::<_, anyhow::Error>(told.ok_or_else(older)?)
    };
    let before = resources().await?;
    equal("memory_limit_in_bytes", before.memory_limit_in_bytes, MEMORY.cast_signed())?;
    equal("cpu_quota and cpu_period", (before.cpu_quota, before.cpu_period), (50_000, 100_000))?;
    equal("cpu_shares", before.cpu_shares, 512)?;
    update(bench, &id, v1::LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() }).await?;
    let after = resources().await?;
    equal("memory_limit_in_bytes after the update", after.memory_limit_in_bytes, 96 << 20)?;
    equal("cpu_quota after the update", after.cpu_quota, 50_000)
}

async fn cgroup_parent(bench: &Bench) -> anyhow::Result<()> {
    let parent = Parent::make(bench).await?;
    let pod = bench.run_pod(parent.of(bench.pod_config())).await?;
    bench.waiting(&pod).await?;
    ensure!(parent.is_used(), "no process is in a cgroup below the pod's");
    bench.stop_pod(&pod).await?;
    bench.remove_pod(&pod).await?;
    ensure!(!parent.is_used(), "processes are left in cgroups below the pod's");
    Ok(())
}

async fn update_pod(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    bench.waiting(&pod).await?;
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.id.clone(),
        overhead: Some(v1::LinuxContainerResources::default()),
        resources: Some(limits()),
    };
    let answer = bench.cri().update_pod_sandbox_resources(request).await;
    optional("UpdatePodSandboxResources", answer).map(drop)
}
