//! Processes from their command line to their exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use pintle_monitor::{Error, Failure, Monitor, Run, State, Stdio, read_exit_file};

use crate::place::{Place, exit_of, pipe, read_all};

#[tokio::test]
async fn a_process_runs_logs_and_its_exit_is_on_disk_before_it_is_told() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let started = monitor.run(place.logged("a", "echo out; echo err >&2; printf rest; exit 7")).await.unwrap();
    let exit = exit_of(&mut exits, "a").await;
    assert_eq!((exit.code, exit.oom), (7, false));
    assert_eq!(read_exit_file(&place.file("a.exit")).unwrap(), exit);
    let expected = [("stdout", "out\nrest"), ("stderr", "err\n")].map(|(name, text)| (name.into(), text.into()));
    assert_eq!(place.text("a"), BTreeMap::from(expected));
    let statuses = monitor.list().await.unwrap();
    assert_eq!(statuses[0].state, State::Exited { pid: started.pid, exit });
    monitor.forget("a").await.unwrap();
    assert_eq!(monitor.list().await.unwrap(), []);
    monitor.stop().await.unwrap();
    assert!(matches!(Monitor::connect(place.path()).await, Err(Error::Absent(_))));
}

#[tokio::test]
async fn a_monitor_outlives_its_clients_and_tells_the_next_one_everything() {
    let (place, first) = Place::new().await;
    let started = first.run(place.script("stays", "exec sleep 1000")).await.unwrap();
    first.run(place.script("ends", "exit 3")).await.unwrap();
    drop(first);
    let second = place.connect().await;
    let mut exits = second.exits().await.unwrap();
    assert_eq!(exit_of(&mut exits, "ends").await.code, 3);
    let statuses = second.list().await.unwrap();
    let stays = statuses.iter().find(|status| status.id == "stays").unwrap();
    assert_eq!(stays.state, State::Running { pid: started.pid });
    assert!(matches!(second.stop().await, Err(Error::Busy(_))));
    second.signal("stays", 9).await.unwrap();
    assert_eq!(exit_of(&mut exits, "stays").await.code, 137);
    second.stop().await.unwrap();
    assert_eq!(exits.next().await, None);
}

#[tokio::test]
async fn two_hundred_quick_exits_are_all_told_with_their_codes() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let runs = (0..200).map(|n| {
        let (monitor, run) = (monitor.clone(), place.logged(&format!("p{n}"), &format!("echo {n}; exit {}", n % 100)));
        tokio::spawn(async move { monitor.run(run).await })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap().unwrap();
    }
    let mut left: BTreeSet<_> = (0..200).map(|n| (format!("p{n}"), n % 100)).collect();
    while !left.is_empty() {
        let exited = exits.next().await.unwrap();
        left.remove(&(exited.id, exited.exit.code));
    }
    // More than one message holds.
    assert_eq!(monitor.list().await.unwrap().len(), 200);
    assert!((0..200).all(|n| place.text(&format!("p{n}"))["stdout"] == format!("{n}\n")));
    for n in 0..200 {
        assert_eq!(read_exit_file(&place.file(&format!("p{n}.exit"))).unwrap().code, n % 100);
        monitor.forget(&format!("p{n}")).await.unwrap();
    }
    monitor.stop().await.unwrap();
}

#[tokio::test]
async fn signals_end_a_process_with_128_and_their_number() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    for (id, signal) in [("term", 15), ("kill", 9), ("segv", 11)] {
        monitor.run(place.script(id, "exec sleep 1000")).await.unwrap();
        monitor.signal(id, signal).await.unwrap();
        assert_eq!(exit_of(&mut exits, id).await.code, 128 + signal);
        assert!(matches!(monitor.signal(id, signal).await, Err(Error::NotRunning(_))));
    }
}

fn command(place: &Place, id: &str, script: &str) -> Run {
    let mut run = place.logged(id, "");
    run.argv = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
    run
}

#[tokio::test]
async fn a_command_line_that_fails_says_why() {
    let (place, monitor) = Place::new().await;
    let failure = async |run: Run| match monitor.run(run).await {
        Err(Error::Failed(Failure { code, text, timed_out })) => (code, text, timed_out),
        other => panic!("{other:?}"),
    };
    let said = failure(command(&place, "a", "echo no such bundle >&2; exit 3")).await;
    assert_eq!(said, (3, "no such bundle".to_owned(), false));
    let said = failure(command(&place, "a", "exit 0")).await;
    assert_eq!(said, (0, "it wrote no process number".to_owned(), false));
    let said = failure(command(&place, "a", &format!("echo 1 > {}", place.file("a.pid").display()))).await;
    assert_eq!(said, (0, "process 1 is not a child of the monitor".to_owned(), false));
    let slow = Run { timeout: Duration::from_millis(50), ..command(&place, "a", "echo slow >&2; exec sleep 1000") };
    assert_eq!(failure(slow).await, (137, "slow".to_owned(), true));
    let absent = Run { argv: vec!["/no/such/program".into()], ..command(&place, "a", "") };
    assert_eq!(failure(absent).await, (127, "cannot run /no/such/program: error 2".to_owned(), false));
    assert_eq!(monitor.list().await.unwrap(), []);
    monitor.stop().await.unwrap();
}

#[tokio::test]
async fn a_process_can_have_descriptors_of_its_caller() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let ((stdin, typed), (out, stdout), (err, stderr)) = (pipe(), pipe(), pipe());
    let stdio = Stdio::Fds([stdin.into(), stdout, stderr]);
    monitor.run(Run { stdio, ..place.script("a", "cat; echo err >&2; exit 5") }).await.unwrap();
    fs::write(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&typed)), "typed").unwrap();
    drop(typed);
    assert_eq!((read_all(out).await, read_all(err).await), ("typed".to_owned(), "err\n".to_owned()));
    assert_eq!(exit_of(&mut exits, "a").await.code, 5);
    assert!(matches!(monitor.attach("a", Default::default()).await, Err(Error::NotRunning(_))));
}

