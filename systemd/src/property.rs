//! Properties of units, and which of them stand for which file of a cgroup. Pure.
//!
//! Source: org.freedesktop.systemd1(5), systemd.resource-control(5); what runc's systemd driver sets.
//! Must not know: which unit has them.

use crate::wire::Writer;

const PERIOD: &str = "CPUQuotaPeriodUSec";
/// The kernel's, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
/// In microseconds.
const SECOND: u64 = 1_000_000;

/// One property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub name: &'static str,
    pub value: Value,
}

/// The types that properties here have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    /// `u64::MAX` is systemd's infinity.
    U64(u64),
    Text(String),
    Texts(Vec<String>),
    Pairs(Vec<(String, String)>),
    U32s(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Property {
    pub fn new(name: &'static str, value: Value) -> Self {
        Self { name, value }
    }

    /// As `(sv)`.
    pub(crate) fn write(&self, to: &mut Writer) {
        to.align(8);
        to.text(self.name);
        to.signature(self.value.signature());
        self.value.write(to);
    }
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::U64(_) => "t",
            Value::Text(_) => "s",
            Value::Texts(_) => "as",
            Value::Pairs(_) => "a(ss)",
            Value::U32s(_) => "au",
            Value::Bytes(_) => "ay",
        }
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Value::Bool(value) => to.bool(*value),
            Value::U64(value) => to.u64(*value),
            Value::Text(value) => to.text(value),
            Value::Texts(values) => to.array(4, |to| values.iter().for_each(|value| to.text(value))),
            Value::Pairs(values) => to.array(8, |to| values.iter().for_each(|value| pair(to, value))),
            Value::U32s(values) => to.array(4, |to| values.iter().for_each(|value| to.u32(*value))),
            Value::Bytes(value) => to.array(1, |to| to.bytes(value)),
        }
    }
}

fn pair(to: &mut Writer, (first, second): &(String, String)) {
    to.align(8);
    to.text(first);
    to.text(second);
}

/// The properties that values of a cgroup's files amount to, so that systemd does not take them back when it next writes
/// the files; none for a file that systemd does not manage, or a value that it cannot hold. The last value of a file wins,
/// as it does in the file.
///
/// systemd keeps quotas as hundredths of a CPU: [`round_quotas`].
pub fn from_cgroup_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Property> {
    let mut all: Vec<Property> = Vec::new();
    let (mut quota_v1, mut period_v1) = (None, None);
    for (file, value) in files {
        match file {
            "cpu.cfs_quota_us" => quota_v1 = Some(value.trim()),
            "cpu.cfs_period_us" => period_v1 = Some(value.trim()),
            _ => {}
        }
        for property in from_cgroup_file(file, value.trim()) {
            all.retain(|other| other.name != property.name);
            all.push(property);
        }
    }
    all.extend(bandwidth(quota_v1, period_v1));
    all
}

/// Rounds quotas up to what systemd holds and writes: hundredths of a CPU. As runc does, so that a reload changes nothing.
pub fn round_quotas<'a>(files: impl IntoIterator<Item = (&'a str, &'a mut String)>) {
    let (mut quota_v1, mut period_v1) = (None, DEFAULT_PERIOD);
    for (file, value) in files {
        match file {
            "cpu.cfs_quota_us" => quota_v1 = Some(value),
            "cpu.cfs_period_us" => period_v1 = number(value.trim()).unwrap_or(DEFAULT_PERIOD),
            "cpu.max" => {
                if let Some((quota, period)) = parts(value).filter(|(quota, _)| *quota != u64::MAX) {
                    *value = format!("{} {period}", rounded(quota, period).unwrap_or(quota));
                }
            }
            _ => {}
        }
    }
    if let Some(value) = quota_v1
        && let Some(more) = number(value.trim()).and_then(|quota| rounded(quota, period_v1))
    {
        *value = more.to_string();
    }
}

/// What v1 has two files for: where only one is written, the other keeps what it has.
fn bandwidth(quota_v1: Option<&str>, period_v1: Option<&str>) -> Vec<Property> {
    let allowed = quota_v1.map_or("max", |quota| if quota.starts_with('-') { "max" } else { quota });
    let mut all = quota(&format!("{allowed} {}", period_v1.unwrap_or_default())).unwrap_or_default();
    all.retain(|one| if one.name == PERIOD { period_v1.is_some() } else { quota_v1.is_some() });
    all
}

