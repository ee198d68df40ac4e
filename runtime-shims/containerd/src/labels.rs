//! SELinux: what of a pod gets which label, where the host has it.
//!
//! Must not know: how a label is put together.

use std::path::Path;

use containerd_client::types::Mount as LayerMount;
use oci_spec::runtime::Spec;
use pintle_bundle as bundle;
use pintle_cri::v1::{ContainerConfig, PodSandboxConfig};
use pintle_launch::selinux;
use tonic::Status;

use crate::Inner;
use crate::client::internal;
use crate::record::SandboxRecord;
use crate::sandbox::invalid;

impl Inner {
    /// Of a new sandbox: as it asks, or one that no other has.
    pub async fn selinux_level(&self, config: &PodSandboxConfig) -> Result<String, Status> {
        let others: Vec<SandboxRecord> = if self.host.selinux.is_some() { self.all().await? } else { Vec::new() };
        let taken = |level: &str| others.iter().any(|other| other.state.selinux_level == level);
        Ok(bundle::selinux_level(config, &self.host, rand::random, taken))
    }

    /// The layers of a sandbox or container, mounted with the label that its specification (JSON) names.
    pub async fn labelled_layers(&self, id: &str, spec: &[u8]) -> Result<Vec<LayerMount>, Status> {
        let mut layers = self.mounts(id).await?;
        let spec: Spec = serde_json::from_slice(spec).map_err(internal)?;
        let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
        if let Some(label) = label.filter(|label| !label.is_empty() && self.host.selinux.is_some()) {
            of_layers(&mut layers, label).map_err(internal)?;
        }
        Ok(layers)
    }

    /// Gives the pod's files, the image's volumes and the mounts that are to be relabelled the container's label.
    pub fn label_files(
        &self,
        id: &str,
        sandbox: &SandboxRecord,
        config: &ContainerConfig,
        label: &str,
    ) -> Result<(), Status> {
        let own = bundle::sandbox_namespaces(&sandbox.config).map_err(invalid)?;
        let mut paths = bundle::relabelled(config, &own, &self.config.sandbox_files(&sandbox.id, &sandbox.config));
        paths.push(self.config.container_root(id).join("volumes"));
        paths.iter().try_for_each(|path| selinux::relabel(path, label)).map_err(internal)
    }
}

/// Overlays are mounted with the label. The folder of a snapshotter without overlays is the container's alone, its files
/// get it one by one.
pub fn of_layers(layers: &mut [LayerMount], label: &str) -> anyhow::Result<()> {
    for layer in layers {
        match layer.r#type.as_str() {
            "overlay" => layer.options.push(format!("context=\"{label}\"")),
            "bind" => selinux::relabel(Path::new(&layer.source), label)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_mounted_with_its_label() {
        let mut layers = [LayerMount { r#type: "overlay".into(), options: vec!["a".into()], ..Default::default() }];
        of_layers(&mut layers, "u:r:t:s0:c1,c2").unwrap();
        assert_eq!(layers[0].options, ["a", "context=\"u:r:t:s0:c1,c2\""]);
    }
}
