//! The runtime's disk is full: calls say so, nothing half made stays, what runs can be stopped and removed, and all goes on
//! once there is room.
//!
//! Must not know: how the runtime writes.

use std::fs;
use std::path::Path;
use std::process::Command;

use futures::FutureExt as _;
use pintle_cri::v1;
use pintle_cri::v1::ContainerState;
use tonic::Code;

use super::Story;
use super::kills::warm_up;
use crate::census::Census;
use crate::node::Node;
use crate::pods::{container_config, on_host_network, pod_config};

pub const STORIES: &[(&str, Story)] = &[("a_full_disk_is_told_and_leaves_nothing", |node| full(node).boxed_local())];

const ROOT: &str = "/var/lib/pintle/runtime";
const FILLING: &str = "/var/lib/pintle/runtime/filling";

async fn full(node: &mut Node) {
    node.kill();
    shell("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", ROOT]);
    node.start().await;
    pull_fails(node).await;
    shell("mount", &["-o", "remount,size=64m", ROOT]);
    pull(node, &node.images.shell).await.expect("a pull");
    calls_fail(node).await;
    node.kill();
    shell("umount", &[ROOT]);
    node.start().await;
}

/// Neither content nor a name stays of what did not fit.
async fn pull_fails(node: &Node) {
    let refused = pull(node, &node.images.client).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("No space left on device"), "{refused:?}");
    let images = node.image().list_images(v1::ListImagesRequest { filter: None }).await.expect("a list");
    assert_eq!(images.into_inner().images, []);
    let images = Path::new(ROOT).join("images");
    for dir in ["blobs/sha256", "ingest", "layers", "leases", "trash"] {
        // layers that were being unpacked are taken away by those who did
        node.until(&format!("{dir} is empty"), async || {
            fs::read_dir(images.join(dir)).expect("a folder").flatten().next().is_none()
        })
        .await;
    }
}

async fn calls_fail(node: &Node) {
    warm_up(node).await;
    let before = Census::take(node.pid());
    let pod = node.run_pod(pod_config("roomy")).await;
    let stays = node.run(&pod, "stays", "sleep 100000").await;
    // told through the pod's own /dev/shm, which is not on the full disk
    node.output(&stays, "mkfifo /dev/shm/over").await;
    let ends = node.run(&pod, "ends", "read told < /dev/shm/over; exit 5").await;
    fill();
    let there = Census::take(node.pid());
    let request = v1::RunPodSandboxRequest { config: Some(on_host_network(pod_config("late"))), ..Default::default() };
    let refused = node.cri().run_pod_sandbox(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let refused = node.try_create(&pod, container_config(node, &pod, "late", "true")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    node.nothing_beyond(&there).await;
    // what runs is entered, seen to end, stopped and removed all the same
    assert_eq!(node.output(&stays, "echo in").await, "in");
    node.output(&stays, "echo now > /dev/shm/over").await;
    assert_eq!(node.exited(&ends).await.exit_code, 5);
    node.stop_container(&stays, 0).await;
    assert_eq!(node.status(&stays).await.state(), ContainerState::ContainerExited);
    node.remove_pod(&pod).await;
    // an image is removed to make room
    let image = Some(v1::ImageSpec { image: node.images.shell.clone(), ..Default::default() });
    fill();
    node.image().remove_image(v1::RemoveImageRequest { image }).await.expect("a removal");
    fs::remove_file(FILLING).expect("a file");
    pull(node, &node.images.shell).await.expect("a pull");
    warm_up(node).await;
    node.nothing_beyond(&before).await;
}

/// A file that leaves no block.
fn fill() {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(FILLING).expect("a file");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
}

async fn pull(node: &Node, name: &str) -> Result<(), tonic::Status> {
    let image = Some(v1::ImageSpec { image: name.into(), ..Default::default() });
    node.image().pull_image(v1::PullImageRequest { image, ..Default::default() }).await.map(drop)
}

pub fn shell(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("a program");
    assert!(status.success(), "{program} {arguments:?}");
}
