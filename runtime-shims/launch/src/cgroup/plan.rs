//! Which files of a cgroup say what an OCI specification's resources ask for. Pure.
//!
//! Must not know: where the files are.

use anyhow::{Result, ensure};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources, LinuxThrottleDevice};

/// The two kinds of cgroups. A hybrid host is V1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The controller, where a hierarchy is per controller.
    pub controller: String,
    pub file: String,
    pub value: String,
    /// Whether a kernel without the file is a warning and no error.
    pub may_lack: bool,
}

/// The shares of what asks for none: upstream's MinShares.
const LEAST: u64 = 2;

fn setting(file: &str, value: impl ToString) -> Setting {
    let controller = file.split('.').next().unwrap_or_default().to_owned();
    Setting { controller, file: file.to_owned(), value: value.to_string(), may_lack: false }
}

fn soft(file: &str, value: impl ToString) -> Setting {
    Setting { may_lack: true, ..setting(file, value) }
}

/// A setting that a kernel may lack if it asks for nothing: kubelets and runtimes send the least shares and no limit for
/// whatever names none, and a host without the controller gives them so much as well. What somebody asked for has to be.
fn asked(file: &str, value: impl ToString, nothing: bool) -> Setting {
    Setting { may_lack: nothing, ..setting(file, value) }
}

/// The files to write, in order.
///
/// # Errors
/// A name in `unified` or a page size that is no file's name.
pub fn settings(resources: &LinuxResources, version: Version) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    let v2 = version == Version::V2;
    if let Some(cpu) = resources.cpu() {
        all.extend(if v2 { cpu_v2(cpu) } else { cpu_v1(cpu) });
        all.extend(cpu.cpus().iter().filter(|cpus| !cpus.is_empty()).map(|cpus| setting("cpuset.cpus", cpus)));
        all.extend(cpu.mems().iter().filter(|mems| !mems.is_empty()).map(|mems| setting("cpuset.mems", mems)));
    }
    if let Some(memory) = resources.memory() {
        all.extend(if v2 { memory_v2(memory) } else { memory_v1(memory) });
    }
    if let Some(pids) = resources.pids() {
        all.extend((pids.limit() != 0).then(|| setting("pids.max", or_max(pids.limit()))));
    }
    if let Some(io) = resources.block_io() {
        all.extend(if v2 { io_v2(io) } else { io_v1(io) });
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        all.push(huge_pages(limit, version)?);
    }
    all.extend(network(resources, version));
    if v2 {
        all.extend(rdma(resources));
        all.extend(unified(resources)?);
    }
    Ok(all)
}

fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

fn cpu_v1(cpu: &LinuxCpu) -> Vec<Setting> {
    let mut all = Vec::new();
    all.extend(cpu.shares().filter(|shares| *shares != 0).map(|shares| asked("cpu.shares", shares, shares <= LEAST)));
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let unlimited = quota.is_none_or(|quota| quota < 0);
    let period = cpu.period().filter(|period| *period != 0);
    all.extend(period.map(|period| asked("cpu.cfs_period_us", period, unlimited)));
    all.extend(quota.map(|quota| asked("cpu.cfs_quota_us", quota, unlimited)));
    all.extend(cpu.burst().map(|burst| soft("cpu.cfs_burst_us", burst)));
    all.extend(cpu.idle().map(|idle| soft("cpu.idle", idle)));
    all.extend(cpu.realtime_period().filter(|p| *p != 0).map(|period| setting("cpu.rt_period_us", period)));
    all.extend(cpu.realtime_runtime().filter(|r| *r != 0).map(|runtime| setting("cpu.rt_runtime_us", runtime)));
    all
}

fn cpu_v2(cpu: &LinuxCpu) -> Vec<Setting> {
    let mut all = Vec::new();
    all.extend(cpu.idle().map(|idle| soft("cpu.idle", idle)));
    let shares = cpu.shares().filter(|shares| *shares != 0);
    all.extend(shares.map(|shares| asked("cpu.weight", weight(shares), shares <= LEAST)));
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        let limit = quota.filter(|quota| *quota > 0);
        let value = format!("{} {}", or_max(limit.unwrap_or(-1)), period.unwrap_or(100_000));
        all.push(asked("cpu.max", value, limit.is_none()));
    }
    all.extend(cpu.burst().map(|burst| soft("cpu.max.burst", burst)));
    all
}

