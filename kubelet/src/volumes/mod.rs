//! A pod's volumes on the node: made, kept up to date, handed to containers as mounts, taken away.
//!
//! Must not know: containers' life, the runtime.

pub mod atomic;
mod empty_dir;
mod host_path;
pub mod mounts;
mod ownership;
mod payload;
mod sub_path;
mod teardown;
mod token;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Volume};
use kube::Client;

use crate::objects::{Objects, Subscription};
use crate::plan::environment::ObjectKind;
use crate::plan::pod;
use crate::references::Facts;

pub use teardown::tear_down;

/// Where each volume of a pod is, and what keeps it current.
#[derive(Default)]
pub struct PodVolumes {
    paths: BTreeMap<String, PathBuf>,
    /// Watches of the objects that the volumes show.
    pub watched: Vec<Subscription>,
    /// When a token has to be made anew.
    pub refresh: Option<Duration>,
}

/// Makes volumes of pods below `<root>/pods/<uid>`.
#[derive(Clone)]
pub struct Volumes {
    root: PathBuf,
    objects: Objects,
    tokens: token::Tokens,
}

/// A volume that could not be made: its name and why.
#[derive(Debug, PartialEq)]
pub struct VolumeError {
    pub volume: String,
    pub message: String,
}

impl Volumes {
    pub fn new(root: PathBuf, client: Client, objects: Objects) -> Self {
        Self { root, objects, tokens: token::Tokens::new(client) }
    }

    fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.root.join("pods").join(pod::uid(pod))
    }

    /// Makes every volume the pod lists, or brings it up to date. Doing so again changes nothing.
    ///
    /// # Errors
    /// Every volume that could not be made.
    pub async fn set_up(&self, pod: &Pod, facts: &Facts) -> Result<PodVolumes, Vec<VolumeError>> {
        let mut made = PodVolumes::default();
        let mut failed = Vec::new();
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        // an image volume is the runtime's to make, where a container mounts it
        for volume in volumes.iter().filter(|volume| volume.image.is_none()) {
            match self.one(pod, volume, facts, &mut made).await {
                Ok(path) => drop(made.paths.insert(volume.name.clone(), path)),
                Err(message) => failed.push(VolumeError { volume: volume.name.clone(), message }),
            }
        }
        if failed.is_empty() { Ok(made) } else { Err(failed) }
    }

    async fn one(&self, pod: &Pod, volume: &Volume, facts: &Facts, made: &mut PodVolumes) -> Result<PathBuf, String> {
        let dir =
            |plugin: &str| self.pod_dir(pod).join("volumes").join(format!("kubernetes.io~{plugin}")).join(&volume.name);
        if let Some(source) = &volume.host_path {
            let source = source.clone();
            return blocking(move || host_path::ensure(&source)).await;
        }
        let group =
            pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).and_then(|context| context.fs_group);
        if let Some(source) = &volume.empty_dir {
            let (path, source) = (dir("empty-dir"), source.clone());
            return blocking(move || empty_dir::ensure(&path, &source, group)).await;
        }
        let (plugin, in_memory) = match volume {
            Volume { config_map: Some(_), .. } => ("configmap", false),
            Volume { secret: Some(_), .. } => ("secret", true),
            Volume { downward_api: Some(_), .. } => ("downward-api", false),
            Volume { projected: Some(_), .. } => ("projected", true),
            _ => return Err("this kind of volume is not supported by this kubelet".into()),
        };
        let path = dir(plugin);
        self.watch(pod, volume, made);
        let context = payload::Context { pod, facts, objects: &self.objects, tokens: &self.tokens };
        let made_files = context.files(volume).await;
        let files = match made_files {
            Ok((files, refresh)) => {
                made.refresh = made.refresh.into_iter().chain(refresh).min();
                files
            }
            // what is on disk stays good while its source cannot be asked
            Err(message) if atomic::has_content(&path) => {
                // what is deleted together with its objects has lost nothing
                if pod.metadata.deletion_timestamp.is_none() {
                    let (pod, volume) = (pod::display(pod), &volume.name);
                    tracing::warn!(pod, volume, "volume keeps its old content: {message}");
                }
                made.refresh = Some(Duration::from_secs(30));
                return Ok(path);
            }
            Err(message) => return Err(message),
        };
        blocking(move || {
            prepare(&path, in_memory)?;
            let changed = atomic::write(&path, &files).map_err(|error| format!("{error:#}"))?;
            if let (true, Some(group)) = (changed, group) {
                ownership::give_to_group(&path, group, false).map_err(|error| format!("{error:#}"))?;
            }
            Ok(path)
        })
        .await
    }

    /// The watches alone, for a pod whose volumes cannot be made yet.
    pub fn watch_all(&self, pod: &Pod) -> PodVolumes {
        let mut made = PodVolumes::default();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            self.watch(pod, volume, &mut made);
        }
        made
    }

    /// Keeps the objects behind a volume watched, so that a change is known at once.
    fn watch(&self, pod: &Pod, volume: &Volume, made: &mut PodVolumes) {
        for (kind, name) in payload::references(volume) {
            made.watched.push(self.objects.subscribe(kind, pod::namespace(pod), &name));
        }
    }

    /// Forgets the tokens of a pod that is gone.
    pub fn forget(&self, uid: &str) {
        self.tokens.forget(uid);
    }

    /// Waits for a change in any object that the pod's volumes show.
    pub async fn changed(volumes: &PodVolumes) {
        if volumes.watched.is_empty() {
            return std::future::pending().await;
        }
        let waits = volumes.watched.iter().map(|watched| Box::pin(watched.changed()));
        futures::future::select_all(waits).await;
    }
}

/// The plugin's directory, on a tmpfs where the content is secret.
fn prepare(path: &Path, in_memory: bool) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|error| format!("making {}: {error}", path.display()))?;
    if in_memory { empty_dir::mount_tmpfs(path, None) } else { Ok(()) }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Kinds and names a whole pod refers to.
pub type References = Vec<(ObjectKind, String)>;
