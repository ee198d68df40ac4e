//! What the runtime said last that it, and each of its handlers, can do.
//!
//! Must not know: what depends on it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use k8s_openapi::api::core::v1::{NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus};
use pintle_cri::Runtime;
use pintle_cri::v1::{RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, StatusRequest, StatusResponse};

/// Cheap to clone; nothing is known before the runtime answers for the first time.
#[derive(Debug, Clone, Default)]
pub struct Abilities(Arc<RwLock<Said>>);

#[derive(Debug, Clone, Default)]
struct Said {
    handlers: Vec<RuntimeHandler>,
    features: Option<RuntimeFeatures>,
}

impl Abilities {
    /// The runtime's status, its abilities noted.
    ///
    /// # Errors
    /// The runtime's own.
    pub async fn ask(&self, runtime: &Runtime) -> Result<StatusResponse, tonic::Status> {
        let answer = runtime.runtime.clone().status(StatusRequest { verbose: false }).await?.into_inner();
        let said = Said { handlers: answer.runtime_handlers.clone(), features: answer.features };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = said;
        Ok(answer)
    }

    fn said(&self) -> RwLockReadGuard<'_, Said> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the handler of that name can do; empty is the runtime's default. A runtime that says nothing can nothing.
    pub fn of_handler(&self, name: &str) -> RuntimeHandlerFeatures {
        let said = self.said();
        said.handlers.iter().find(|one| one.name == name).and_then(|one| one.features).unwrap_or_default()
    }

    /// Whether pods can have exactly the supplemental groups that they name.
    pub fn strict_groups(&self) -> bool {
        self.said().features.is_some_and(|features| features.supplemental_groups_policy)
    }

    /// Tells them in the node's status. Source: pkg/kubelet/nodestatus/setters.go.
    pub fn tell(&self, status: &mut NodeStatus) {
        let said = self.said();
        status.features = said
            .features
            .map(|features| NodeFeatures { supplemental_groups_policy: Some(features.supplemental_groups_policy) });
        let handler = |one: &RuntimeHandler| {
            let features = one.features.unwrap_or_default();
            NodeRuntimeHandler {
                name: Some(one.name.clone()),
                features: Some(NodeRuntimeHandlerFeatures {
                    recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                    user_namespaces: Some(features.user_namespaces),
                }),
            }
        };
        status.runtime_handlers = Some(said.handlers.iter().map(handler).collect());
    }
}
