//! `StartContainer`: the OCI runtime, run by the sandbox's monitor, creates the container; then its program begins.
//!
//! Must not know: gRPC.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use pintle_cri::v1::{ContainerEventType as Event, ContainerState};
use pintle_monitor::{Run, Stdio};

use crate::clock;
use crate::drivers::launcher::{self, Launcher};
use crate::drivers::monitors;
use crate::error::Result;
use crate::plan::lifecycle::{self, End};
use crate::runtime::Shared;
use crate::state::{Container, Entry, Sandbox};

/// Starts a container that was created. One that cannot be started has exited, with the reason.
pub async fn start(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>) -> Result<()> {
    let _turn = entry.turn().await;
    lifecycle::may_start(&entry.now())?;
    let sandbox = shared.sandboxes.get(&entry.now().sandbox_id)?;
    lifecycle::may_join(&sandbox.now())?;
    let launcher = shared.launcher(&sandbox.now().handler)?;
    if let Err(error) = run(shared, &sandbox, entry, &launcher).await {
        let end = End::not_started(format!("{error:#}"));
        super::exit::settle(shared, entry, end, clock::now()).await;
        return Err(error.context(format!("failed to start container {:?}", entry.id)).into());
    }
    let sandbox = sandbox.now();
    shared.events.of_container(Event::ContainerStartedEvent, &entry.id, Some(&sandbox), &shared.containers);
    Ok(())
}

/// Goes on with a start that an earlier runtime began: the OCI runtime has created the container, whose first process is
/// `pid`. Its program may run already; nobody was told.
pub async fn finish_start(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>, pid: u32) {
    let _turn = entry.turn().await;
    if lifecycle::may_start(&entry.now()).is_err() {
        return;
    }
    let begun = async {
        let launcher = shared.launcher(&shared.sandboxes.get(&entry.now().sandbox_id)?.now().handler)?;
        match launcher.start(&entry.id).await {
            Err(_) if launcher.is_running(&entry.id).await => Ok(()),
            started => started.map_err(crate::error::Error::from),
        }
    };
    match begun.await {
        Ok(()) => entry.note(|record| runs(record, pid, clock::now())),
        Err(error) => super::exit::settle(shared, entry, End::not_started(error.to_string()), clock::now()).await,
    }
}

/// A start that an earlier runtime began has ended already.
pub async fn ended_start(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>, end: End, at: i64) {
    let _turn = entry.turn().await;
    if lifecycle::may_start(&entry.now()).is_ok() {
        entry.note(|record| record.started_at = at);
        super::exit::settle(shared, entry, end, at).await;
    }
}

fn runs(record: &mut Container, pid: u32, started_at: i64) {
    record.pid = pid;
    record.started_at = started_at;
    record.state = ContainerState::ContainerRunning.into();
}

async fn run(
    shared: &Shared,
    sandbox: &Entry<Sandbox>,
    entry: &Entry<Container>,
    launcher: &Launcher,
) -> anyhow::Result<()> {
    let record = entry.now();
    let monitor = shared.monitors.get(&sandbox.id)?;
    let config = &record.config;
    let pid_file = shared.state_of(&sandbox.id).join(format!("{}.pid", entry.id));
    let log = Some(&record.log_path).filter(|path| !path.is_empty()).map(PathBuf::from);
    let (stdin, stdin_once) = (config.stdin, config.stdin_once);
    let started = monitor.run(Run {
        exit_file: Some(entry.dir().join("exit")),
        memory_events: Some(shared.hierarchies.memory_events(&record.cgroup)),
        stdio: match config.tty {
            true => Stdio::Terminal { log, stdin, stdin_once, columns: 0, rows: 0 },
            false => Stdio::Pipes { log, stdin, stdin_once },
        },
        ..monitors::run(&entry.id, launcher.create(entry.dir(), &pid_file, config.tty, &entry.id), pid_file)
    });
    let pid = started.await.map_err(complaint)?.pid;
    let started_at = clock::now();
    launcher.start(&entry.id).await.context("starting the container's program")?;
    // not before: what is said to run must run its program, whenever this process is ended. The monitor may have told of
    // the end already, which waits for its turn
    Ok(entry.change(|record| runs(record, pid, started_at))?)
}

/// Of what the OCI runtime wrote, its message alone.
fn complaint(error: pintle_monitor::Error) -> anyhow::Error {
    match &error {
        pintle_monitor::Error::Failed(failure) if !failure.text.is_empty() => {
            anyhow::anyhow!(launcher::complaint(failure.text.as_bytes()))
        }
        _ => error.into(),
    }
}
