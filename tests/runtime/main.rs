//! Stories of `pintle runtime`, told over its socket as a kubelet would: real containers, a real kernel. They run in order,
//! in namespaces of their own; each is reported by name.
//!
//! `RUNTIME_ONLY=name,name cargo test --test runtime` runs a selection.
//!
//! Must not know: Pintle's crates but the CRI client; it starts the program.

mod census;
mod dice;
#[path = "../e2e/hierarchies.rs"]
mod hierarchies;
#[path = "../e2e/isolation.rs"]
mod isolation;
mod lives;
mod node;
mod others;
mod pods;
mod stories;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use futures::FutureExt as _;
use node::Node;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    match arguments.get(1).map(String::as_str) {
        Some(isolation::INIT) => isolation::init(),
        Some(isolation::INSIDE) => inside(),
        _ if asked("--list") => {
            if !asked("--ignored") {
                println!("stories: test");
            }
            ExitCode::SUCCESS
        }
        _ if !nix::unistd::geteuid().is_root() => {
            eprintln!("the runtime's tests need root: run them with sudo");
            ExitCode::FAILURE
        }
        _ => isolation::run(),
    }
}

/// Runs the stories; we are in namespaces of our own now.
fn inside() -> ExitCode {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio");
    let only: Option<Vec<String>> =
        std::env::var("RUNTIME_ONLY").ok().map(|it| it.split(',').map(str::to_owned).collect());
    let failed = tokio.block_on(async {
        let mut node = Node::prepare().await;
        let mut failed = Vec::new();
        for (name, story) in stories::all() {
            if only.as_ref().is_none_or(|names| names.iter().any(|chosen| chosen == name)) {
                let started = Instant::now();
                let told = AssertUnwindSafe(story(&mut node)).catch_unwind().await.is_ok();
                let outcome = if told { "ok" } else { "FAILED" };
                println!("{outcome:>6} {name} ({:.1} s)", started.elapsed().as_secs_f32());
                failed.extend((!told).then_some(name));
            }
        }
        if !failed.is_empty() {
            println!("\nfailed: {}; the runtime's log:\n{}", failed.join(", "), node.log());
        }
        failed
    });
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
