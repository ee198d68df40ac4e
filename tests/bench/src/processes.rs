//! The processes of a stack, their memory and their CPU time, from /proc.
//!
//! Must not know: which cluster they belong to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use regex::Regex;

/// What a stack consists of where nothing else is named: Pintle's programs and upstream's, by the program's own name.
pub const DEFAULT_MATCH: &str = r"^(\S*/)?(pintle|pintle-monitor|kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kube-proxy|etcd|containerd|containerd-shim\S*|pause)( |$)";

/// Which processes are meant.
pub struct Selection {
    pids: Vec<u32>,
    patterns: Vec<Regex>,
}

/// Memory of the processes that run one program.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    pub processes: usize,
    /// Their proportional set size, in KiB.
    pub pss_kib: u64,
}

impl Selection {
    /// # Errors
    /// A pattern is no regular expression.
    pub fn new(pids: &[u32], patterns: &[String]) -> anyhow::Result<Self> {
        let default = [DEFAULT_MATCH.to_owned()];
        let given = if pids.is_empty() && patterns.is_empty() { &default } else { patterns };
        let patterns = given.iter().map(|text| Regex::new(text)).collect::<Result<_, _>>()?;
        Ok(Self { pids: pids.to_vec(), patterns })
    }

    fn covers(&self, pid: u32, command_line: &str) -> bool {
        self.pids.contains(&pid) || self.patterns.iter().any(|pattern| pattern.is_match(command_line))
    }

    /// `(pid, program)` of each that runs now, this process excepted.
    fn find(&self) -> Vec<(u32, String)> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let named = pids.filter(|pid| *pid != std::process::id()).filter_map(|pid| Some((pid, command_line(pid)?)));
        let covered = named.filter(|(pid, line)| self.covers(*pid, line));
        covered.map(|(pid, line)| (pid, program(&line).to_owned())).collect()
    }

    /// Memory by program. Processes that end meanwhile are left out.
    pub fn memory(&self) -> BTreeMap<String, Program> {
        let mut programs = BTreeMap::new();
        for (pid, name) in self.find() {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let Some(pss) = pss_kib(&text) else { continue };
            let program = programs.entry(name).or_insert(Program { processes: 0, pss_kib: 0 });
            program.processes += 1;
            program.pss_kib += pss;
        }
        programs
    }

    /// CPU time each process has had, user and system, in milliseconds.
    pub fn cpu(&self) -> BTreeMap<u32, f64> {
        let tick = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
        let read = |pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let used = self.find().into_iter().filter_map(|(pid, _)| Some((pid, ticks(&read(pid)?)?)));
        used.map(|(pid, ticks)| (pid, ticks as f64 * 1000.0 / tick)).collect()
    }
}

/// CPU time in milliseconds between two looks: of the processes in both, and all that new ones have had.
pub fn cpu_between(before: &BTreeMap<u32, f64>, after: &BTreeMap<u32, f64>) -> f64 {
    after.iter().map(|(pid, used)| used - before.get(pid).copied().unwrap_or(0.0)).sum()
}

/// Arguments joined by blanks; `None` for kernel threads and processes that are gone.
fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
}

fn program(command_line: &str) -> &str {
    let path = command_line.split(' ').next().unwrap_or(command_line);
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

fn pss_kib(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of proc(5)'s stat, counted after the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    Some(user + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_takes_both_stacks_and_nothing_beside_them() {
        let stack = Selection::new(&[], &[]).unwrap();
        let taken =
            ["/usr/local/bin/pintle up", "kube-apiserver --etcd-servers=x", "/usr/bin/containerd-shim-runc-v2 -id"];
        assert!(taken.iter().all(|line| stack.covers(1, line)));
        let left = ["pintle-bench --only memory", "pintle-harness", "vi kubelet", "docker-registry serve"];
        assert!(!left.iter().any(|line| stack.covers(1, line)));
    }

    #[test]
    fn what_is_named_stands_in_for_the_default() {
        let stack = Selection::new(&[7], &["run/mine".to_owned()]).unwrap();
        assert!(stack.covers(7, "anything") && stack.covers(8, "containerd --config /run/mine/x"));
        assert!(!stack.covers(8, "containerd"));
    }

    #[test]
    fn proc_files_are_read() {
        assert_eq!(
            pss_kib("55d0-7ffc ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:     812 kB\nPss_Anon: 3 kB\n"),
            Some(812)
        );
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 100 200 0 0 31 11 5 6 20 0 1 0 100";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(program("/usr/bin/containerd --config x"), "containerd");
    }

    #[test]
    fn a_process_that_began_between_two_looks_counts_in_full() {
        let before = BTreeMap::from([(1, 100.0), (2, 50.0)]);
        let after = BTreeMap::from([(1, 130.0), (3, 5.0)]);
        assert_eq!(cpu_between(&before, &after), 35.0);
    }
}
