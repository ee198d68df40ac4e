//! What a cluster could leave on a machine: links, routes, packet rules, mounts, cgroups, files, settings, processes.
//!
//! Must not know: who leaves them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Every trace, a line each, such as `link pintle0` or `mount /var/lib/kubelet/...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    pub fn look() -> Self {
        let mut lines = BTreeSet::new();
        lines.extend(answer("ip -brief link").map(|line| format!("link {}", first_word(&line))));
        lines.extend(answer("ip -brief address").map(|line| format!("address {line}")));
        lines.extend(answer("ip route show table all").map(|line| format!("route {line}")));
        lines.extend(answer("ip rule").map(|line| format!("rule {line}")));
        lines.extend(answer("nft list ruleset").map(|line| format!("nft {line}")));
        lines.extend(mounts());
        for root in ["/run", "/var/lib", "/var/log", "/etc"] {
            walk(Path::new(root), &mut |path| lines.extend([format!("file {}", path.display())]));
        }
        walk(Path::new("/sys/fs/cgroup"), &mut |path| {
            if path.is_dir() {
                lines.insert(format!("cgroup {}", path.display()));
            }
        });
        lines.extend(settings());
        lines.extend(processes());
        Self(lines)
    }

    /// What is there now and was not before, and the other way round.
    pub fn since(&self, before: &Self) -> Vec<String> {
        let more = self.0.difference(&before.0).map(|line| format!("+ {line}"));
        more.chain(before.0.difference(&self.0).map(|line| format!("- {line}"))).collect()
    }
}

fn answer(line: &str) -> impl Iterator<Item = String> {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect("a program that tests need");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().into_iter()
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| format!("mount {point}")).collect()
}

/// The kernel's settings for the network, but counters and what belongs to a link.
fn settings() -> Vec<String> {
    let mut lines = Vec::new();
    walk(Path::new("/proc/sys/net"), &mut |path| {
        let shown = path.display().to_string();
        let varies = shown.ends_with("_count") || shown.contains("/neigh/") || shown.contains("/conf/pintle");
        if !varies && let Ok(value) = fs::read_to_string(path) {
            lines.push(format!("setting {shown} = {}", value.trim()));
        }
    });
    lines
}

/// Every process but ourselves and what runs on our behalf right now.
fn processes() -> Vec<String> {
    let ours = std::process::id().to_string();
    let numbered = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = numbered.filter_map(|it| it.file_name().into_string().ok()).filter(|it| it.parse::<u32>().is_ok());
    let command = |pid: String| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
        (pid != ours && !line.is_empty()).then(|| format!("process {}", line.trim()))
    };
    pids.filter_map(command).collect()
}

/// Everything below a folder, without following links.
fn walk(dir: &Path, seen: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        seen(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), seen);
        }
    }
}
