//! Changing: plans' actions carried out against the runtime, with upstream's events.
//!
//! Must not know: why an action was decided.

pub mod hooks;
pub mod kill;
pub mod remove;
pub mod resize;
pub mod sandbox;
pub mod start;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use pintle_client::Reflector;
use pintle_client::events::Recorder;
use pintle_cri::Runtime;

use crate::abilities::Abilities;
use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::images::Images;
use crate::objects::Objects;
use crate::plan::pod;
use crate::plan::pod::Kind;
use crate::plan::resources::NodeFacts;
use crate::users::Users;
use crate::volumes::Volumes;

/// Everything an action may use: ends of other parts, each cheap to clone.
#[derive(Clone)]
pub struct Drivers {
    pub runtime: Runtime,
    pub abilities: Abilities,
    pub images: Images,
    pub volumes: Volumes,
    pub objects: Objects,
    pub services: Reflector<Service>,
    pub recorder: Recorder,
    pub cgroups: Cgroups,
    pub users: Users,
    pub config: Arc<Config>,
    pub node: NodeFacts,
}

/// What an event about the pod refers to.
pub fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod::namespace(pod).into()),
        name: pod.metadata.name.clone(),
        // events of a static pod belong to its mirror, which carries the hash as its static pod's identity
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// What an event about one container refers to.
pub fn container_reference(pod: &Pod, kind: Kind, name: &str) -> ObjectReference {
    let list = match kind {
        Kind::Init => "initContainers",
        Kind::Regular => "containers",
        Kind::Ephemeral => "ephemeralContainers",
    };
    ObjectReference { field_path: Some(format!("spec.{list}{{{name}}}")), ..pod_reference(pod) }
}