/// The weight of v2 for shares of v1: 2 → 1, 1024 → 100, 262144 → 10000, on the curve runc 1.3 draws between them.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=LEAST => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

fn memory_v1(memory: &LinuxMemory) -> Vec<Setting> {
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    let mut all = Vec::new();
    all.extend(set(memory.limit()).map(|limit| setting("memory.limit_in_bytes", limit)));
    all.extend(set(memory.swap()).map(|swap| soft("memory.memsw.limit_in_bytes", swap)));
    all.extend(set(memory.reservation()).map(|limit| setting("memory.soft_limit_in_bytes", limit)));
    all.extend(set(memory.kernel_tcp()).map(|limit| soft("memory.kmem.tcp.limit_in_bytes", limit)));
    all.extend(memory.swappiness().map(|swappiness| soft("memory.swappiness", swappiness)));
    all.extend(memory.disable_oom_killer().filter(|off| *off).map(|_| soft("memory.oom_control", 1)));
    all
}

/// Swap of v1 counts memory too, that of v2 does not.
fn memory_v2(memory: &LinuxMemory) -> Vec<Setting> {
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    let (limit, swap) = (set(memory.limit()), set(memory.swap()));
    let mut all = Vec::new();
    let only_swap = match (limit, swap) {
        (_, Some(swap)) if swap < 0 => Some(-1),
        (Some(limit), Some(swap)) if limit > 0 => Some((swap - limit).max(0)),
        _ => None,
    };
    all.extend(only_swap.map(|swap| soft("memory.swap.max", or_max(swap))));
    all.extend(limit.map(|limit| setting("memory.max", or_max(limit))));
    all.extend(set(memory.reservation()).map(|limit| setting("memory.low", or_max(limit))));
    all
}

fn io_v1(io: &LinuxBlockIo) -> Vec<Setting> {
    let mut all = Vec::new();
    all.extend(io.weight().filter(|weight| *weight != 0).map(|weight| soft("blkio.weight", weight)));
    for device in io.weight_device().iter().flatten() {
        let weight = device.weight().unwrap_or_default();
        all.push(soft("blkio.weight_device", format!("{}:{} {weight}", device.major(), device.minor())));
    }
    let mut throttle = |devices: &Option<Vec<LinuxThrottleDevice>>, file: &str| {
        for device in devices.iter().flatten() {
            all.push(setting(file, format!("{}:{} {}", device.major(), device.minor(), device.rate())));
        }
    };
    throttle(io.throttle_read_bps_device(), "blkio.throttle.read_bps_device");
    throttle(io.throttle_write_bps_device(), "blkio.throttle.write_bps_device");
    throttle(io.throttle_read_iops_device(), "blkio.throttle.read_iops_device");
    throttle(io.throttle_write_iops_device(), "blkio.throttle.write_iops_device");
    all
}

fn io_v2(io: &LinuxBlockIo) -> Vec<Setting> {
    let mut all = Vec::new();
    // 10..1000 of v1 onto 1..10000
    let weight = |weight: u16| 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
    all.extend(io.weight().filter(|w| *w != 0).map(|w| soft("io.weight", weight(w))));
    for device in io.weight_device().iter().flatten() {
        let value = weight(device.weight().unwrap_or_default());
        all.push(soft("io.weight", format!("{}:{} {value}", device.major(), device.minor())));
    }
    let mut throttle = |devices: &Option<Vec<LinuxThrottleDevice>>, key: &str| {
        for device in devices.iter().flatten() {
            all.push(setting("io.max", format!("{}:{} {key}={}", device.major(), device.minor(), device.rate())));
        }
    };
    throttle(io.throttle_read_bps_device(), "rbps");
    throttle(io.throttle_write_bps_device(), "wbps");
    throttle(io.throttle_read_iops_device(), "riops");
    throttle(io.throttle_write_iops_device(), "wiops");
    all
}

fn huge_pages(limit: &LinuxHugepageLimit, version: Version) -> Result<Setting> {
    let size = limit.page_size();
    ensure!(size.chars().all(|c| c.is_ascii_alphanumeric()), "{size:?} is no size of huge pages");
    let file = if version == Version::V2 { "max" } else { "limit_in_bytes" };
    Ok(soft(&format!("hugetlb.{size}.{file}"), limit.limit()))
}

