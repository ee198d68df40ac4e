//! What the runtime was seen to have of one pod: its sandboxes and containers, newest first.
//!
//! Must not know: CRI's wire types.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Everything of one pod in the runtime. Both lists are sorted newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub ready: bool,
    pub attempt: u32,
    /// Uses the host's network namespace.
    pub host_network: bool,
    /// Addresses the runtime reports; empty on the host's network.
    pub ips: Vec<String>,
    pub name: String,
    pub namespace: String,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The runtime's id, without its scheme.
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub state: State,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_ref: String,
    pub log_path: String,
    pub restart_count: i32,
    /// `io.kubernetes.container.hash`, as written: hexadecimal.
    pub hash: String,
    pub annotations: BTreeMap<String, String>,
    /// uid, gid and supplemental groups of the first process, where the runtime tells.
    pub user: Option<(i64, i64, Vec<i64>)>,
    /// Paths in the container under which nothing at all can be written.
    pub recursively_read_only: Vec<String>,
}

impl Seen {
    /// The newest container of that name.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    pub fn by_id(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.id == id)
    }

    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.state == State::Running)
    }

    /// The newest ready sandbox, else none.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.iter().find(|sandbox| sandbox.ready)
    }

    /// Nothing of the pod runs any more.
    pub fn stopped(&self) -> bool {
        self.running().next().is_none() && self.ready_sandbox().is_none()
    }
}