fn from_cgroup_file(file: &str, value: &str) -> Vec<Property> {
    let one = |name: &'static str| limit(value).map(u64_of(name));
    let mask = |name: &'static str| bits(value).map(|bits| Property::new(name, Value::Bytes(bits)));
    match file {
        "cpu.max" => return quota(value).unwrap_or_default(),
        // systemd takes no weight and no shares out of these bounds
        "blkio.weight" => number(value).filter(|weight| (10..=1000).contains(weight)).map(u64_of("BlockIOWeight")),
        "cpu.shares" => number(value).map(|shares| shares.clamp(2, 262_144)).map(u64_of("CPUShares")),
        "cpu.weight" => one("CPUWeight"),
        // since systemd 252: the weight that stands for idle
        "cpu.idle" => (value == "1").then(|| Property::new("CPUWeight", Value::U64(0))),
        "cpuset.cpus" => mask("AllowedCPUs"),
        "cpuset.mems" => mask("AllowedMemoryNodes"),
        "io.weight" => one("IOWeight"),
        "memory.high" => one("MemoryHigh"),
        "memory.limit_in_bytes" if value.starts_with('-') => Some(u64_of("MemoryLimit")(u64::MAX)),
        "memory.limit_in_bytes" => number(value).map(u64_of("MemoryLimit")),
        "memory.low" => one("MemoryLow"),
        "memory.max" => one("MemoryMax"),
        "memory.min" => one("MemoryMin"),
        "memory.swap.max" => one("MemorySwapMax"),
        // systemd takes no 0 here
        "pids.max" => limit(value).map(|limit| limit.max(1)).map(u64_of("TasksMax")),
        _ => None,
    }
    .into_iter()
    .collect()
}

fn number(value: &str) -> Option<u64> {
    value.parse().ok()
}

fn u64_of(name: &'static str) -> impl Fn(u64) -> Property {
    move |value| Property::new(name, Value::U64(value))
}

fn limit(value: &str) -> Option<u64> {
    if value == "max" { Some(u64::MAX) } else { number(value) }
}

/// `QUOTA PERIOD` in microseconds; the quota may be `max`, the period its default.
fn parts(value: &str) -> Option<(u64, u64)> {
    let mut words = value.split_whitespace();
    let quota = limit(words.next()?)?;
    Some((quota, words.next().map_or(Some(DEFAULT_PERIOD), number)?))
}

/// Microseconds of CPU in a second, in whole hundredths.
fn per_second(quota: u64, period: u64) -> Option<u64> {
    const HUNDREDTH: u64 = 10_000;
    quota.checked_mul(SECOND)?.checked_div(period)?.checked_next_multiple_of(HUNDREDTH)
}

/// The quota that systemd makes of that.
fn rounded(quota: u64, period: u64) -> Option<u64> {
    Some(per_second(quota, period)?.checked_mul(period)? / SECOND)
}

fn quota(value: &str) -> Option<Vec<Property>> {
    let (quota, period) = parts(value)?;
    let per_second = if quota == u64::MAX { quota } else { per_second(quota, period)? };
    Some(vec![u64_of(PERIOD)(period), u64_of("CPUQuotaPerSecUSec")(per_second)])
}

