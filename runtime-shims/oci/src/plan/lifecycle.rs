//! Which transitions are legal, and what an exit is called.
//!
//! Must not know: how any of them is done.

use pintle_cri::v1::ContainerState;

use crate::error::Error;
use crate::state::{Container, Sandbox};

/// containerd's exit code of a container that could not be started.
pub const NOT_STARTED: i32 = 128;
/// containerd's exit code of a container whose end nobody saw.
pub const UNSEEN: i32 = 255;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `Unknown`, as containerd says.
    pub reason: &'static str,
    pub message: String,
}

impl End {
    pub fn seen(code: i32, oom: bool) -> Self {
        let reason = match (oom, code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        Self { code, reason, message: String::new() }
    }

    pub fn not_started(message: String) -> Self {
        Self { code: NOT_STARTED, reason: "StartError", message }
    }

    pub fn unseen(message: &str) -> Self {
        Self { code: UNSEEN, reason: "Unknown", message: message.to_owned() }
    }
}

/// A container can be added to a sandbox that was made and not stopped.
pub fn may_join(sandbox: &Sandbox) -> Result<(), Error> {
    if sandbox.is_ready() {
        return Ok(());
    }
    Err(Error::Precondition(format!("sandbox {:?} is not running", sandbox.id)))
}

/// A container is started once.
pub fn may_start(container: &Container) -> Result<(), Error> {
    must_be(container, ContainerState::ContainerCreated)
}

/// Exec, attach, log rotation and updates of what runs.
pub fn must_run(container: &Container) -> Result<(), Error> {
    must_be(container, ContainerState::ContainerRunning)
}

fn must_be(container: &Container, wanted: ContainerState) -> Result<(), Error> {
    if container.is(wanted) {
        return Ok(());
    }
    let (now, wanted) = (container.state().as_str_name(), wanted.as_str_name());
    Err(Error::Precondition(format!("container {:?} is in state {now}, not {wanted}", container.id)))
}

/// Resources change while a container can still use them.
pub fn may_update(container: &Container) -> Result<(), Error> {
    match container.state() {
        ContainerState::ContainerCreated => Ok(()),
        _ => must_run(container),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_named_as_containerd_names_it() {
        assert_eq!(End::seen(0, false).reason, "Completed");
        assert_eq!(End::seen(7, false).reason, "Error");
        assert_eq!(End::seen(137, true).reason, "OOMKilled");
    }

    #[test]
    fn only_what_was_created_is_started_and_only_what_runs_is_entered() {
        for (state, start, run, update) in [
            (ContainerState::ContainerCreated, true, false, true),
            (ContainerState::ContainerRunning, false, true, true),
            (ContainerState::ContainerExited, false, false, false),
            (ContainerState::ContainerUnknown, false, false, false),
        ] {
            let it = Container { state: state.into(), ..Container::default() };
            let found = (may_start(&it).is_ok(), must_run(&it).is_ok(), may_update(&it).is_ok());
            assert_eq!(found, (start, run, update), "{state:?}");
        }
    }
}