fn network(resources: &LinuxResources, version: Version) -> Vec<Setting> {
    let Some(network) = resources.network().as_ref().filter(|_| version == Version::V1) else { return Vec::new() };
    let mut all: Vec<Setting> = network.class_id().iter().map(|class| soft("net_cls.classid", class)).collect();
    for priority in network.priorities().iter().flatten() {
        all.push(soft("net_prio.ifpriomap", format!("{} {}", priority.name(), priority.priority())));
    }
    all
}

fn rdma(resources: &LinuxResources) -> Vec<Setting> {
    let or_max = |value: Option<u32>| value.map_or("max".to_owned(), |value| value.to_string());
    let line = |(device, limit): (&String, &oci_spec::runtime::LinuxRdma)| {
        let (handles, objects) = (or_max(limit.hca_handles()), or_max(limit.hca_objects()));
        soft("rdma.max", format!("{device} hca_handle={handles} hca_object={objects}"))
    };
    resources.rdma().iter().flatten().map(line).collect()
}

/// Values of v2 by the names of their files. They come last, so that they win; sorted, so that the order is one.
fn unified(resources: &LinuxResources) -> Result<Vec<Setting>> {
    let mut pairs: Vec<(&String, &String)> = resources.unified().iter().flatten().collect();
    pairs.sort();
    let mut all = Vec::new();
    for (file, value) in pairs {
        ensure!(file.contains('.') && !file.contains('/'), "{file:?} is no file of a cgroup");
        all.extend(value.lines().map(|line| setting(file, line)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str, version: Version) -> String {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let all = settings(&resources, version).unwrap();
        all.iter().map(|one| format!("{}={};", one.file, one.value)).collect()
    }

    const POD: &str = r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0-1"},
        "memory":{"limit":1000,"swap":1500},"pids":{"limit":-1},"hugepageLimits":[{"pageSize":"2MB","limit":7}]}"#;

    #[test]
    fn resources_of_v1() {
        assert_eq!(
            shown(POD, Version::V1),
            "cpu.shares=512;cpu.cfs_period_us=100000;cpu.cfs_quota_us=50000;cpuset.cpus=0-1;\
             memory.limit_in_bytes=1000;memory.memsw.limit_in_bytes=1500;pids.max=max;hugetlb.2MB.limit_in_bytes=7;"
        );
    }

    #[test]
    fn resources_of_v2_count_swap_apart() {
        assert_eq!(
            shown(POD, Version::V2),
            "cpu.weight=59;cpu.max=50000 100000;cpuset.cpus=0-1;memory.swap.max=500;memory.max=1000;\
             pids.max=max;hugetlb.2MB.max=7;"
        );
    }

    #[test]
    fn what_asks_for_nothing_needs_no_cpu_controller() {
        let lacking = |json: &str, version| -> Vec<bool> {
            let resources: LinuxResources = serde_json::from_str(json).unwrap();
            settings(&resources, version).unwrap().iter().map(|one| one.may_lack).collect()
        };
        for nothing in [r#"{"cpu":{"shares":2,"period":100000}}"#, r#"{"cpu":{"shares":2,"quota":-1,"period":100000}}"#]
        {
            assert!(lacking(nothing, Version::V1).iter().all(|lacks| *lacks), "{nothing}");
            assert!(lacking(nothing, Version::V2).iter().all(|lacks| *lacks), "{nothing}");
        }
        let something = r#"{"cpu":{"shares":3,"quota":5000,"period":100000}}"#;
        assert_eq!(lacking(something, Version::V1), [false; 3]);
        assert_eq!(lacking(something, Version::V2), [false; 2]);
    }

    #[test]
    fn weights_meet_the_ends_and_the_default() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 100, 10_000]);
    }

    #[test]
    fn unified_names_only_files_of_the_cgroup() {
        let resources = |file: &str| -> LinuxResources {
            serde_json::from_value(serde_json::json!({"unified": {file: "1"}})).unwrap()
        };
        assert!(settings(&resources("memory.high"), Version::V2).is_ok());
        for bad in ["../memory.max", "memory", "a/b.c"] {
            assert!(settings(&resources(bad), Version::V2).is_err(), "{bad}");
        }
    }
}
