//! Small builders for the plans' tests.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::actions::{self, Snapshot};
use super::probing::Results;
use super::restart::BackOff;
use super::seen::{self, Sandbox, Seen, State};

/// A pod from YAML; `spec` is indented as in a manifest.
pub fn pod(spec: &str) -> Pod {
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default, uid: u1}\n";
    serde_yaml_ng::from_str(&format!("{head}spec:\n{spec}")).unwrap()
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn sandbox(attempt: u32, ready: bool) -> Sandbox {
    Sandbox {
        id: format!("s{attempt}"),
        ready,
        attempt,
        host_network: false,
        ips: vec!["10.244.0.5".into()],
        name: "web".into(),
        namespace: "default".into(),
        created_at: at(i64::from(attempt)),
    }
}

/// A container in sandbox `s0`, with the hash of `image`.
pub fn container(name: &str, image: &str, state: State, exit_code: i32) -> seen::Container {
    let spec = Container { name: name.into(), image: Some(image.into()), ..Container::default() };
    seen::Container {
        id: format!("{name}-0"),
        name: name.into(),
        sandbox_id: "s0".into(),
        state,
        created_at: at(1),
        started_at: Some(at(2)),
        finished_at: (state == State::Exited).then(|| at(3)),
        exit_code,
        reason: if exit_code == 0 { "Completed".into() } else { "Error".into() },
        message: String::new(),
        image: image.into(),
        image_ref: format!("{image}@sha256:0"),
        log_path: String::new(),
        restart_count: 0,
        hash: actions::hash(&spec),
        annotations: BTreeMap::new(),
        user: None,
        recursively_read_only: Vec::new(),
    }
}

pub fn seen(sandboxes: Vec<Sandbox>, containers: Vec<seen::Container>) -> Seen {
    Seen { sandboxes, containers }
}

/// The plan as lines: `end`, `sandbox N`, `kill NAME`, `start NAME #COUNT` or `wait NAME`.
pub fn planned(pod: &Pod, seen: &Seen, probes: &Results, backoffs: &BTreeMap<String, BackOff>) -> Vec<String> {
    let given = BTreeMap::new();
    let given = &given;
    let snapshot = Snapshot { pod, seen, probes, given, backoffs, max_backoff: Duration::from_secs(300), now: at(4) };
    let plan = actions::plan(&snapshot);
    let mut lines = Vec::new();
    lines.extend(plan.end_pod.then(|| "end".to_string()));
    lines.extend(plan.create_sandbox.map(|attempt| format!("sandbox {attempt}")));
    lines.extend(plan.kill.iter().map(|kill| format!("kill {}: {}", kill.name, kill.message)));
    lines.extend(plan.start.iter().map(|start| match start.wait {
        Some(_) => format!("wait {}", start.name),
        None => format!("start {} #{}", start.name, start.restart_count),
    }));
    lines
}
