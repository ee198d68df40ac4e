//! `CreateContainer`: written down first; then its root is mounted and its bundle written. Nothing runs yet.
//!
//! Must not know: gRPC.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pintle_bundle::{cgroup_dir, sandbox_namespaces, stop_signal};
use pintle_cri::v1;
use pintle_cri::v1::ContainerEventType as Event;

use super::bundle;
use crate::clock;
use crate::drivers::mounts::Snapshot;
use crate::error::{Error, Result};
use crate::plan::{self, lifecycle};
use crate::runtime::Shared;
use crate::state::{Container, Entry, Sandbox, VERSION};

/// Creates a container; its ID.
pub async fn create(shared: &Arc<Shared>, request: v1::CreateContainerRequest) -> Result<String> {
    let sandbox = shared.sandboxes.get(&request.pod_sandbox_id)?;
    lifecycle::may_join(&sandbox.now())?;
    let config = request.config.ok_or_else(|| Error::Invalid("config is missing".into()))?;
    if config.metadata.is_none() {
        return Err(Error::Invalid("config.metadata is missing".into()));
    }
    let wanted = config.image.clone().unwrap_or_default().image;
    let image = shared.image(&wanted)?;
    let entry = shared.containers.add(record(shared, &sandbox, config, &image)?)?;
    let _turn = entry.turn().await;
    if let Err(error) = make(shared, &sandbox, &entry, &image).await {
        super::discard(shared, &entry).await;
        return Err(error);
    }
    shared.events.of_container(Event::ContainerCreatedEvent, &entry.id, Some(&sandbox.now()), &shared.containers);
    Ok(entry.id.clone())
}

fn record(
    shared: &Shared,
    sandbox: &Entry<Sandbox>,
    config: v1::ContainerConfig,
    image: &pintle_images::Image,
) -> Result<Container> {
    let pod = sandbox.now();
    let signal = stop_signal(&config, image.config.config().as_ref())?;
    let id = plan::id(rand::random());
    Ok(Container {
        version: VERSION,
        sandbox_id: sandbox.id.clone(),
        state: v1::ContainerState::ContainerCreated.into(),
        created_at: clock::now(),
        image_id: image.id.to_string(),
        image_ref: image.digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
        stop_signal: signal.number,
        log_path: log_path(&pod.config.log_directory, &config.log_path),
        cgroup: cgroup_dir(pod.cgroup_parent(), &id, &shared.host)?,
        config,
        id,
        ..Container::default()
    })
}

/// Relative to the pod's log folder; without either nothing is logged.
fn log_path(directory: &str, path: &str) -> String {
    if directory.is_empty() || path.is_empty() {
        return String::new();
    }
    Path::new(directory).join(path).display().to_string()
}

async fn make(
    shared: &Arc<Shared>,
    sandbox: &Arc<Entry<Sandbox>>,
    entry: &Arc<Entry<Container>>,
    image: &pintle_images::Image,
) -> Result<()> {
    shared.images.hold(image.id.as_str(), &entry.id)?;
    let mut layers = shared.images.layers(image.id.as_str()).await?;
    layers.push(shared.mount_points());
    let snapshot = Snapshot::of(entry.dir());
    let label = bundle::mount_label(shared, sandbox, entry)?;
    let label = label.as_deref();
    mount_layers(shared, sandbox, &entry.id, &snapshot, &layers, label)?;
    let volumes = bundle::image_mounts(shared, sandbox, entry, label).await?;
    let made = bundle::write(shared, sandbox, entry, image, &snapshot, &volumes)?;
    if let Some(label) = label {
        bundle::label_files(shared, sandbox, entry, label)?;
    }
    if !entry.now().log_path.is_empty() {
        make_log_folder(&entry.now().log_path)?;
    }
    entry.change(|record| {
        record.user = Some(made.user);
        record.made = true;
    })?;
    Ok(())
}

/// Mounts an image's layers, whose files belong to the pod's users where it has its own.
pub fn mount_layers(
    shared: &Shared,
    sandbox: &Entry<Sandbox>,
    container: &str,
    snapshot: &Snapshot,
    layers: &[PathBuf],
    label: Option<&str>,
) -> Result<()> {
    match sandbox_namespaces(&sandbox.now().config)?.user {
        Some(users) => {
            let namespace = shared.namespaces_of(&sandbox.id).join("user");
            snapshot.mount_mapped(layers, &namespace, plan::root_of(&users), &shared.mapped_of(container), label)?;
        }
        None => snapshot.mount(layers, label)?,
    }
    Ok(())
}

fn make_log_folder(path: &str) -> Result<()> {
    let Some(folder) = Path::new(path).parent() else { return Ok(()) };
    Ok(std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_in_its_pods_folder_and_needs_both() {
        assert_eq!(log_path("/var/log/pods/a", "b/0.log"), "/var/log/pods/a/b/0.log");
        assert_eq!(log_path("", "b/0.log"), "");
        assert_eq!(log_path("/var/log/pods/a", ""), "");
    }
}
