//! Limits of a container, from CRI's fields to the runtime specification's, at creation and in place.
//!
//! Must not know: the cgroup tree; the OCI runtime translates for v1 and v2.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};
use pintle_cri::v1::LinuxContainerResources;

use crate::{CgroupVersion, Host, Invalid};

const FIELD: &str = "linux.resources";

/// The limits of a new container. A field that is zero or empty sets nothing.
///
/// A memory limit without a swap limit keeps the container from swapping (both are equal), where the kernel accounts swap.
///
/// # Errors
/// A negative share or period, `unified` on cgroup v1, huge page limits without the hugetlb controller, a score out of
/// range.
pub fn resources(asked: &LinuxContainerResources, host: &Host) -> Result<LinuxResources, Invalid> {
    let mut resources = LinuxResources::default();
    update(&mut resources, asked, host)?;
    Ok(resources)
}

/// Puts the fields that `asked` sets over those a container has: `UpdateContainerResources`.
///
/// # Errors
/// As [`resources`].
pub fn update(resources: &mut LinuxResources, asked: &LinuxContainerResources, host: &Host) -> Result<(), Invalid> {
    let cpu = cpu(resources.cpu().clone().unwrap_or_default(), asked)?;
    resources.set_cpu(Some(cpu).filter(|cpu| *cpu != LinuxCpu::default()));
    let memory = memory(resources.memory().unwrap_or_default(), asked, host)?;
    resources.set_memory(Some(memory).filter(|memory| *memory != LinuxMemory::default()));
    if !asked.hugepage_limits.is_empty() {
        resources.set_hugepage_limits(huge_pages(asked, host)?);
    }
    if !asked.unified.is_empty() {
        resources.set_unified(Some(unified(resources.unified().clone().unwrap_or_default(), asked, host)?));
    }
    Ok(())
}

fn cpu(mut cpu: LinuxCpu, asked: &LinuxContainerResources) -> Result<LinuxCpu, Invalid> {
    if let Some(period) = set("cpu_period", asked.cpu_period)? {
        cpu.set_period(Some(period));
    }
    if asked.cpu_quota != 0 {
        cpu.set_quota(Some(asked.cpu_quota));
    }
    if let Some(shares) = set("cpu_shares", asked.cpu_shares)? {
        cpu.set_shares(Some(shares));
    }
    if !asked.cpuset_cpus.is_empty() {
        cpu.set_cpus(Some(cpuset("cpuset_cpus", &asked.cpuset_cpus)?));
    }
    if !asked.cpuset_mems.is_empty() {
        cpu.set_mems(Some(cpuset("cpuset_mems", &asked.cpuset_mems)?));
    }
    Ok(cpu)
}

fn memory(mut memory: LinuxMemory, asked: &LinuxContainerResources, host: &Host) -> Result<LinuxMemory, Invalid> {
    let (limit, swap) = (asked.memory_limit_in_bytes, asked.memory_swap_limit_in_bytes);
    if limit < -1 {
        return Err(negative("memory_limit_in_bytes", limit));
    }
    if limit > 0 && swap > 0 && swap < limit {
        let reason = format!("{swap} is memory and swap together, and less than the memory limit {limit}");
        return Err(Invalid::new(format!("{FIELD}.memory_swap_limit_in_bytes"), reason));
    }
    if limit != 0 {
        memory.set_limit(Some(limit));
    }
    let swap = if swap == 0 { limit } else { swap };
    if swap != 0 && host.swap {
        memory.set_swap(Some(swap));
    }
    Ok(memory)
}

fn huge_pages(asked: &LinuxContainerResources, host: &Host) -> Result<Option<Vec<LinuxHugepageLimit>>, Invalid> {
    let limits = asked.hugepage_limits.iter();
    if !host.hugetlb {
        // The kubelet sends a zero for every page size of the node; only a real limit must be honoured.
        return match limits.into_iter().find(|limit| limit.limit != 0) {
            None => Ok(None),
            Some(_) => Err(Invalid::new(
                format!("{FIELD}.hugepage_limits"),
                "huge pages limits are specified but hugetlb cgroup controller is missing",
            )),
        };
    }
    let made = limits.map(|limit| {
        let mut made = LinuxHugepageLimit::default();
        made.set_page_size(limit.page_size.clone());
        made.set_limit(i64::try_from(limit.limit).unwrap_or(i64::MAX));
        made
    });
    Ok(Some(made.collect()))
}

fn unified(
    mut unified: HashMap<String, String>,
    asked: &LinuxContainerResources,
    host: &Host,
) -> Result<HashMap<String, String>, Invalid> {
    let field = format!("{FIELD}.unified");
    if host.cgroup_version == CgroupVersion::V1 {
        return Err(Invalid::new(field, "can only be set with cgroup v2"));
    }
    if let Some(name) = asked.unified.keys().find(|name| name.contains('/') || !name.contains('.')) {
        return Err(Invalid::new(field, format!("{name:?} must be a file name like memory.high")));
    }
    unified.extend(asked.unified.clone());
    Ok(unified)
}

