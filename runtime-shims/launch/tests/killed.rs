//! The launcher is killed at any moment of a create; `delete --force` leaves nothing of what it began.
//!
//! `LAUNCH_KILLS` says how often (60).

mod machine;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use machine::{Container, good};

/// A bound, not an expectation.
const GONE_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn what_a_killed_create_began_is_removed() {
    let kills = std::env::var("LAUNCH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(60_u32);
    // how long a create takes here, and somewhat more
    let whole = Container::staying();
    let started = Instant::now();
    good(&whole.create());
    let longest = started.elapsed() * 5 / 4;
    let mut half_made = 0;
    for kill in 0..kills {
        let container = if kill % 3 == 0 { Container::staying().with_users() } else { Container::staying() };
        killed(&container, longest * kill / kills);
        half_made += u32::from(folder(&container).exists() && !folder(&container).join("state.json").exists());
        good(&container.call(&["delete", "--force", &container.id]));
        nothing_is_left(&container);
    }
    println!("of {kills} creates within {longest:?}, {half_made} were half made");
}

/// Begins a create and kills it after so long.
fn killed(container: &Container, after: Duration) {
    fs::write(container.dir.path().join("config.json"), container.spec.to_string()).unwrap();
    let (state, bundle) = (container.dir.path().join("state"), container.dir.path());
    let mut create = Command::new(&container.program);
    create.arg("--root").arg(state).args(["create", "--bundle"]).arg(bundle).arg(&container.id);
    let mut create = create.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    // it may have ended just now
    let _ = create.kill();
    create.wait().unwrap();
}

fn folder(container: &Container) -> std::path::PathBuf {
    container.dir.path().join("state").join(&container.id)
}

fn nothing_is_left(container: &Container) {
    assert!(!folder(container).exists(), "its state");
    let started = Instant::now();
    while let Some(left) = remains(container) {
        assert!(started.elapsed() < GONE_WITHIN, "{left}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn remains(container: &Container) -> Option<String> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let places = hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]);
    let mut cgroups = places.map(|at| at.join("pintle-launch-tests").join(&container.id));
    if let Some(cgroup) = cgroups.find(|cgroup| cgroup.exists()) {
        return Some(format!("{} stays", cgroup.display()));
    }
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let mut ours = processes.filter(|process| {
        let of = |file: &str| String::from_utf8_lossy(&fs::read(process.join(file)).unwrap_or_default()).into_owned();
        of("cgroup").contains(&container.id) || of("cmdline").contains(&container.id)
    });
    ours.next().map(|process| format!("{} stays", process.display()))
}
