//! Which cgroup driver the runtime uses: asked of it, then read from what it shows of its configuration, then ours.
//!
//! Must not know: cgroups themselves.

use serde_json::Value;
use tonic::{Code, Status};

use crate::Runtime;
pub use crate::v1::CgroupDriver;
use crate::v1::{RuntimeConfigRequest, StatusRequest};

impl Runtime {
    /// The runtime's cgroup driver as it tells it, else `configured`.
    ///
    /// # Errors
    /// The runtime does not answer at all.
    pub async fn cgroup_driver(&self, configured: CgroupDriver) -> Result<CgroupDriver, Status> {
        Ok(self.told_cgroup_driver().await?.unwrap_or(configured))
    }

    /// The runtime's cgroup driver: by the `RuntimeConfig` call; from a runtime that has none (containerd before 2.0),
    /// by the configuration in its verbose status; nothing where neither tells it.
    ///
    /// # Errors
    /// The runtime does not answer at all.
    pub async fn told_cgroup_driver(&self) -> Result<Option<CgroupDriver>, Status> {
        match self.runtime.clone().runtime_config(RuntimeConfigRequest {}).await {
            Ok(answer) => Ok(answer.into_inner().linux.map(|linux| linux.cgroup_driver())),
            Err(status) if status.code() == Code::Unimplemented => self.driver_in_status().await,
            Err(status) => Err(status),
        }
    }

    async fn driver_in_status(&self) -> Result<Option<CgroupDriver>, Status> {
        let status = self.runtime.clone().status(StatusRequest { verbose: true }).await?.into_inner();
        Ok(status.info.get("config").and_then(|config| driver_of_containerd(config)))
    }
}

/// Reads `containerd.runtimes.<default>.options.SystemdCgroup` of the configuration containerd shows as JSON.
fn driver_of_containerd(config: &str) -> Option<CgroupDriver> {
    let config: Value = serde_json::from_str(config).ok()?;
    let containerd = config.get("containerd")?;
    let name = containerd.get("defaultRuntimeName")?.as_str()?;
    let options = containerd.get("runtimes")?.get(name)?.get("options")?;
    let systemd = options.get("SystemdCgroup").and_then(Value::as_bool).unwrap_or(false);
    Some(if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(options: &str) -> Option<CgroupDriver> {
        driver_of_containerd(&format!(
            r#"{{"containerd":{{"defaultRuntimeName":"runc","runtimes":{{"runc":{{"options":{options}}}}}}}}}"#
        ))
    }

    #[test]
    fn containerd_shows_its_driver_in_the_options_of_its_default_runtime() {
        assert_eq!(shown(r#"{"SystemdCgroup":true}"#), Some(CgroupDriver::Systemd));
        assert_eq!(shown(r#"{"SystemdCgroup":false}"#), Some(CgroupDriver::Cgroupfs));
        assert_eq!(shown("{}"), Some(CgroupDriver::Cgroupfs));
    }

    #[test]
    fn another_shape_says_nothing() {
        for config in ["", "[]", "{}", r#"{"containerd":{"defaultRuntimeName":3}}"#] {
            assert_eq!(driver_of_containerd(config), None, "{config}");
        }
    }
}
