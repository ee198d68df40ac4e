//! What is asked of containerd beside its CRI, on the same socket: importing images, and which sandbox image it wants.
//!
//! Must not know: any other runtime. (Its events are in `events/containerd.rs`.)

mod import;

pub use import::import;

use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use crate::v1::{ImageSpec, ImageStatusRequest, StatusRequest};
use crate::{Runtime, pause};

/// The namespace in which containerd's CRI plugin keeps everything.
pub(crate) const NAMESPACE: &str = "k8s.io";

impl Runtime {
    /// Imports the images of an archive (an OCI layout in a tar, as `pause::archive` or `docker save` make it) into
    /// containerd, for its CRI to find; their names.
    ///
    /// # Errors
    /// The runtime is not containerd, the archive is broken, or containerd refuses.
    pub async fn import_images(&self, archive: &[u8]) -> anyhow::Result<Vec<String>> {
        let native = self.native.clone().context("images can be imported only over containerd's socket")?;
        import::import(native, archive).await
    }

    /// The image that sandboxes are made from, as containerd and CRI-O show it of their configuration; `None` for
    /// another runtime.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub async fn sandbox_image(&self) -> anyhow::Result<Option<String>> {
        let status = self.runtime.clone().status(StatusRequest { verbose: true }).await?.into_inner();
        Ok(status.info.get("config").and_then(|config| sandbox_image_of(config)))
    }

    /// Where containerd looks for CNI configurations and plugins: `(confDir, binDir)` of its configuration.
    ///
    /// # Errors
    /// The runtime does not answer.
    pub async fn cni_directories(&self) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
        let status = self.runtime.clone().status(StatusRequest { verbose: true }).await?.into_inner();
        Ok(status.info.get("config").and_then(|config| cni_directories_of(config)))
    }

    /// Gives containerd our own sandbox image under the name it wants, when it has none by that name: then a machine
    /// without a registry can run pods. `true` when it was imported. Another runtime is left to find its own: only
    /// containerd takes images otherwise than from a registry.
    ///
    /// # Errors
    /// See [`Runtime::import_images`].
    pub async fn ensure_sandbox_image(&self) -> anyhow::Result<bool> {
        if !self.known().is_some_and(|known| known.takes_images) {
            return Ok(false);
        }
        let Some(reference) = self.sandbox_image().await? else { return Ok(false) };
        let image = Some(ImageSpec { image: reference.clone(), ..ImageSpec::default() });
        let request = ImageStatusRequest { image, verbose: false };
        if self.images.clone().image_status(request).await?.into_inner().image.is_some() {
            return Ok(false);
        }
        self.import_images(&pause::archive(&reference)).await.context("cannot import the sandbox image")?;
        Ok(true)
    }
}

/// `sandboxImage` of the configuration that a runtime shows as JSON in its verbose status.
fn sandbox_image_of(config: &str) -> Option<String> {
    let config: Value = serde_json::from_str(config).ok()?;
    config.get("sandboxImage")?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn cni_directories_of(config: &str) -> Option<(PathBuf, PathBuf)> {
    let config: Value = serde_json::from_str(config).ok()?;
    let cni = config.get("cni")?;
    let directory =
        |name: &str| cni.get(name).and_then(Value::as_str).filter(|path| !path.is_empty()).map(PathBuf::from);
    Some((directory("confDir")?, directory("binDir")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_image_is_read_from_the_configuration_shown() {
        assert_eq!(sandbox_image_of(r#"{"sandboxImage":"x/pause:3"}"#), Some("x/pause:3".into()));
        assert_eq!(sandbox_image_of(r#"{"sandboxImage":""}"#), None);
        assert_eq!(sandbox_image_of("no"), None);
        assert_eq!(sandbox_image_of(r#"{"sandboxImage":"x/pause:3","crio":{}}"#), Some("x/pause:3".into()));
        let directories = cni_directories_of(r#"{"cni":{"binDir":"/b","confDir":"/c"}}"#);
        assert_eq!(directories, Some(("/c".into(), "/b".into())));
    }
}
