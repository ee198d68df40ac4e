//! The CRI conformance suite against this runtime, as its author would run it.
//!
//! Must not know: what the suite demands.

use std::path::Path;
use std::process::Command;

use futures::FutureExt as _;

use super::Story;
use crate::isolation::SCRATCH;
use crate::node::{Node, SOCKET};

pub const STORIES: &[(&str, Story)] =
    &[("the_conformance_suite_passes_and_leaves_nothing", |node| conformance(node).boxed_local())];

async fn conformance(node: &mut Node) {
    let report = Path::new(SCRATCH).join("conformance.xml");
    let run = Command::new(env!("CARGO_BIN_EXE_pintle"))
        .args(["runtime-conformance", "--runtime-endpoint", &format!("unix://{SOCKET}")])
        .args(["--focus", "^(sandbox|container|log)/", "--report-junit"])
        .arg(&report)
        .output()
        .expect("the suite");
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(told.contains(" 0 failed,"), "{told}");
    let xml = std::fs::read_to_string(report).expect("a report");
    assert!(xml.contains("name=\"log/format\"") && !xml.contains("name=\"exec/output\""), "{xml}");
    let none = pintle_cri::v1::ListPodSandboxRequest { filter: None };
    let left = node.cri().list_pod_sandbox(none).await.expect("a list").into_inner().items;
    assert!(left.iter().all(|one| !one.labels.contains_key("pintle-conformance")), "{left:?}");
}
