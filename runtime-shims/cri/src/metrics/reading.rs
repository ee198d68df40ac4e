//! Everything that is counted of one container, in one reading: its cgroup, processes and file system, v1 and v2.
//!
//! Must not know: what the numbers are called outside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};
use nix::sys::statvfs::statvfs;

use super::cgroup::{Cgroup, value_of};

/// A limit above this is none: v1 shows the largest number of pages.
const NO_LIMIT: u64 = i64::MAX as u64 / 2;

/// A container's numbers; times in nanoseconds, sizes in bytes.
#[derive(Debug, Default)]
pub struct Reading {
    pub cpu: Cpu,
    pub memory: Memory,
    pub processes: Processes,
    pub disk: Disk,
    pub blocks: Vec<Block>,
    pub huge_pages: Vec<HugePages>,
    pub limits: Limits,
    pub pressure: Pressure,
    pub started_at: u64,
    pub seen_at: u64,
}

#[derive(Debug, Default, PartialEq)]
pub struct Cpu {
    pub usage: u64,
    pub user: u64,
    pub system: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: u64,
}

#[derive(Debug, Default, PartialEq)]
pub struct Memory {
    pub usage: u64,
    pub working_set: u64,
    pub most: u64,
    pub rss: u64,
    pub cache: u64,
    pub mapped_file: u64,
    pub kernel: u64,
    pub swap: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// How often the limit was met.
    pub limit_hits: u64,
    /// Processes killed for want of memory.
    pub killed: u64,
}

#[derive(Debug, Default, PartialEq)]
pub struct Processes {
    pub count: u64,
    pub threads: u64,
    /// Zero is any number.
    pub most_threads: u64,
    pub descriptors: u64,
    pub sockets: u64,
    /// Of the first process.
    pub open_files_limit: Option<u64>,
}

/// The file system of the writable layer.
#[derive(Debug, Default, PartialEq)]
pub struct Disk {
    pub device: String,
    /// By the container alone.
    pub used: u64,
    pub size: u64,
    pub inodes: u64,
    pub free_inodes: u64,
}

/// What a container read from and wrote to one block device.
#[derive(Debug, Default, PartialEq)]
pub struct Block {
    pub device: String,
    pub major: String,
    pub minor: String,
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
}

/// Pages of one size, as the kernel names it: `2MB`.
#[derive(Debug, PartialEq)]
pub struct HugePages {
    pub size: String,
    pub used: u64,
    /// v1 alone counts it.
    pub most: Option<u64>,
}

/// Zero is no limit.
#[derive(Debug, Default, PartialEq)]
pub struct Limits {
    pub cpu_period: u64,
    pub cpu_quota: Option<u64>,
    pub cpu_shares: u64,
    pub memory: u64,
    pub memory_reservation: u64,
    pub memory_and_swap: u64,
}

/// `None` where the kernel counts none.
#[derive(Debug, Default)]
pub struct Pressure {
    pub cpu: Option<Stalled>,
    pub memory: Option<Stalled>,
    pub io: Option<Stalled>,
}

/// How long some, and all, processes waited.
#[derive(Debug, Clone, Copy)]
pub struct Stalled {
    pub some: u64,
    pub full: u64,
}

impl Reading {
    /// Reads everything, which blocks: a container in `cgroup` with the process `first`, whose writable layer is `upper`
    /// with `used` bytes in it.
    pub fn take(cgroup: &Cgroup, first: u32, upper: &Path, used: u64, started_at: i64) -> Self {
        Self {
            cpu: cgroup.cpu_times(),
            memory: cgroup.memory_counts(),
            processes: cgroup.process_counts(first),
            disk: disk(upper, used),
            blocks: cgroup.blocks(),
            huge_pages: cgroup.huge_pages(),
            limits: cgroup.limits(),
            pressure: cgroup.stalled(),
            started_at: started_at.unsigned_abs(),
            seen_at: super::now().unsigned_abs(),
        }
    }
}

impl Cgroup {
    fn cpu_times(&self) -> Cpu {
        let stat = self.text("cpu", "cpu.stat");
        let of = |key: &str| value_of(&stat, key).unwrap_or(0);
        let (periods, throttled_periods) = (of("nr_periods"), of("nr_throttled"));
        if self.is_v2() {
            let [usage, user, system, throttled] =
                ["usage_usec", "user_usec", "system_usec", "throttled_usec"].map(|key| of(key) * 1000);
            return Cpu { usage, user, system, periods, throttled_periods, throttled };
        }
        let [usage, user, system] = ["cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys"]
            .map(|file| self.number("cpuacct", file).unwrap_or(0));
        Cpu { usage, user, system, periods, throttled_periods, throttled: of("throttled_time") }
    }

