//! Memory of what runs because pods stand: proportional set sizes, from /proc.
//!
//! Must not know: pods. Processes that begin meanwhile for other reasons are counted too: the names tell.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::net::UnixStream;

/// Every process at one moment.
#[derive(Debug)]
pub struct Look(HashMap<u32, Process>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    /// The program's own name, of at most 15 letters.
    name: String,
    pss_kib: u64,
}

/// What came between two looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    pub pods: usize,
    /// Processes that were not there before, and the KiB of each program's, by its name.
    pub appeared: BTreeMap<String, (usize, u64)>,
    /// KiB that the runtime itself grew by; less than nothing where it gave back.
    pub server_kib: Option<i64>,
}

/// The process that serves a socket, where it can be seen from here.
pub async fn server(endpoint: &str) -> anyhow::Result<Option<u32>> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    let socket = UnixStream::connect(path).await.with_context(|| format!("connecting to {path}"))?;
    let peer = socket.peer_cred().with_context(|| format!("asking who serves {path}"))?;
    Ok(peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0))
}

impl Look {
    pub fn now() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Self(pids.filter_map(|pid| Some((pid, Process::read(pid)?))).collect())
    }

    /// What is here now and was not before.
    pub fn since(&self, before: &Self, server: Option<u32>, pods: usize) -> Growth {
        let mut appeared = BTreeMap::new();
        for process in self.0.iter().filter(|(pid, _)| !before.0.contains_key(pid)).map(|(_, process)| process) {
            let (number, kib) = appeared.entry(process.name.clone()).or_insert((0, 0));
            *number += 1;
            *kib += process.pss_kib;
        }
        let of_server = |look: &Self| Some(look.0.get(&server?)?.pss_kib.cast_signed());
        let server_kib = of_server(self).zip(of_server(before)).map(|(now, then)| now - then);
        Growth { pods, appeared, server_kib }
    }
}

impl Process {
    /// `None` of kernel threads and processes that are gone.
    fn read(pid: u32) -> Option<Self> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
        let pss_kib = pss_kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)?;
        Some(Self { name, pss_kib })
    }
}

fn pss_kib(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Growth {
    /// KiB of each pod: what appeared, and what the runtime grew by.
    pub fn per_pod_kib(&self) -> f64 {
        let appeared: u64 = self.appeared.values().map(|(_, kib)| kib).sum();
        (appeared as f64 + self.server_kib.unwrap_or_default() as f64) / self.pods.max(1) as f64
    }

    pub fn json(&self) -> Value {
        let one = |(name, (processes, kib)): (&String, &(usize, u64))| {
            (name.clone(), json!({ "processes": processes, "pssKiB": kib }))
        };
        let appeared: serde_json::Map<String, Value> = self.appeared.iter().map(one).collect();
        json!({ "pods": self.pods, "kibPerPod": self.per_pod_kib(), "appeared": appeared, "serverGrewKiB": self.server_kib })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(processes: &[(u32, &str, u64)]) -> Look {
        let process =
            |(pid, name, pss_kib): &(u32, &str, u64)| (*pid, Process { name: (*name).into(), pss_kib: *pss_kib });
        Look(processes.iter().map(process).collect())
    }

    #[test]
    fn a_pod_weighs_what_appeared_and_what_the_runtime_grew_by() {
        let before = look(&[(1, "init", 500), (2, "runtime", 1000)]);
        let now = look(&[(1, "init", 700), (2, "runtime", 1100), (3, "shim", 60), (4, "shim", 40), (5, "pause", 20)]);
        let growth = now.since(&before, Some(2), 2);
        assert_eq!(growth.appeared, [("pause".into(), (1, 20)), ("shim".into(), (2, 100))].into());
        assert_eq!(growth.server_kib, Some(100));
        assert_eq!(growth.per_pod_kib(), 110.0);
        assert_eq!(now.since(&before, None, 2).per_pod_kib(), 60.0);
    }

    #[test]
    fn the_proportional_size_is_read() {
        assert_eq!(pss_kib("55d0-7ffc ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:     812 kB\n"), Some(812));
        assert_eq!(pss_kib(""), None);
    }
}
