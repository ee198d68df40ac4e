//! The CRI conformance suite, whole, against every runtime of ours and against containerd itself, as authors would run it.
//!
//! Must not know: what the suite demands.

use std::path::Path;
use std::process::{Command, Stdio};

use futures::FutureExt as _;
use serde_json::Value;

use super::Story;
use crate::isolation::SCRATCH;
use crate::node::{Node, SOCKET, pintle};
use crate::others::Other;

pub const STORIES: &[(&str, Story)] = &[
    ("the_conformance_suite_passes_and_leaves_nothing", |node| embedded(node).boxed_local()),
    ("a_part_of_the_suite_is_run_and_reported", |_| part().boxed_local()),
    ("it_passes_with_runc_in_place_of_the_launcher", |_| with_runc().boxed_local()),
    ("it_passes_with_crun_in_place_of_the_launcher", |_| with_crun().boxed_local()),
    ("it_passes_on_containerd", |_| on_containerd().boxed_local()),
    ("it_passes_on_a_containerd_whose_cri_is_off", |node| on_native_containerd(node).boxed_local()),
];

/// What a kernel or a machine may lack; everything else our runtimes must be able to show.
const MAY_LACK: &[&str] = &[
    "runtime/checkpoint",
    "runtime/checkpoint-of-what-runs",
    "resources/swap",
    "resources/unified",
    "security/apparmor",
    "security/apparmor-denies",
    "security/apparmor-exec",
    "security/apparmor-implied",
    "security/apparmor-localhost",
    "security/apparmor-missing",
    "security/selinux",
    "security/selinux-denies",
    "security/selinux-pod",
    "security/selinux-privileged",
    "security/selinux-relabel",
];

/// What needs a cgroup controller beyond those without which no runtime of ours starts: skipped where the machine lacks it,
/// and nowhere else.
const NEED: &[(&str, &str)] =
    &[("resources/cpuset", "cpuset"), ("resources/update-cpuset", "cpuset"), ("resources/huge-pages", "hugetlb")];

/// Runs the suite; what it says of each test.
fn suite(socket: &Path, arguments: &[&str]) -> Vec<Value> {
    let report = Path::new(SCRATCH).join("conformance.json");
    let run = Command::new(pintle())
        .args(["runtime-conformance", "--runtime-endpoint", &format!("unix://{}", socket.display()), "--report-json"])
        .arg(&report)
        .args(arguments)
        .output()
        .expect("the suite");
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
    println!("       {}", told.lines().last().unwrap_or_default());
    let report: Value = serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("JSON");
    report["tests"].as_array().expect("tests").clone()
}

fn names(tests: &[Value], outcome: &str) -> Vec<String> {
    let such = tests.iter().filter(|one| one["outcome"] == outcome);
    such.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

async fn embedded(node: &mut Node) {
    let tests = suite(Path::new(SOCKET), &[]);
    assert!(tests.len() > 200, "{} tests", tests.len());
    lacks_little(&tests);
    let none = pintle_cri::v1::ListPodSandboxRequest { filter: None };
    let left = node.cri().list_pod_sandbox(none).await.expect("a list").into_inner().items;
    assert!(left.iter().all(|one| !one.labels.contains_key("pintle-conformance")), "{left:?}");
}

async fn part() {
    let report = Path::new(SCRATCH).join("conformance.xml");
    let file = report.display().to_string();
    let tests = suite(Path::new(SOCKET), &["--focus", "^log/", "--skip", "long", "--report-junit", &file]);
    assert!(tests.iter().all(|one| one["name"].as_str().expect("a name").starts_with("log/")), "{tests:?}");
    let xml = std::fs::read_to_string(report).expect("a report");
    assert!(xml.contains("name=\"log/format\"") && !xml.contains("name=\"log/long-lines\""), "{xml}");
}

async fn with_runc() {
    let other = Other::with("runc").await;
    passes(&other.socket, &[]);
}

/// Faults of crun 1.8 itself: its exec leaves the OOM score as it is, and it writes v1's quota of -1 without its sign.
const CRUN: &str = "^resources/(oom-score|update-cpu)$";

async fn with_crun() {
    if !crun_can_start() {
        println!("       left out: crun 1.8 starts nothing where it may not raise RLIMIT_MEMLOCK (CAP_SYS_RESOURCE)");
        return;
    }
    let other = Other::with("crun").await;
    passes(&other.socket, &["--skip", CRUN]);
}

/// Under cgroup v2, crun 1.8 lifts the limit on locked memory before it loads its device program, and gives up where it
/// may not, whether the kernel counts that memory or not.
fn crun_can_start() -> bool {
    let lifted = || Command::new("sh").args(["-c", "ulimit -l unlimited"]).stderr(Stdio::null()).status();
    !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() || lifted().expect("a shell").success()
}

/// On a busy machine the end of a long log was not there yet when containerd 1.6 told that its container had ended.
const CONTAINERD: &str = "^log/much$";

async fn on_containerd() {
    let other = Other::containerd().await;
    passes(&other.socket, &["--skip", CONTAINERD]);
}

async fn on_native_containerd(node: &Node) {
    let other = Other::native_containerd().await;
    lacks_little(&suite(&other.socket, &[]));
    // a pod's monitor ends with the pod, though starts that were given up were under way while it was removed
    let of_its_pods = format!("{}/native/state/sandboxes/", SCRATCH);
    node.until("no monitor is left", async || !commands().any(|line| line.contains(&of_its_pods))).await;
}

/// The command line of every process.
fn commands() -> impl Iterator<Item = String> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
}

fn lacks_little(tests: &[Value]) {
    let skipped = names(tests, "skipped");
    let lacking: Vec<_> = NEED.iter().filter(|(_, controller)| !has(controller)).map(|(name, _)| *name).collect();
    let may = |name: &&String| MAY_LACK.contains(&name.as_str()) || lacking.contains(&name.as_str());
    let others: Vec<_> = skipped.iter().filter(|name| !may(name)).collect();
    assert!(others.is_empty(), "skipped: {others:?}");
    assert!(lacking.iter().all(|name| !names(tests, "passed").iter().any(|passed| passed == name)), "{lacking:?}");
}

/// Whether the machine's cgroups have this controller: those of v2, or v1's of that name.
fn has(controller: &str) -> bool {
    let root = Path::new("/sys/fs/cgroup");
    let listed = std::fs::read_to_string(root.join("cgroup.controllers"));
    listed.map_or_else(|_| root.join(controller).exists(), |all| all.split_whitespace().any(|one| one == controller))
}

fn passes(socket: &Path, arguments: &[&str]) {
    let passed = names(&suite(socket, arguments), "passed").len();
    assert!(passed > 150, "only {passed} passed");
}
