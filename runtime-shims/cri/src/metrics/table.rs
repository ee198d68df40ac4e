//! The metrics of a container: cAdvisor's names and words, each with what it reads.
//!
//! Must not know: where readings come from.

use super::reading::{Block, Reading};
use crate::v1::MetricType;

/// A metric.
pub struct Known {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricType,
    pub of: Of,
}

/// What a metric reads.
pub enum Of {
    /// One number, if there is one.
    One(fn(&Reading) -> Option<u64>),
    /// Numbers with labels of their own, named here.
    Many(&'static [&'static str], fn(&Reading) -> Vec<Row>),
}

/// Values of a metric's own labels, and its value.
pub type Row = (Vec<String>, u64);

type Number = fn(&Reading) -> Option<u64>;
type Rows = fn(&Reading) -> Vec<Row>;

impl Known {
    /// The labels it has besides every container's.
    pub fn own_labels(&self) -> &'static [&'static str] {
        match self.of {
            Of::One(_) => &[],
            Of::Many(labels, _) => labels,
        }
    }

    pub fn rows(&self, reading: &Reading) -> Vec<Row> {
        match self.of {
            Of::One(read) => read(reading).map(|value| (Vec::new(), value)).into_iter().collect(),
            Of::Many(_, read) => read(reading),
        }
    }
}

const fn counter(name: &'static str, help: &'static str, of: Number) -> Known {
    Known { name, help, kind: MetricType::Counter, of: Of::One(of) }
}

const fn gauge(name: &'static str, help: &'static str, of: Number) -> Known {
    Known { name, help, kind: MetricType::Gauge, of: Of::One(of) }
}

const fn counters(name: &'static str, help: &'static str, labels: &'static [&'static str], of: Rows) -> Known {
    Known { name, help, kind: MetricType::Counter, of: Of::Many(labels, of) }
}

const fn gauges(name: &'static str, help: &'static str, labels: &'static [&'static str], of: Rows) -> Known {
    Known { name, help, kind: MetricType::Gauge, of: Of::Many(labels, of) }
}

/// CRI's values are whole numbers.
fn seconds(nanoseconds: u64) -> Option<u64> {
    Some(nanoseconds / 1_000_000_000)
}

fn of_blocks(reading: &Reading, value: fn(&Block) -> u64) -> Vec<Row> {
    reading.blocks.iter().map(|block| (vec![block.device.clone()], value(block))).collect()
}

fn of_disk(reading: &Reading, value: u64) -> Vec<Row> {
    vec![(vec![reading.disk.device.clone()], value)]
}

fn blkio(reading: &Reading) -> Vec<Row> {
    let of = |block: &Block| {
        let row = |operation: &str, value| {
            let labels = [block.device.as_str(), block.major.as_str(), block.minor.as_str(), operation];
            (labels.map(str::to_owned).to_vec(), value)
        };
        [row("Read", block.read_bytes), row("Write", block.written_bytes)]
    };
    reading.blocks.iter().flat_map(of).collect()
}

fn failures(reading: &Reading) -> Vec<Row> {
    let row = |kind: &str, value| (vec![kind.to_owned(), "container".to_owned()], value);
    vec![row("pgfault", reading.memory.page_faults), row("pgmajfault", reading.memory.major_page_faults)]
}

fn open_files(reading: &Reading) -> Vec<Row> {
    let limit = reading.processes.open_files_limit;
    limit.map(|limit| (vec!["max_open_files".to_owned()], limit)).into_iter().collect()
}

const DEVICE: &[&str] = &["device"];
const PAGE_SIZE: &[&str] = &["pagesize"];

pub const CPU: [Known; 6] = [
    counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", |r| seconds(r.cpu.usage)),
    counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", |r| {
        seconds(r.cpu.user)
    }),
    counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", |r| {
        seconds(r.cpu.system)
    }),
    counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", |r| {
        Some(r.cpu.periods)
    }),
    counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", |r| {
        Some(r.cpu.throttled_periods)
    }),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        |r| seconds(r.cpu.throttled),
    ),
];

pub const MEMORY: [Known; 11] = [
    gauge("container_memory_usage_bytes", "Current memory usage in bytes, including all memory.", |r| {
        Some(r.memory.usage)
    }),
    gauge("container_memory_working_set_bytes", "Current working set in bytes.", |r| Some(r.memory.working_set)),
    gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes.", |r| Some(r.memory.most)),
    gauge("container_memory_rss", "Size of RSS in bytes.", |r| Some(r.memory.rss)),
    gauge("container_memory_cache", "Number of bytes of page cache memory.", |r| Some(r.memory.cache)),
    gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.", |r| Some(r.memory.mapped_file)),
    gauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", |r| Some(r.memory.kernel)),
    gauge("container_memory_swap", "Container swap usage in bytes.", |r| Some(r.memory.swap)),
    counter("container_memory_failcnt", "Number of memory usage hits limits.", |r| Some(r.memory.limit_hits)),
    counters(
        "container_memory_failures_total",
        "Cumulative count of memory allocation failures.",
        &["failure_type", "scope"],
        failures,
    ),
    counter("container_oom_events_total", "Count of out of memory events observed for the container.", |r| {
        Some(r.memory.killed)
    }),
];