    fn memory_counts(&self) -> Memory {
        let stat = self.text("memory", "memory.stat");
        let key = |v1: &str, v2: &str| value_of(&stat, if self.is_v2() { v2 } else { v1 }).unwrap_or(0);
        let file = |v1: &str, v2: &str| self.number("memory", if self.is_v2() { v2 } else { v1 }).unwrap_or(0);
        let events = self.text("memory", if self.is_v2() { "memory.events" } else { "memory.oom_control" });
        let usage = file("memory.usage_in_bytes", "memory.current");
        Memory {
            usage,
            working_set: usage.saturating_sub(key("total_inactive_file", "inactive_file")),
            most: file("memory.max_usage_in_bytes", "memory.peak"),
            rss: key("total_rss", "anon"),
            cache: key("total_cache", "file"),
            mapped_file: key("total_mapped_file", "file_mapped"),
            kernel: if self.is_v2() { key("", "kernel") } else { file("memory.kmem.usage_in_bytes", "") },
            swap: if self.is_v2() { file("", "memory.swap.current") } else { key("total_swap", "") },
            page_faults: key("total_pgfault", "pgfault"),
            major_page_faults: key("total_pgmajfault", "pgmajfault"),
            limit_hits: if self.is_v2() { value_of(&events, "max").unwrap_or(0) } else { file("memory.failcnt", "") },
            killed: value_of(&events, "oom_kill").unwrap_or(0),
        }
    }

    fn limits(&self) -> Limits {
        let memory = |v1: &str, v2: &str| {
            let found = self.number("memory", if self.is_v2() { v2 } else { v1 });
            found.filter(|limit| *limit < NO_LIMIT).unwrap_or(0)
        };
        let cpu = if self.is_v2() { self.cpu_limits() } else { self.cpu_limits_of_v1() };
        Limits {
            memory: memory("memory.limit_in_bytes", "memory.max"),
            memory_reservation: memory("memory.soft_limit_in_bytes", "memory.low"),
            memory_and_swap: memory("memory.memsw.limit_in_bytes", "memory.swap.max"),
            ..cpu
        }
    }

    fn cpu_limits(&self) -> Limits {
        let text = self.text("cpu", "cpu.max");
        let mut words = text.split_whitespace().map(|word| word.parse().ok());
        let (cpu_quota, cpu_period) = (words.next().flatten(), words.next().flatten().unwrap_or(0));
        let weight = self.number("cpu", "cpu.weight").unwrap_or(100).max(1);
        // the older scale, 2 to 262144, over v2's 1 to 10000
        Limits { cpu_period, cpu_quota, cpu_shares: 2 + (weight - 1) * 262_142 / 9999, ..Limits::default() }
    }

    fn cpu_limits_of_v1(&self) -> Limits {
        let number = |file: &str| self.number("cpu", file);
        Limits {
            cpu_period: number("cpu.cfs_period_us").unwrap_or(0),
            cpu_quota: number("cpu.cfs_quota_us"),
            cpu_shares: number("cpu.shares").unwrap_or(0),
            ..Limits::default()
        }
    }

    /// Processes of the cgroup and below; `first` is the container's.
    fn process_counts(&self, first: u32) -> Processes {
        let pids = self.processes();
        let mut counts = Processes { count: pids.len() as u64, ..Processes::default() };
        for pid in &pids {
            counts.threads += entries(&format!("/proc/{pid}/task"));
            let (descriptors, sockets) = descriptors(*pid);
            counts.descriptors += descriptors;
            counts.sockets += sockets;
        }
        counts.most_threads = self.number("pids", "pids.max").unwrap_or(0);
        counts.open_files_limit =
            open_files_limit(&fs::read_to_string(format!("/proc/{first}/limits")).unwrap_or_default());
        counts
    }

    fn blocks(&self) -> Vec<Block> {
        if self.is_v2() {
            return self.text("io", "io.stat").lines().filter_map(block_of_v2).collect();
        }
        let bytes = self.text("blkio", "blkio.throttle.io_service_bytes");
        let counts = self.text("blkio", "blkio.throttle.io_serviced");
        blocks_of_v1(&bytes, &counts)
    }

    fn huge_pages(&self) -> Vec<HugePages> {
        let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
        let sizes = sizes.filter_map(|entry| page_size(&entry.file_name().into_string().ok()?));
        let of = |size: String| {
            let number = |file: &str| self.number("hugetlb", &format!("hugetlb.{size}.{file}"));
            let used = number(if self.is_v2() { "current" } else { "usage_in_bytes" })?;
            Some(HugePages { used, most: number("max_usage_in_bytes"), size })
        };
        sizes.filter_map(of).collect()
    }

