//! `pintle images remove` and `prune` beside a runtime: against used, pinned and unused images.
//!
//! Must not know: how images are kept.

use std::process::{Command, Output};

use futures::FutureExt as _;
use pintle_cri::v1;

use super::Story;
use crate::isolation::SCRATCH;
use crate::node::{Node, pintle};
use crate::pods::{on_host_network, pod_config};

pub const STORIES: &[(&str, Story)] =
    &[("images_are_removed_by_hand_but_not_from_under_a_container", |node| by_hand(node).boxed_local())];

async fn by_hand(node: &mut Node) {
    let (used, pinned, unused) = (node.images.shell.clone(), node.images.client.clone(), node.images.web2.clone());
    let pod = node.run_pod(on_host_network(pod_config("user"))).await;
    let id = node.run(&pod, "main", "sleep 100000").await;
    good(&["pull", &pinned, &unused]);
    let archive = format!("{SCRATCH}/pinned.tar");
    good(&["export", &pinned, "--output", &archive]);
    good(&["import", "--pin", &archive]);
    assert_eq!(listed(node, &pinned).await, Some(true));

    for (name, why) in [
        (used.as_str(), "used by 1 container"),
        (&pinned, "is pinned"),
        ("127.0.0.1/none:1", "not found"),
        ("not a name", "not found"),
    ] {
        let told = bad(&["remove", name]);
        assert!(told.contains(why), "{told}");
    }
    // a name that fails does not keep the others
    let told = bad(&["remove", "127.0.0.1/none:1", &unused]);
    assert!(told.contains("not found"), "{told}");
    assert_eq!(listed(node, &unused).await, None);

    good(&["pull", &unused]);
    let pruned = good(&["prune"]);
    assert!(pruned.contains("freed"), "{pruned}");
    assert_eq!(listed(node, &unused).await, Some(false), "a tagged image stays");
    good(&["prune", "--all"]);
    assert_eq!(listed(node, &unused).await, None);
    assert_eq!((listed(node, &pinned).await, listed(node, &used).await), (Some(true), Some(false)));

    // by force: the container keeps its files
    good(&["remove", "--force", &used, &pinned]);
    assert_eq!((listed(node, &pinned).await, listed(node, &used).await), (None, None));
    assert_eq!(node.output(&id, "echo $(ls /bin/busybox)").await, "/bin/busybox");
    node.remove_pod(&pod).await;
    for name in [&used, &node.images.web1] {
        good(&["pull", name]);
    }
}

/// Whether an image is there, and pinned.
async fn listed(node: &Node, name: &str) -> Option<bool> {
    let all = node.image().list_images(v1::ListImagesRequest { filter: None }).await.expect("a list").into_inner();
    all.images.iter().find(|image| image.repo_tags.iter().any(|tag| tag == name)).map(|image| image.pinned)
}

fn images(arguments: &[&str]) -> Output {
    Command::new(pintle()).arg("images").args(arguments).output().expect("pintle")
}

fn good(arguments: &[&str]) -> String {
    let done = images(arguments);
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn bad(arguments: &[&str]) -> String {
    let done = images(arguments);
    assert!(!done.status.success(), "{arguments:?} succeeded: {}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8_lossy(&done.stderr).into_owned()
}