pub const DISK: [Known; 11] = [
    gauges("container_fs_usage_bytes", "Number of bytes that are consumed by the container.", DEVICE, |r| {
        of_disk(r, r.disk.used)
    }),
    gauges("container_fs_limit_bytes", "Number of bytes of the container's filesystem.", DEVICE, |r| {
        of_disk(r, r.disk.size)
    }),
    gauges("container_fs_inodes_total", "Number of inodes of the container's filesystem.", DEVICE, |r| {
        of_disk(r, r.disk.inodes)
    }),
    gauges("container_fs_inodes_free", "Number of available inodes of the container's filesystem.", DEVICE, |r| {
        of_disk(r, r.disk.free_inodes)
    }),
    counters("container_fs_reads_total", "Cumulative count of reads completed.", DEVICE, |r| {
        of_blocks(r, |block| block.reads)
    }),
    counters("container_fs_reads_bytes_total", "Cumulative count of bytes read.", DEVICE, |r| {
        of_blocks(r, |block| block.read_bytes)
    }),
    counters("container_fs_writes_total", "Cumulative count of writes completed.", DEVICE, |r| {
        of_blocks(r, |block| block.writes)
    }),
    counters("container_fs_writes_bytes_total", "Cumulative count of bytes written.", DEVICE, |r| {
        of_blocks(r, |block| block.written_bytes)
    }),
    counters(
        "container_blkio_device_usage_total",
        "Blkio device bytes usage.",
        &["device", "major", "minor", "operation"],
        blkio,
    ),
    gauges("container_hugetlb_usage_bytes", "Current hugepage usage in bytes.", PAGE_SIZE, |r| {
        r.huge_pages.iter().map(|huge| (vec![huge.size.clone()], huge.used)).collect()
    }),
    gauges("container_hugetlb_max_usage_bytes", "Maximum hugepage usage recorded in bytes.", PAGE_SIZE, |r| {
        r.huge_pages.iter().filter_map(|huge| Some((vec![huge.size.clone()], huge.most?))).collect()
    }),
];

pub const PROCESSES: [Known; 6] = [
    gauge("container_processes", "Number of processes running inside the container.", |r| Some(r.processes.count)),
    gauge("container_threads", "Number of threads running inside the container.", |r| Some(r.processes.threads)),
    gauge("container_threads_max", "Maximum number of threads allowed; zero is any number.", |r| {
        Some(r.processes.most_threads)
    }),
    gauge("container_file_descriptors", "Number of open file descriptors for the container.", |r| {
        Some(r.processes.descriptors)
    }),
    gauge("container_sockets", "Number of open sockets for the container.", |r| Some(r.processes.sockets)),
    gauges("container_ulimits_soft", "Soft ulimit values for the container's first process.", &["ulimit"], open_files),
];

pub const LIMITS: [Known; 8] = [
    gauge("container_spec_cpu_period", "CPU period of the container.", |r| Some(r.limits.cpu_period)),
    gauge("container_spec_cpu_quota", "CPU quota of the container.", |r| r.limits.cpu_quota),
    gauge("container_spec_cpu_shares", "CPU share of the container.", |r| Some(r.limits.cpu_shares)),
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container; zero is none.", |r| {
        Some(r.limits.memory)
    }),
    gauge("container_spec_memory_reservation_limit_bytes", "Memory reservation limit; zero is none.", |r| {
        Some(r.limits.memory_reservation)
    }),
    gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container; zero is none.", |r| {
        Some(r.limits.memory_and_swap)
    }),
    gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", |r| {
        seconds(r.started_at)
    }),
    gauge("container_last_seen", "Last time a container was seen by the exporter.", |r| seconds(r.seen_at)),
];

pub const PRESSURE: [Known; 6] = [
    counter("container_pressure_cpu_waiting_seconds_total", "Time tasks in the container waited for CPU.", |r| {
        seconds(r.pressure.cpu?.some)
    }),
    counter("container_pressure_cpu_stalled_seconds_total", "Time all tasks waited for CPU at once.", |r| {
        seconds(r.pressure.cpu?.full)
    }),
    counter("container_pressure_memory_waiting_seconds_total", "Time tasks in the container waited for memory.", |r| {
        seconds(r.pressure.memory?.some)
    }),
    counter("container_pressure_memory_stalled_seconds_total", "Time all tasks waited for memory at once.", |r| {
        seconds(r.pressure.memory?.full)
    }),
    counter("container_pressure_io_waiting_seconds_total", "Time tasks in the container waited for IO.", |r| {
        seconds(r.pressure.io?.some)
    }),
    counter("container_pressure_io_stalled_seconds_total", "Time all tasks waited for IO at once.", |r| {
        seconds(r.pressure.io?.full)
    }),
];

/// All of them.
pub fn known() -> impl Iterator<Item = &'static Known> {
    const ALL: [&[Known]; 6] = [&CPU, &MEMORY, &DISK, &PROCESSES, &LIMITS, &PRESSURE];
    ALL.into_iter().flatten()
}