    fn stalled(&self) -> Pressure {
        let of = |what: &str| {
            let text = self.is_v2().then(|| self.text(what, &format!("{what}.pressure")))?;
            Some(Stalled { some: total(&text, "some ")?, full: total(&text, "full ").unwrap_or(0) })
        };
        Pressure { cpu: of("cpu"), memory: of("memory"), io: of("io") }
    }
}

/// `some avg10=0.00 … total=12`, in microseconds.
fn total(text: &str, kind: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let micros: u64 = line.split(' ').find_map(|field| field.strip_prefix("total="))?.parse().ok()?;
    Some(micros * 1000)
}

/// The file system that a writable layer is on.
fn disk(upper: &Path, used: u64) -> Disk {
    let Ok(stat) = statvfs(upper) else { return Disk::default() };
    let device = fs::metadata(upper).map(|found| device(major(found.dev()), minor(found.dev()))).unwrap_or_default();
    let size = stat.blocks() * stat.fragment_size();
    Disk { device, used, size, inodes: stat.files(), free_inodes: stat.files_available() }
}

/// `/dev/NAME`; the numbers where the kernel names none.
fn device(major: u64, minor: u64) -> String {
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"))
}

fn entries(dir: &str) -> u64 {
    fs::read_dir(dir).map(|entries| entries.count() as u64).unwrap_or(0)
}

/// All of a process, and those that are sockets. It may end meanwhile.
fn descriptors(pid: i32) -> (u64, u64) {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    all.fold((0, 0), |(all, sockets), entry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        (all + 1, sockets + u64::from(target.to_string_lossy().starts_with("socket:")))
    })
}

/// Soft, from `/proc/PID/limits`.
fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `hugepages-2048kB` → `2MB`.
fn page_size(folder: &str) -> Option<String> {
    let kilobytes: u64 = folder.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        large if large >= 1 << 20 => format!("{}GB", large >> 20),
        middle if middle >= 1 << 10 => format!("{}MB", middle >> 10),
        small => format!("{small}KB"),
    })
}

fn block(numbers: &str) -> Option<Block> {
    let (major, minor) = numbers.split_once(':')?;
    let device = device(major.parse().ok()?, minor.parse().ok()?);
    Some(Block { device, major: major.to_owned(), minor: minor.to_owned(), ..Block::default() })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`
fn block_of_v2(line: &str) -> Option<Block> {
    let (numbers, fields) = line.split_once(' ')?;
    let field = |name: &str| {
        let found = fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    let (reads, writes) = (field("rios"), field("wios"));
    Some(Block { reads, writes, read_bytes: field("rbytes"), written_bytes: field("wbytes"), ..block(numbers)? })
}

/// `8:0 Read 1` and `8:0 Write 2`, in bytes and in requests.
fn blocks_of_v1(bytes: &str, counts: &str) -> Vec<Block> {
    let of = |text: &str, start: &str, operation: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(start)?.strip_prefix(operation));
        found.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    let starts = bytes.lines().filter_map(|line| line.split_once(" Read ").map(|(numbers, _)| numbers));
    let read = |numbers: &str| {
        let start = format!("{numbers} ");
        Some(Block {
            reads: of(counts, &start, "Read "),
            writes: of(counts, &start, "Write "),
            read_bytes: of(bytes, &start, "Read "),
            written_bytes: of(bytes, &start, "Write "),
            ..block(numbers)?
        })
    };
    starts.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_in_both_forms() {
        let expected = Block {
            device: "999:7".into(),
            major: "999".into(),
            minor: "7".into(),
            reads: 3,
            read_bytes: 100,
            writes: 4,
            written_bytes: 200,
        };
        let newer = block_of_v2("999:7 rbytes=100 wbytes=200 rios=3 wios=4 dbytes=0 dios=0");
        assert_eq!(newer.as_ref(), Some(&expected));
        let bytes = "999:7 Read 100\n999:7 Write 200\n999:7 Total 300\nTotal 300\n";
        let counts = "999:7 Read 3\n999:7 Write 4\n999:7 Total 7\nTotal 7\n";
        assert_eq!(blocks_of_v1(bytes, counts), [expected]);
    }

    #[test]
    fn waiting_is_read_in_nanoseconds() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!((total(text, "some "), total(text, "full ")), (Some(42_000), Some(7000)));
        assert_eq!(total("", "some "), None);
    }

    #[test]
    fn sizes_of_pages_are_named_as_the_kernel_does() {
        let names = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "other"].map(page_size);
        assert_eq!(names, [Some("64KB".into()), Some("2MB".into()), Some("1GB".into()), None]);
    }

    #[test]
    fn the_soft_limit_of_open_files_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_limit(text), Some(1024));
        assert_eq!(open_files_limit(""), None);
    }
}
