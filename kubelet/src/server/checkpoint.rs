//! `POST /checkpoint/NAMESPACE/POD/CONTAINER`: the runtime writes a container's checkpoint below the kubelet's own folder
//! (KEP-2008). Source: upstream's server.go and kubelet.go.
//!
//! Must not know: what is in a checkpoint.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use http::{StatusCode, Uri};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use pintle_cri::v1::CheckpointContainerRequest;
use serde_json::json;

use super::Server;
use super::answer::{self, Answer, text};
use super::route::{Place, query};

/// Seconds: upstream's `runtimeRequestTimeout`, which a request may raise and not lower.
const USUAL_TIMEOUT: i64 = 120;

impl Server {
    pub(super) async fn checkpoint(&self, uri: &Uri, place: &Place) -> Answer {
        let Ok(pod) = self.pod(place) else { return text(StatusCode::NOT_FOUND, "pod does not exist") };
        if !has_container(&pod, &place.container) {
            return text(StatusCode::NOT_FOUND, format!("container {} does not exist", place.container));
        }
        let Ok(timeout) = timeout(&query(uri)) else {
            return text(StatusCode::NOT_FOUND, "cannot parse value of timeout parameter");
        };
        match self.write_checkpoint(place, timeout).await {
            Ok(location) => answer::json(&json!({"items": [location]})),
            Err(error) => {
                let Place { namespace, pod, container, .. } = place;
                let message = format!("checkpointing of {namespace}/{pod}/{container} failed ({error:#})");
                text(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }

    async fn write_checkpoint(&self, place: &Place, timeout: i64) -> anyhow::Result<PathBuf> {
        anyhow::ensure!(timeout >= 0, "CheckpointContainer requires the timeout value to be > 0");
        let missing = |_| anyhow::anyhow!("container {} not found", place.container);
        let container_id = self.container_id(place).map_err(missing)?;
        let folder = self.config.root_dir.join("checkpoints");
        make_private(&folder).with_context(|| format!("making {}", folder.display()))?;
        let location = folder.join(file_name(place, Timestamp::now()));
        let timeout = timeout.max(USUAL_TIMEOUT);
        let text = location.display().to_string();
        let mut request = tonic::Request::new(CheckpointContainerRequest { container_id, location: text, timeout });
        request.set_timeout(Duration::from_secs(timeout.unsigned_abs()));
        let answer = self.runtime.runtime.clone().checkpoint_container(request).await;
        answer.map_err(|status| anyhow::anyhow!(crate::images::print_status(&status)))?;
        Ok(location)
    }
}

/// Of any of the pod's lists.
fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|one| &one.name);
    let others = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|one| &one.name);
    others.chain(ephemeral).any(|known| known == name)
}

/// The last value counts; without one it is 0.
fn timeout(query: &[(String, String)]) -> Result<i64, std::num::ParseIntError> {
    let asked = query.iter().rfind(|(key, _)| key == "timeout");
    asked.map_or(Ok(0), |(_, value)| value.parse())
}

/// `checkpoint-POD_NAMESPACE-CONTAINER-TIME.tar`, the time as of RFC 3339 in whole seconds.
fn file_name(place: &Place, now: Timestamp) -> String {
    let Place { namespace, pod, container, .. } = place;
    format!("checkpoint-{pod}_{namespace}-{container}-{}.tar", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

/// A checkpoint holds the memory of processes.
fn make_private(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoints_name_says_of_what_and_when() {
        let place = Place { namespace: "ns".into(), pod: "p".into(), uid: None, container: "c".into() };
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(file_name(&place, now), "checkpoint-p_ns-c-2023-11-14T22:13:20Z.tar");
    }

    #[test]
    fn the_last_timeout_counts() {
        let pair = |value: &str| ("timeout".to_owned(), value.to_owned());
        assert_eq!(timeout(&[pair("5"), pair("7")]), Ok(7));
        assert_eq!(timeout(&[]), Ok(0));
        assert!(timeout(&[pair("1s")]).is_err());
    }
}
