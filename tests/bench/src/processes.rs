//! The processes of a stack, their memory and their CPU time, from /proc.
//!
//! Must not know: which cluster they belong to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use regex::Regex;

/// What a stack consists of where nothing else is named: Pintle's programs and upstream's, by the program's own name.
pub const DEFAULT_MATCH: &str = r"^(\S*/)?(pintle|pintle-monitor|kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kube-proxy|etcd|containerd|containerd-shim\S*|pause)( |$)";

/// Which processes are meant.
#[derive(Clone)]
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

    /// Each process of the stack that runs now, this one excepted.
    fn find(&self) -> Vec<Process> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let all: Vec<Process> = pids.filter(|pid| *pid != std::process::id()).filter_map(Process::read).collect();
        let matching: Vec<&Process> =
            all.iter().filter(|process| self.covers(process.pid, &process.command_line)).collect();
        let wanted = |process: &&&Process| self.pids.contains(&process.pid) || !process.wraps(&matching);
        matching.iter().filter(wanted).map(|process| (*process).clone()).collect()
    }

    /// Memory by program. Processes that end meanwhile are left out.
    pub fn memory(&self) -> BTreeMap<String, Program> {
        let mut programs = BTreeMap::new();
        for Process { pid, command_line, .. } in self.find() {
            let name = program(&command_line).to_owned();
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let Some(pss) = pss_kib(&text) else { continue };
            let program = programs.entry(name).or_insert(Program { processes: 0, pss_kib: 0 });
            program.processes += 1;
            program.pss_kib += pss;
        }
        programs
    }
}

/// One process as /proc tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// When it began, in ticks since the machine did: with the pid, what tells it from all others.
    began: u64,
    /// CPU time that it and the children whose end it has seen have had, in ticks.
    used: u64,
    /// Arguments joined by blanks.
    command_line: String,
}

impl Process {
    /// `None` for kernel threads and processes that are gone.
    fn read(pid: u32) -> Option<Self> {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        let command_line = Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())?;
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, command_line)
    }

    /// Fields 4, 14 to 17 and 22 of proc(5)'s stat, counted after the name, which may hold anything.
    fn parse(pid: u32, stat: &str, command_line: String) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let used = number(14)? + number(15)? + number(16)? + number(17)?;
        Some(Self { pid, parent: number(4)?.try_into().ok()?, began: number(22)?, used, command_line })
    }

    /// Whether it only started another of these: a shell, `timeout`, `unshare`, with the other's command line at the end
    /// of its own.
    fn wraps(&self, others: &[&Self]) -> bool {
        let started = |other: &&&Self| other.parent == self.pid && other.command_line != self.command_line;
        others.iter().filter(started).any(|other| self.command_line.ends_with(&other.command_line))
    }
}

/// CPU time of a stack over a while, processes that end meanwhile included.
///
/// What a process has had goes to its parent when the parent sees its end; where that parent is none of the stack, the
/// last look at it stands, so looks are taken now and then.
pub struct Meter {
    stop: std::sync::mpsc::Sender<()>,
    looking: std::thread::JoinHandle<f64>,
}

/// How often processes are looked at: what one without a parent in the stack uses between its last look and its end is
/// not seen.
const LOOK: Duration = Duration::from_millis(500);

impl Meter {
    pub fn begin(stack: &Selection) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let stack = stack.clone();
        let mut used = Used::new(stack.find());
        let looking = std::thread::spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                used.look(stack.find());
            }
            used.look(stack.find());
            used.ticks() as f64
        });
        Self { stop, looking }
    }

    /// Milliseconds since the beginning.
    pub fn end(self) -> f64 {
        let tick = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
        drop(self.stop);
        self.looking.join().unwrap_or_default() * 1000.0 / tick
    }
}

/// The sum behind a [`Meter`], in ticks.
struct Used {
    at_first: u64,
    last: Vec<Process>,
    /// Of processes that ended and left their time to nobody here.
    lost: u64,
}

impl Used {
    fn new(first: Vec<Process>) -> Self {
        Self { at_first: first.iter().map(|process| process.used).sum(), last: first, lost: 0 }
    }

    fn look(&mut self, now: Vec<Process>) {
        let same = |one: &Process, other: &Process| (one.pid, one.began) == (other.pid, other.began);
        for gone in self.last.iter().filter(|known| !now.iter().any(|process| same(known, process))) {
            if !now.iter().any(|process| process.pid == gone.parent) {
                self.lost += gone.used;
            }
        }
        self.last = now;
    }

    fn ticks(&self) -> u64 {
        let now: u64 = self.last.iter().map(|process| process.used).sum();
        (now + self.lost).saturating_sub(self.at_first)
    }
}

fn program(command_line: &str) -> &str {
    let path = command_line.split(' ').next().unwrap_or(command_line);
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

fn pss_kib(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
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
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 100 200 0 0 31 11 5 6 20 0 1 0 700 0";
        let read = Process::parse(12, stat, "a".into()).unwrap();
        assert_eq!((read.parent, read.began, read.used), (1, 700, 53));
        assert_eq!(program("/usr/bin/containerd --config x"), "containerd");
    }

    fn process(pid: u32, parent: u32, used: u64, command_line: &str) -> Process {
        Process { pid, parent, began: u64::from(pid), used, command_line: command_line.into() }
    }

    #[test]
    fn what_only_starts_the_stack_is_none_of_it() {
        let wrapper = process(1, 0, 0, "timeout 60 pintle up");
        let shell = process(2, 1, 0, "sh -c pintle up");
        let (pintle, worker) = (process(3, 2, 0, "pintle up"), process(4, 3, 0, "pintle up"));
        let all = [&wrapper, &shell, &pintle, &worker];
        assert!(shell.wraps(&all) && !pintle.wraps(&all) && !worker.wraps(&all));
        assert!(process(1, 0, 0, "timeout 60 pintle up").wraps(&[&process(3, 1, 0, "pintle up")]));
    }

    #[test]
    fn a_process_that_ends_keeps_its_time_in_the_sum() {
        let mut used = Used::new(vec![process(1, 0, 100, "a"), process(2, 1, 50, "b"), process(3, 9, 70, "c")]);
        used.look(vec![process(1, 0, 110, "a"), process(2, 1, 60, "b"), process(3, 9, 80, "c"), process(4, 1, 5, "d")]);
        assert_eq!(used.ticks(), 10 + 10 + 10 + 5);
        // 2 and 4 were waited for by 1; nobody here waited for 3
        used.look(vec![process(1, 0, 110 + 60 + 7, "a")]);
        assert_eq!(used.ticks(), 10 + 10 + 10 + 7);
    }
}