/// `0-2,7` as bits, the lowest first.
fn bits(list: &str) -> Option<Vec<u8>> {
    const MOST: usize = 8192;
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<usize>().ok()?, to.parse::<usize>().ok()?);
        if from > to || to >= MOST {
            return None;
        }
        bits.resize(bits.len().max(to / 8 + 1), 0_u8);
        for number in from..=to {
            *bits.get_mut(number / 8)? |= 1 << (number % 8);
        }
    }
    Some(bits).filter(|bits| !bits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &str, value: &str) -> String {
        of(&[(file, value)])
    }

    fn of(files: &[(&str, &str)]) -> String {
        let all = from_cgroup_files(files.iter().copied());
        all.iter().map(|one| format!("{}={:?};", one.name, one.value)).collect()
    }

    #[test]
    fn files_that_systemd_manages_are_its_properties() {
        assert_eq!(shown("memory.max", "1048576"), "MemoryMax=U64(1048576);");
        assert_eq!(shown("pids.max", "0"), "TasksMax=U64(1);");
        assert_eq!(shown("memory.swap.max", "max"), format!("MemorySwapMax=U64({});", u64::MAX));
        assert_eq!(shown("cpu.idle", "1"), "CPUWeight=U64(0);");
        for (file, value) in
            [("memory.oom.group", "1"), ("hugetlb.2MB.max", "0"), ("cpu.idle", "0"), ("cpu.weight", "x")]
        {
            assert_eq!(shown(file, value), "", "{file} {value}");
        }
    }

    #[test]
    fn files_of_v1_are_its_older_properties() {
        assert_eq!(shown("memory.limit_in_bytes", "4096"), "MemoryLimit=U64(4096);");
        assert_eq!(shown("memory.limit_in_bytes", "-1"), format!("MemoryLimit=U64({});", u64::MAX));
        assert_eq!(
            (shown("cpu.shares", "512"), shown("cpu.shares", "1")),
            ("CPUShares=U64(512);".into(), "CPUShares=U64(2);".into())
        );
        assert_eq!(
            (shown("blkio.weight", "500").as_str(), shown("blkio.weight", "5").as_str()),
            ("BlockIOWeight=U64(500);", "")
        );
        for file in [
            "memory.memsw.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "hugetlb.2MB.limit_in_bytes",
            "net_cls.classid",
        ] {
            assert_eq!(shown(file, "1"), "", "{file}");
        }
    }

    #[test]
    fn quota_and_period_of_v1_are_two_files_and_go_together() {
        let (quota, period) = (("cpu.cfs_quota_us", "25001"), ("cpu.cfs_period_us", "50000"));
        assert_eq!(of(&[period, quota]), "CPUQuotaPeriodUSec=U64(50000);CPUQuotaPerSecUSec=U64(510000);");
        assert_eq!(of(&[quota]), "CPUQuotaPerSecUSec=U64(260000);");
        assert_eq!(of(&[period]), "CPUQuotaPeriodUSec=U64(50000);");
        assert_eq!(of(&[("cpu.cfs_quota_us", "-1")]), format!("CPUQuotaPerSecUSec=U64({});", u64::MAX));
        assert_eq!(of(&[("cpu.cfs_quota_us", "x")]), "");
    }

    #[test]
    fn a_property_is_given_once() {
        let both = [("memory.max", "4096"), ("memory.oom.group", "1"), ("memory.max", "8192")];
        assert_eq!(of(&both), "MemoryMax=U64(8192);");
    }

    #[test]
    fn quotas_are_rounded_up_to_hundredths_of_a_cpu() {
        let quota = |value| shown("cpu.max", value);
        assert_eq!(quota("50000 100000"), "CPUQuotaPeriodUSec=U64(100000);CPUQuotaPerSecUSec=U64(500000);");
        assert_eq!(quota("1001 100000"), "CPUQuotaPeriodUSec=U64(100000);CPUQuotaPerSecUSec=U64(20000);");
        assert_eq!(quota("max 5000"), format!("CPUQuotaPeriodUSec=U64(5000);CPUQuotaPerSecUSec=U64({});", u64::MAX));
        assert_eq!((quota("1 0"), quota(""), quota("-1 100000")), (String::new(), String::new(), String::new()));
    }

    #[test]
    fn files_get_the_quota_that_systemd_holds() {
        let rounded = |files: &[(&'static str, &str)]| {
            let mut files: Vec<(&str, String)> =
                files.iter().map(|(file, value)| (*file, (*value).to_owned())).collect();
            round_quotas(files.iter_mut().map(|(file, value)| (*file, value)));
            files.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(";")
        };
        assert_eq!(rounded(&[("cpu.max", "12500 100000"), ("memory.max", "12345")]), "13000 100000;12345");
        assert_eq!(rounded(&[("cpu.max", "12500")]), "13000 100000");
        for same in ["max 100000", "50000 100000", "x"] {
            assert_eq!(rounded(&[("cpu.max", same)]), same);
        }
        assert_eq!(rounded(&[("cpu.cfs_quota_us", "12500"), ("cpu.cfs_period_us", "50000")]), "12500;50000");
        assert_eq!(rounded(&[("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "12501")]), "50000;13000");
        assert_eq!(rounded(&[("cpu.cfs_quota_us", "-1")]), "-1");
    }

    #[test]
    fn cpus_are_bits() {
        let of = |list| bits(list);
        assert_eq!(of("0-2,7"), Some(vec![0b1000_0111]));
        assert_eq!(of("8, 1"), Some(vec![2, 1]));
        for bad in ["", "2-1", "a", "99999"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
