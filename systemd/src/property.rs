//! Properties of units, and which of them stand for which file of a cgroup of v2. Pure.
//!
//! Source: org.freedesktop.systemd1(5), systemd.resource-control(5); what runc's systemd driver sets.
//! Must not know: which unit has them.

use crate::wire::Writer;

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
            Value::U32s(values) => to.array(4, |to| values.iter().for_each(|value| to.u32(*value))),
            Value::Bytes(value) => to.array(1, |to| to.bytes(value)),
        }
    }
}

/// The properties that a value of a cgroup's file amounts to, so that systemd does not take it back when it next writes
/// the file; none where systemd does not manage the file, or the value is none it can hold.
///
/// systemd keeps quotas as hundredths of a CPU and rounds up, as runc does: `cpu.max` may then show a little more.
pub fn from_cgroup_file(file: &str, value: &str) -> Vec<Property> {
    let value = value.trim();
    let one = |name: &'static str| limit(value).map(|limit| Property::new(name, Value::U64(limit)));
    let mask = |name: &'static str| bits(value).map(|bits| Property::new(name, Value::Bytes(bits)));
    match file {
        "cpu.max" => return quota(value).unwrap_or_default(),
        "cpu.weight" => one("CPUWeight"),
        // since systemd 252: the weight that stands for idle
        "cpu.idle" => (value == "1").then(|| Property::new("CPUWeight", Value::U64(0))),
        "cpuset.cpus" => mask("AllowedCPUs"),
        "cpuset.mems" => mask("AllowedMemoryNodes"),
        "io.weight" => one("IOWeight"),
        "memory.high" => one("MemoryHigh"),
        "memory.low" => one("MemoryLow"),
        "memory.max" => one("MemoryMax"),
        "memory.min" => one("MemoryMin"),
        "memory.swap.max" => one("MemorySwapMax"),
        // systemd takes no 0 here
        "pids.max" => limit(value).map(|limit| Property::new("TasksMax", Value::U64(limit.max(1)))),
        _ => None,
    }
    .into_iter()
    .collect()
}

fn limit(value: &str) -> Option<u64> {
    if value == "max" { Some(u64::MAX) } else { value.parse().ok() }
}

/// `QUOTA PERIOD` in microseconds; the quota may be `max`.
fn quota(value: &str) -> Option<Vec<Property>> {
    const HUNDREDTH: u64 = 10_000;
    let mut words = value.split_whitespace();
    let quota = limit(words.next()?)?;
    let period: u64 = words.next().map_or(Some(100_000), |word| word.parse().ok())?;
    let per_second = match quota {
        u64::MAX => u64::MAX,
        quota => quota.checked_mul(1_000_000)?.checked_div(period)?.checked_next_multiple_of(HUNDREDTH)?,
    };
    let property = |name, value| Property::new(name, Value::U64(value));
    Some(vec![property("CPUQuotaPeriodUSec", period), property("CPUQuotaPerSecUSec", per_second)])
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
        let all = from_cgroup_file(file, value);
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
    fn quotas_are_rounded_up_to_hundredths_of_a_cpu() {
        let quota = |value| shown("cpu.max", value);
        assert_eq!(quota("50000 100000"), "CPUQuotaPeriodUSec=U64(100000);CPUQuotaPerSecUSec=U64(500000);");
        assert_eq!(quota("1001 100000"), "CPUQuotaPeriodUSec=U64(100000);CPUQuotaPerSecUSec=U64(20000);");
        assert_eq!(quota("max 5000"), format!("CPUQuotaPeriodUSec=U64(5000);CPUQuotaPerSecUSec=U64({});", u64::MAX));
        assert_eq!((quota("1 0"), quota(""), quota("-1 100000")), (String::new(), String::new(), String::new()));
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
