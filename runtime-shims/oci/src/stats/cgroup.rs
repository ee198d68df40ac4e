//! One cgroup's counters as CRI shows them, v1 and v2.
//!
//! Must not know: whose cgroup it is.

use std::fs;

use pintle_cri::v1;

use super::{now, some};
use crate::drivers::cgroups::{Hierarchies, value_of};

/// A limit above this is none: v1 shows the largest number of pages.
const NO_LIMIT: u64 = i64::MAX as u64 / 2;

/// A cgroup that is read.
pub struct Cgroup<'a> {
    pub hierarchies: &'a Hierarchies,
    pub path: &'a str,
}

impl Cgroup<'_> {
    fn text(&self, controller: &str, file: &str) -> String {
        let path = self.hierarchies.dir(controller, self.path).join(file);
        fs::read_to_string(path).unwrap_or_default()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.text(controller, file).trim().parse().ok()
    }

    fn is_v2(&self) -> bool {
        self.hierarchies.is_v2()
    }

    pub fn cpu(&self) -> v1::CpuUsage {
        let nanoseconds = if self.is_v2() {
            value_of(&self.text("cpu", "cpu.stat"), "usage_usec").map(|micros| micros * 1000)
        } else {
            self.number("cpuacct", "cpuacct.usage")
        };
        v1::CpuUsage {
            timestamp: now(),
            usage_core_nano_seconds: some(nanoseconds.unwrap_or(0)),
            usage_nano_cores: None,
            psi: self.pressure("cpu"),
        }
    }

    pub fn memory(&self) -> v1::MemoryUsage {
        let stat = self.text("memory", "memory.stat");
        let key = |v1: &'static str, v2: &'static str| value_of(&stat, if self.is_v2() { v2 } else { v1 }).unwrap_or(0);
        let usage = self.memory_usage();
        // the kubelet's: what could be taken back at once does not count
        let working_set = usage.saturating_sub(key("total_inactive_file", "inactive_file"));
        let available = self.memory_limit().map(|limit| limit.saturating_sub(working_set));
        v1::MemoryUsage {
            timestamp: now(),
            working_set_bytes: some(working_set),
            available_bytes: available.and_then(some),
            usage_bytes: some(usage),
            rss_bytes: some(key("total_rss", "anon")),
            page_faults: some(key("total_pgfault", "pgfault")),
            major_page_faults: some(key("total_pgmajfault", "pgmajfault")),
            psi: self.pressure("memory"),
        }
    }

    fn memory_usage(&self) -> u64 {
        let file = if self.is_v2() { "memory.current" } else { "memory.usage_in_bytes" };
        self.number("memory", file).unwrap_or(0)
    }

    /// `None` without one.
    fn memory_limit(&self) -> Option<u64> {
        let file = if self.is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
        self.number("memory", file).filter(|limit| *limit < NO_LIMIT)
    }

    /// `None` where the kernel does not account swap.
    pub fn swap(&self) -> Option<v1::SwapUsage> {
        let (used, limit) = if self.is_v2() {
            (self.number("memory", "memory.swap.current")?, self.number("memory", "memory.swap.max"))
        } else {
            let both = self.number("memory", "memory.memsw.usage_in_bytes")?;
            let limit = self.number("memory", "memory.memsw.limit_in_bytes").filter(|limit| *limit < NO_LIMIT);
            let limit = limit.map(|both| both.saturating_sub(self.memory_limit().unwrap_or(both)));
            (both.saturating_sub(self.memory_usage()), limit)
        };
        Some(v1::SwapUsage {
            timestamp: now(),
            swap_available_bytes: some(limit.unwrap_or(0).saturating_sub(used)),
            swap_usage_bytes: some(used),
        })
    }

    pub fn io(&self) -> Option<v1::IoUsage> {
        Some(v1::IoUsage { timestamp: now(), psi: Some(self.pressure("io")?) })
    }

    pub fn processes(&self) -> v1::ProcessUsage {
        v1::ProcessUsage { timestamp: now(), process_count: some(self.number("pids", "pids.current").unwrap_or(0)) }
    }

    /// `None` where the kernel has no pressure stall information; v1 never has.
    fn pressure(&self, what: &str) -> Option<v1::PsiStats> {
        if !self.is_v2() {
            return None;
        }
        let text = self.text(what, &format!("{what}.pressure"));
        let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind)).map(pressure_line);
        Some(v1::PsiStats { some: Some(line("some ")?), full: line("full ") })
    }
}

/// `avg10=0.00 avg60=0.00 avg300=0.00 total=0`, the total in microseconds.
fn pressure_line(line: &str) -> v1::PsiData {
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let share = |name: &str| field(name).and_then(|value| value.parse().ok()).unwrap_or(0.0);
    v1::PsiData {
        total: field("total").and_then(|value| value.parse().ok()).unwrap_or(0),
        avg10: share("avg10"),
        avg60: share("avg60"),
        avg300: share("avg300"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(files: &[(&str, &str)]) -> (tempfile::TempDir, Hierarchies) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "").unwrap();
        for (name, text) in files {
            fs::write(dir.path().join("c").join(name), text).unwrap();
        }
        let hierarchies = Hierarchies::detect(dir.path());
        (dir, hierarchies)
    }

    #[test]
    fn the_unified_hierarchy_is_read() {
        let (_dir, hierarchies) = v2(&[
            ("cpu.stat", "usage_usec 12\nuser_usec 1\n"),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 300\nfile 9\ninactive_file 100\npgfault 5\npgmajfault 1\n"),
            ("memory.swap.current", "7\n"),
            ("memory.swap.max", "10\n"),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=42\n"),
        ]);
        let cgroup = Cgroup { hierarchies: &hierarchies, path: "/c" };
        let value = |value: Option<v1::UInt64Value>| value.map(|value| value.value);
        assert_eq!(value(cgroup.cpu().usage_core_nano_seconds), Some(12_000));
        let psi = cgroup.cpu().psi.unwrap().some.unwrap();
        assert_eq!((psi.total, psi.avg10), (42, 1.5));
        let memory = cgroup.memory();
        assert_eq!((value(memory.working_set_bytes), value(memory.available_bytes)), (Some(900), None));
        assert_eq!((value(memory.rss_bytes), value(memory.major_page_faults)), (Some(300), Some(1)));
        let swap = cgroup.swap().unwrap();
        assert_eq!((value(swap.swap_usage_bytes), value(swap.swap_available_bytes)), (Some(7), Some(3)));
    }
}