/// The score of the OOM killer, raised to what this process may set.
pub(crate) fn oom_score_adj(asked: Option<&LinuxContainerResources>, host: &Host) -> Result<Option<i32>, Invalid> {
    let Some(asked) = asked else { return Ok(None) };
    let score = i32::try_from(asked.oom_score_adj).ok().filter(|score| (-1000..=1000).contains(score));
    let reason = || format!("{} is not between -1000 and 1000", asked.oom_score_adj);
    let score = score.ok_or_else(|| Invalid::new(format!("{FIELD}.oom_score_adj"), reason()))?;
    Ok(Some(score.max(host.least_oom_score_adj.unwrap_or(score))))
}

fn set(name: &str, value: i64) -> Result<Option<u64>, Invalid> {
    let value = u64::try_from(value).map_err(|_| negative(name, value))?;
    Ok(Some(value).filter(|value| *value != 0))
}

fn negative(name: &str, value: i64) -> Invalid {
    Invalid::new(format!("{FIELD}.{name}"), format!("{value} is negative"))
}

/// `0-3,7`.
fn cpuset(name: &str, text: &str) -> Result<String, Invalid> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let range =
        |text: &str| text.split_once('-').map_or_else(|| number(text), |(low, high)| number(low) && number(high));
    if text.split(',').all(range) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(format!("{FIELD}.{name}"), format!("{text:?} is no list like 0-3,7")))
}

#[cfg(test)]
mod tests {
    use pintle_cri::v1::HugepageLimit;
    use proptest::prelude::*;

    use super::*;

    fn host() -> Host {
        Host { swap: true, hugetlb: true, ..Host::default() }
    }

    #[test]
    fn without_a_swap_limit_a_container_does_not_swap() {
        let asked = LinuxContainerResources { memory_limit_in_bytes: 100, ..Default::default() };
        let swap =
            |asked: &LinuxContainerResources, host: &Host| resources(asked, host).unwrap().memory().unwrap().swap();
        assert_eq!(swap(&asked, &host()), Some(100));
        assert_eq!(swap(&asked, &Host::default()), None);
        let more = LinuxContainerResources { memory_swap_limit_in_bytes: 150, ..asked.clone() };
        assert_eq!(swap(&more, &host()), Some(150));
        let less = LinuxContainerResources { memory_swap_limit_in_bytes: 50, ..asked };
        assert!(resources(&less, &host()).unwrap_err().to_string().contains("less than the memory limit 100"));
    }

    #[test]
    fn huge_pages_need_their_controller() {
        let asked = |limit| LinuxContainerResources {
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit }],
            ..Default::default()
        };
        assert_eq!(resources(&asked(1), &host()).unwrap().hugepage_limits().as_ref().unwrap()[0].limit(), 1);
        assert!(resources(&asked(0), &Host::default()).is_ok());
        assert!(resources(&asked(1), &Host::default()).unwrap_err().reason.contains("controller is missing"));
    }

    #[test]
    fn what_cannot_be_is_told_with_its_field() {
        let error = |asked: LinuxContainerResources, host: &Host| resources(&asked, host).unwrap_err().to_string();
        let none = LinuxContainerResources::default;
        assert_eq!(
            error(LinuxContainerResources { cpu_shares: -1, ..none() }, &host()),
            "linux.resources.cpu_shares: -1 is negative"
        );
        assert_eq!(
            error(LinuxContainerResources { cpuset_cpus: "0-".into(), ..none() }, &host()),
            "linux.resources.cpuset_cpus: \"0-\" is no list like 0-3,7"
        );
        let unified =
            |name: &str| LinuxContainerResources { unified: [(name.to_owned(), "1".to_owned())].into(), ..none() };
        let v1 = Host { cgroup_version: CgroupVersion::V1, ..host() };
        assert_eq!(error(unified("memory.high"), &v1), "linux.resources.unified: can only be set with cgroup v2");
        assert!(error(unified("../memory.high"), &host()).contains("must be a file name"));
    }

    #[test]
    fn a_score_is_raised_to_what_may_be_set() {
        let asked = |score| LinuxContainerResources { oom_score_adj: score, ..Default::default() };
        let restricted = Host { least_oom_score_adj: Some(0), ..Host::default() };
        assert_eq!(oom_score_adj(Some(&asked(-998)), &restricted), Ok(Some(0)));
        assert_eq!(oom_score_adj(Some(&asked(-998)), &Host::default()), Ok(Some(-998)));
        assert_eq!(oom_score_adj(None, &restricted), Ok(None));
        assert!(oom_score_adj(Some(&asked(1001)), &restricted).is_err());
    }

    proptest! {
        #[test]
        fn updating_twice_is_updating_once(shares in 0..9i64, quota in -1..9i64, period in 0..9i64, limit in 0..9i64) {
            let asked = LinuxContainerResources {
                cpu_shares: shares, cpu_quota: quota, cpu_period: period, memory_limit_in_bytes: limit,
                ..Default::default()
            };
            let once = resources(&asked, &host()).unwrap();
            let mut twice = once.clone();
            update(&mut twice, &asked, &host()).unwrap();
            prop_assert_eq!(&once, &twice);
            update(&mut twice, &LinuxContainerResources::default(), &host()).unwrap();
            prop_assert_eq!(once, twice, "an empty update changes nothing");
        }
    }
}
