//! User stories against a real `pintle up`: real containers, a real kernel, driven by kubectl as a person would
//! and by kube-rs as a program would. One
//! cluster, in namespaces of its own, serves all stories, which run in order; each is reported by name.
//!
//! `E2E_ONLY=name,name cargo test --test e2e` runs a selection (the first and the last story always run).
//!
//! Must not know: Pintle's crates; it starts the program.

mod cluster;
mod hierarchies;
mod isolation;
mod stories;
mod traces;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Instant;

use cluster::Cluster;
use stories::{STORIES, Story};

/// What the stories need, and Debian's packages that have it.
const PROGRAMS: [(&str, &str); 12] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("docker-registry", "docker-registry"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("nginx", "nginx-light"),
    ("kdig", "knot-dnsutils"),
    ("script", "bsdutils"),
    ("unshare", "util-linux"),
    ("timeout", "coreutils"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    match arguments.get(1).map(String::as_str) {
        Some(isolation::INIT) => isolation::init(),
        Some(isolation::INSIDE) => inside(),
        Some(cluster::HEALTH) => health(),
        _ if asked("--list") => {
            if !asked("--ignored") {
                println!("stories: test");
            }
            ExitCode::SUCCESS
        }
        _ => match missing() {
            Some(problem) => {
                eprintln!("the end-to-end tests cannot run: {problem}");
                ExitCode::FAILURE
            }
            None => isolation::run(),
        },
    }
}

/// What runs in the image of that name.
fn health() -> ExitCode {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    let Err(error) = tokio.block_on(pintle_harness::health::serve(cluster::HEALTH_PORT));
    eprintln!("{error:#}");
    ExitCode::FAILURE
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("they need root: run them with sudo".into());
    }
    let packages: Vec<&str> =
        PROGRAMS.iter().filter(|(name, _)| !is_there(name)).map(|(_, package)| *package).collect();
    (!packages.is_empty()).then(|| format!("apt-get install {}", packages.join(" ")))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(usual).any(|dir| dir.join(program).is_file())
}

/// Runs the stories; we are in namespaces of our own now.
fn inside() -> ExitCode {
    let kubectl = is_there("kubectl");
    let only: Option<Vec<String>> = std::env::var("E2E_ONLY").ok().map(|it| it.split(',').map(str::to_owned).collect());
    let mut cluster = Cluster::prepare();
    let mut failed = Vec::new();
    for story in STORIES {
        let chosen = story.always || only.as_ref().is_none_or(|names| names.iter().any(|name| name == story.name));
        if !chosen {
            continue;
        }
        if story.kubectl && !kubectl {
            println!("SKIPPED {}: kubectl is not on this machine", story.name);
        } else if !tell(story, &mut cluster) {
            failed.push(story.name);
        }
    }
    if !kubectl {
        println!(
            "\nWARNING: most stories were SKIPPED, for they need kubectl (1.35 to 1.37; Debian has no package of it)"
        );
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nfailed: {}; Pintle's log: {}", failed.join(", "), cluster.keep_log().display());
    ExitCode::FAILURE
}

fn tell(story: &Story, cluster: &mut Cluster) -> bool {
    let started = Instant::now();
    let told = catch_unwind(AssertUnwindSafe(|| (story.tell)(cluster))).is_ok();
    let outcome = if told { "ok" } else { "FAILED" };
    println!("{outcome:>6} {} ({:.1} s)", story.name, started.elapsed().as_secs_f32());
    if !told {
        cluster.look_around();
    }
    told
}

/// The command through a shell, so that stories read as what a person types. Bounded, for nothing may hang.
fn shell(line: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "90", "sh", "-euc", line]);
    command
}
