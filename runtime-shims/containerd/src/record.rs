//! What we keep with each sandbox and container, in containerd's own record of it: the request, and what became of it.
//!
//! Must not know: how a request is carried out.

use std::collections::HashMap;
use std::path::PathBuf;

use containerd_client::services::v1::{Container, GetContainerRequest, ListContainersRequest, UpdateContainerRequest};
use pintle_cri::v1::{ContainerConfig, PodSandboxConfig};
use prost::Message;
use prost_types::{Any, FieldMask};
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::Inner;
use crate::client::{During, request};

pub const KIND: &str = "pintle.dev/kind";
pub const SANDBOX: &str = "sandbox";
pub const CONTAINER: &str = "container";
const CONFIG: &str = "pintle.dev/config";
const STATE: &str = "pintle.dev/state";

/// What became of a sandbox or container; times in nanoseconds since 1970, zero for not yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub out_of_memory: bool,
    /// Why it could not be started.
    pub message: String,
    pub runtime_handler: String,
    /// Of a sandbox: it was stopped, its network and its process are gone.
    pub stopped: bool,
    pub ips: Vec<String>,
    /// `None` on the host's network.
    pub netns: Option<PathBuf>,
    /// SELinux' level of a sandbox's containers that are given none; empty where the host has no SELinux.
    pub selinux_level: String,
    /// Of a container.
    pub sandbox: String,
    /// The image's id, `sha256:…`.
    pub image: String,
    /// `name@sha256:…`, else the id.
    pub image_ref: String,
    pub log_path: Option<PathBuf>,
    pub stop_signal: i32,
    /// Where the kernel counts whom it killed for this container's memory.
    pub kills: Option<PathBuf>,
    pub user: (u32, u32, Vec<u32>),
}

/// A sandbox or container with the request that made it.
#[derive(Clone, Debug)]
pub struct Record<C> {
    pub id: String,
    pub config: C,
    pub state: State,
    /// The runtime specification it was made with, as JSON.
    pub spec: Vec<u8>,
}

pub type SandboxRecord = Record<PodSandboxConfig>;
pub type ContainerRecord = Record<ContainerConfig>;

/// A request that is kept, and its kind.
pub trait Kept: Message + Default {
    const KIND: &'static str;
    const WORD: &'static str;
}

impl Kept for PodSandboxConfig {
    const KIND: &'static str = SANDBOX;
    const WORD: &'static str = "sandbox";
}

impl Kept for ContainerConfig {
    const KIND: &'static str = CONTAINER;
    const WORD: &'static str = "container";
}

/// The extensions and labels of a new record.
pub fn extensions<C: Kept>(config: &C, state: &State) -> Result<HashMap<String, Any>, Status> {
    let config = Any { type_url: "pintle.dev/cri.v1".to_owned(), value: config.encode_to_vec() };
    Ok([(CONFIG.to_owned(), config), (STATE.to_owned(), as_any(state)?)].into())
}

fn as_any(state: &State) -> Result<Any, Status> {
    let value = serde_json::to_vec(state).map_err(crate::client::internal)?;
    Ok(Any { type_url: "pintle.dev/state".to_owned(), value })
}

fn read<C: Kept>(container: Container) -> Option<Record<C>> {
    if container.labels.get(KIND).map(String::as_str) != Some(C::KIND) {
        return None;
    }
    let config = C::decode(container.extensions.get(CONFIG)?.value.as_slice()).ok()?;
    let state = serde_json::from_slice(&container.extensions.get(STATE)?.value).ok()?;
    Some(Record { id: container.id, config, state, spec: container.spec.map(|spec| spec.value).unwrap_or_default() })
}

impl Inner {
    /// The record of this id, `None` when there is none.
    pub async fn find<C: Kept>(&self, id: &str) -> Result<Option<Record<C>>, Status> {
        if id.is_empty() {
            return Err(Status::invalid_argument(format!("the id of the {} is empty", C::WORD)));
        }
        let get = GetContainerRequest { id: id.to_owned() };
        let found = self.client.containers().get(request(get)).await.or_gone()?;
        Ok(found.and_then(|found| found.into_inner().container).and_then(read))
    }

    /// The record of this id.
    pub async fn get<C: Kept>(&self, id: &str) -> Result<Record<C>, Status> {
        self.find(id).await?.ok_or_else(|| Status::not_found(format!("{} {id:?} not found", C::WORD)))
    }

    pub async fn all<C: Kept>(&self) -> Result<Vec<Record<C>>, Status> {
        let filters = vec![format!("labels.{KIND:?}=={}", C::KIND)];
        let list = self.client.containers().list(request(ListContainersRequest { filters })).await;
        let mut all: Vec<Record<C>> =
            list.during("listing containers")?.into_inner().containers.into_iter().filter_map(read).collect();
        all.sort_by_key(|record| record.state.created_at);
        Ok(all)
    }

    pub async fn containers_of(&self, sandbox: &str) -> Result<Vec<ContainerRecord>, Status> {
        let mut all = self.all().await?;
        all.retain(|record: &ContainerRecord| record.state.sandbox == sandbox);
        Ok(all)
    }

    /// Writes the state of a record; the rest of it stays.
    pub async fn write_state(&self, id: &str, state: &State) -> Result<(), Status> {
        let extensions = [(STATE.to_owned(), as_any(state)?)].into();
        let container = Some(Container { id: id.to_owned(), extensions, ..Container::default() });
        let update_mask = Some(FieldMask { paths: vec![format!("extensions.{STATE}")] });
        let update = UpdateContainerRequest { container, update_mask };
        self.client.containers().update(request(update)).await.during("recording a container's state")?;
        Ok(())
    }

    /// Writes the specification of a record, after its limits were changed in place.
    pub async fn write_spec(&self, id: &str, spec: Any) -> Result<(), Status> {
        let container = Some(Container { id: id.to_owned(), spec: Some(spec), ..Container::default() });
        let update_mask = Some(FieldMask { paths: vec!["spec".to_owned()] });
        let update = UpdateContainerRequest { container, update_mask };
        self.client.containers().update(request(update)).await.during("recording a container's limits")?;
        Ok(())
    }
}

/// 64 hexadecimal digits, as containerd's CRI makes them.
pub fn new_id() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_and_others_containers_are_not_ours() {
        let config = ContainerConfig { log_path: "0.log".into(), ..Default::default() };
        let state = State { exit_code: 7, user: (1, 2, vec![3]), ..State::default() };
        let mut container = Container {
            id: "c".into(),
            extensions: extensions(&config, &state).unwrap(),
            labels: [(KIND.to_owned(), CONTAINER.to_owned())].into(),
            ..Container::default()
        };
        let got: ContainerRecord = read(container.clone()).unwrap();
        assert_eq!((got.config, got.state), (config, state));
        assert!(read::<PodSandboxConfig>(container.clone()).is_none());
        container.labels.clear();
        assert!(read::<ContainerConfig>(container).is_none());
    }
}