#[tokio::test]
async fn an_id_is_taken_until_its_process_has_ended_and_is_forgotten() {
    let (place, monitor) = Place::new().await;
    monitor.run(place.script("a", "exec sleep 1000")).await.unwrap();
    assert!(matches!(monitor.run(place.script("a", "")).await, Err(Error::Exists(_))));
    monitor.forget("a").await.unwrap();
    assert_eq!(monitor.list().await.unwrap().len(), 1);
    let mut exits = monitor.exits().await.unwrap();
    monitor.signal("a", 15).await.unwrap();
    assert_eq!(exit_of(&mut exits, "a").await.code, 143);
    assert_eq!(monitor.list().await.unwrap(), []);
    assert!(matches!(monitor.forget("a").await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_process_that_the_kernel_killed_for_memory_is_told_so() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    for (id, text, oom) in [("v2", "oom 1\noom_kill 1\n", true), ("v1", "under_oom 0\noom_kill 0\n", false)] {
        fs::write(place.file(id), text).unwrap();
        let run = Run { memory_events: Some(place.file(id)), ..place.script(id, "kill -9 $$") };
        monitor.run(run).await.unwrap();
        let exit = exit_of(&mut exits, id).await;
        assert_eq!((exit.code, exit.oom), (137, oom));
        assert_eq!(read_exit_file(&place.file(&format!("{id}.exit"))).unwrap(), exit);
    }
}

#[tokio::test]
async fn where_a_cgroup_is_gone_already_the_one_above_tells() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let above = place.file("memory.events");
    fs::write(&above, "oom 2\noom_kill 2\n").unwrap();
    // what it counted before is somebody else's, and who was not killed was not killed for memory
    for (id, counts, end, oom) in
        [("killed", 3, "kill -9 $$", true), ("other", 3, "kill -9 $$", false), ("ended", 4, "exit 1", false)]
    {
        let fifo = place.file(&format!("{id}.go"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = place.script(id, &format!("read go < {}; {end}", fifo.display()));
        monitor.run(Run { memory_events: Some(place.file("c.scope/memory.events")), ..script }).await.unwrap();
        fs::write(&above, format!("oom {counts}\noom_kill {counts}\n")).unwrap();
        fs::write(&fifo, "go\n").unwrap();
        assert_eq!(exit_of(&mut exits, id).await.oom, oom, "{id}");
    }
}

/// A scope's cgroup of v1, as systemd makes it.
struct Scope(PathBuf);

impl Scope {
    /// None, with the reason printed, where there is no v1 for it.
    fn new(id: &str) -> Option<Scope> {
        let hierarchy = Path::new("/sys/fs/cgroup/memory");
        let dir = hierarchy.join(format!("pintle-test-{}-{id}.scope", std::process::id()));
        if !hierarchy.join("cgroup.event_control").exists() || fs::create_dir(&dir).is_err() {
            eprintln!("skipped: no memory hierarchy of cgroup v1 that is ours to use");
            return None;
        }
        fs::write(dir.join("memory.limit_in_bytes"), (32 << 20).to_string()).unwrap();
        Some(Scope(dir))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn where_a_scope_of_v1_is_gone_already_the_kernel_has_told() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let hungry = r#"perl -e 'for (1 .. 64) { push @all, "x" x (4 << 20) }'"#;
    for (id, end, oom) in [("hungry", format!("exec {hungry}"), true), ("killed", "kill -9 $$".into(), false)] {
        let Some(scope) = Scope::new(id) else { return };
        let (fifo, procs) = (place.file(&format!("{id}.go")), scope.0.join("cgroup.procs"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = place.script(id, &format!("echo $$ > {}; read go < {}; {end}", procs.display(), fifo.display()));
        let run = Run { memory_events: Some(scope.0.join("memory.oom_control")), ..script };
        let pid = monitor.run(run).await.unwrap().pid;
        let go = fifo.clone();
        kill(place.pid(), Signal::SIGSTOP).unwrap();
        fs::write(go, "go\n").unwrap();
        // its end is a zombie's until the monitor goes on
        let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        while !stat().contains(") Z ") || fs::remove_dir(&scope.0).is_err() {
            tokio::task::yield_now().await;
        }
        kill(place.pid(), Signal::SIGCONT).unwrap();
        let exit = exit_of(&mut exits, id).await;
        assert_eq!((exit.code, exit.oom), (137, oom), "{id}");
    }
}

#[tokio::test]
async fn a_client_that_comes_during_a_start_hears_of_it_as_the_first_does() {
    let (place, first) = Place::new().await;
    let second = place.connect().await;
    let fifo = place.file("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut run = place.script("a", "exec sleep 1000");
    let wait = format!("open(my $go, '<', '{}'); <$go>; ", fifo.display());
    run.argv[2] = [OsString::from(wait), run.argv[2].clone()].into_iter().collect();
    let started = tokio::spawn(async move { first.run(run).await });
    while second.list().await.unwrap().first().map(|status| status.state) != Some(State::Starting) {
        tokio::task::yield_now().await;
    }
    let (heard, _) =
        tokio::join!(second.started("a", Duration::from_secs(60)), async { fs::write(&fifo, "").unwrap() });
    assert_eq!(heard.unwrap(), started.await.unwrap().unwrap());
    second.signal("a", 9).await.unwrap();
}
