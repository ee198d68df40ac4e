//! What an earlier kubelet left behind: pods in the runtime and directories on disk that no source knows.
//!
//! Must not know: how a pod is ended.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_cri::v1::ListPodSandboxRequest;

use super::Pods;
use crate::plan::sandbox_config::{POD_NAME, POD_NAMESPACE, POD_UID};
use crate::worker::Update;

impl Pods {
    /// Ends pods of the runtime that no source has, and removes directories of pods that are nowhere.
    pub(super) async fn end_orphans(&mut self) {
        let listed =
            self.setup.drivers.runtime.runtime.clone().list_pod_sandbox(ListPodSandboxRequest::default()).await;
        let sandboxes = match listed {
            Ok(answer) => answer.into_inner().items,
            Err(status) => return tracing::warn!("looking for orphaned pods: {}", status.message()),
        };
        let labels = sandboxes.into_iter().map(|sandbox| sandbox.labels.into_iter().collect::<BTreeMap<_, _>>());
        let mut living: HashSet<String> = self.workers.keys().cloned().collect();
        for labels in labels {
            // sandboxes of other users of the runtime have no such label
            let Some(uid) = labels.get(POD_UID).filter(|uid| !living.contains(*uid)).cloned() else { continue };
            tracing::info!(uid, "ending a pod that is not in any source any more");
            living.insert(uid);
            self.update(Update { pod: Arc::new(orphan(&labels)), removed: true, target: None });
        }
        self.remove_directories(&living).await;
        self.setup.drivers.cgroups.sweep(&living);
    }

    async fn remove_directories(&self, living: &HashSet<String>) {
        let root = self.setup.drivers.config.root_dir.join("pods");
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if living.contains(&name) {
                continue;
            }
            if let Err(error) = self.setup.drivers.release_pod(&name).await {
                tracing::warn!(uid = name, "removing an orphaned pod's directory: {error:#}");
            }
        }
    }
}

/// As much of a pod as its sandbox's labels tell.
fn orphan(labels: &BTreeMap<String, String>) -> Pod {
    let metadata = ObjectMeta {
        name: labels.get(POD_NAME).cloned(),
        namespace: labels.get(POD_NAMESPACE).cloned(),
        uid: labels.get(POD_UID).cloned(),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: Some(PodSpec::default()), status: None }
}
