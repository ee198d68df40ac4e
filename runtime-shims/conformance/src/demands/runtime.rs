//! The runtime as a whole: version, conditions, configuration.
//!
//! Must not know: pods' and containers' inside.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, equal, optional};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "runtime/version",
        "names itself and its version, and speaks CRI v1",
        "runtime.v1 Version; kubelet's kubeRuntimeAPIVersion 0.1.0",
        version
    ),
    demand!(
        "runtime/conditions",
        "tells the conditions RuntimeReady and NetworkReady, the first of them true",
        "runtime.v1 Status.conditions; kubelet's node condition Ready",
        conditions
    ),
    demand!("runtime/configuration", "tells its cgroup driver", "runtime.v1 RuntimeConfig; KEP-4033", configuration),
];

async fn version(bench: &Bench) -> anyhow::Result<()> {
    let version = &bench.shared.runtime.version;
    ensure!(!version.runtime_name.is_empty(), "runtime_name is empty");
    ensure!(!version.runtime_version.is_empty(), "runtime_version is empty");
    equal("runtime_api_version", version.runtime_api_version.as_str(), "v1")
}

async fn conditions(bench: &Bench) -> anyhow::Result<()> {
    let answer = bench.cri().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    let conditions = answer.status.context("an answer without a status")?.conditions;
    let find = |name: &str| conditions.iter().find(|one| one.r#type == name).with_context(|| format!("no {name}"));
    find("NetworkReady")?;
    equal("RuntimeReady", find("RuntimeReady")?.status, true)
}

async fn configuration(bench: &Bench) -> anyhow::Result<()> {
    let answer = optional("RuntimeConfig", bench.cri().runtime_config(v1::RuntimeConfigRequest {}).await)?;
    answer.linux.context("no configuration for Linux").map(drop)
}
