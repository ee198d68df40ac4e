//! What the runtime says of itself, and verbose answers.
//!
//! Must not know: gRPC.

use std::collections::HashMap;

use pintle_cri::v1;
use serde_json::json;

use crate::config::DEFAULT_HANDLER;
use crate::runtime::Shared;
use crate::state::{Container, Entry, Sandbox};

pub async fn of_runtime(shared: &Shared, verbose: bool) -> v1::StatusResponse {
    let network = shared.network.status().await.map_err(|error| error.to_string());
    let (reason, message) = match &network {
        Ok(()) => (String::new(), String::new()),
        // upstream's words: `kubectl describe node` shows them
        Err(error) => ("NetworkPluginNotReady".to_owned(), format!("Network plugin returns error: {error}")),
    };
    let condition =
        |kind: &str, status, reason, message| v1::RuntimeCondition { r#type: kind.into(), status, reason, message };
    let conditions = vec![
        condition("RuntimeReady", true, String::new(), String::new()),
        condition("NetworkReady", network.is_ok(), reason, message),
    ];
    v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions }),
        info: if verbose { info(shared) } else { HashMap::new() },
        runtime_handlers: handlers(shared),
        features: Some(v1::RuntimeFeatures { supplemental_groups_policy: true, user_namespaces_host_network: false }),
    }
}

fn info(shared: &Shared) -> HashMap<String, String> {
    let config = json!({
        "root": shared.config.root,
        "state": shared.config.state,
        "launcher": shared.config.launcher.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>(),
        "handlers": shared.config.handlers.keys().collect::<Vec<_>>(),
        "cniConfDir": shared.config.cni_conf_dir,
        "cniBinDirs": shared.config.cni_bin_dirs,
        "cgroupDriver": shared.host.cgroup_driver.as_str_name().to_lowercase(),
        "cgroupVersion": format!("{:?}", shared.host.cgroup_version),
        "podCIDR": shared.pod_cidr(),
        "apparmor": pintle_launch::apparmor::is_enabled(),
        "selinux": shared.host.selinux.as_ref().map(|labels| &labels.process),
    });
    HashMap::from([("config".to_owned(), config.to_string())])
}

/// The default one under both its names, then the others. What they can do is known of ours only.
fn handlers(shared: &Shared) -> Vec<v1::RuntimeHandler> {
    let features = v1::RuntimeHandlerFeatures {
        recursive_read_only_mounts: shared.host.recursive_read_only,
        // other OCI runtimes map no IDs of mounts before runc 1.2, and say so in no other way than by doing nothing
        user_namespaces: shared.host.id_mapped_mounts && shared.config.launcher == shared.config.namespaces,
    };
    let one = |name: &str, features: v1::RuntimeHandlerFeatures| v1::RuntimeHandler {
        name: name.to_owned(),
        features: Some(features),
    };
    let others = shared.config.handlers.keys().map(|name| one(name, v1::RuntimeHandlerFeatures::default()));
    [one("", features), one(DEFAULT_HANDLER, features)].into_iter().chain(others).collect()
}

pub fn of_sandbox(shared: &Shared, record: &Sandbox) -> HashMap<String, String> {
    let namespaces = shared.namespaces_of(&record.id);
    let info = json!({
        "runtimeHandler": record.handler,
        "namespaces": namespaces,
        "cgroupParent": record.cgroup_parent(),
        "hostname": record.config.hostname,
        "ips": record.ips,
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}

pub fn of_container(entry: &Entry<Container>) -> HashMap<String, String> {
    let record = entry.now();
    let spec = std::fs::read(entry.dir().join("config.json")).ok();
    let spec: Option<serde_json::Value> = spec.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let info = json!({
        "sandboxID": record.sandbox_id,
        "pid": record.pid,
        "cgroup": record.cgroup,
        "runtimeSpec": spec,
    });
    HashMap::from([("info".to_owned(), info.to_string())])
}
