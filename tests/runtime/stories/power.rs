//! The machine loses its power: processes, mounts and `/run` are gone, files of the last seconds are empty or cut short.
//! The runtime starts, knows what is left, and nothing keeps it from the next pods.
//!
//! Must not know: what is in the files.

use std::fs;
use std::path::{Path, PathBuf};

use futures::FutureExt as _;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_cri::v1;
use pintle_cri::v1::ContainerState;

use super::Story;
use super::disk::shell;
use super::kills::warm_up;
use crate::census::Census;
use crate::dice::Dice;
use crate::node::Node;
use crate::pods::{Pod, pod_config};

pub const STORIES: &[(&str, Story)] = &[
    ("a_power_failure_leaves_a_machine_that_starts", |node| power(node).boxed_local()),
    ("damaged_images_are_pulled_again", |node| images(node).boxed_local()),
];

const ROOT: &str = "/var/lib/pintle/runtime";
const NEXT_BOOT: &str = "/run/boot";
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

async fn power(node: &mut Node) {
    let mut dice = Dice::printed("power");
    warm_up(node).await;
    // of other OCI runtimes that stories before used, and none does afterwards
    for folder in fs::read_dir("/run/pintle/runtime").expect("a folder").flatten() {
        if folder.file_name().to_string_lossy().starts_with("launch-") {
            fs::remove_dir(folder.path()).expect("an empty folder");
        }
    }
    for _ in 0..6 {
        let before = Census::take(node.pid());
        let mut pods = Vec::new();
        for _ in 0..4 {
            let pod = node.run_pod(pod_config("powered")).await;
            node.run(&pod, "main", "sleep 100000").await;
            node.run(&pod, "done", "exit 3").await;
            pods.push(pod);
        }
        cut(node);
        damage(&mut dice);
        node.start().await;
        for pod in &pods {
            ended(node, pod).await;
            node.remove_pod(pod).await;
        }
        shell("umount", &[BOOT]);
        fs::remove_file(NEXT_BOOT).expect("a file");
        // folders that were gone with the power are there again
        warm_up(node).await;
        node.nothing_beyond(&before).await;
    }
}

/// A pod that is known has ended, and nothing of it runs; one that is not known is none of a kubelet's, either.
async fn ended(node: &Node, pod: &Pod) {
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
    let Ok(status) = node.cri().pod_sandbox_status(request).await else { return };
    let status = status.into_inner();
    assert_eq!(status.status.expect("a status").state(), v1::PodSandboxState::SandboxNotready);
    for container in status.containers_statuses {
        let right = match container.state() {
            // the last that was written of it may be lost
            ContainerState::ContainerCreated => true,
            ContainerState::ContainerExited => {
                container.exit_code == 255 && container.reason == "Unknown" || container.exit_code == 3
            }
            _ => false,
        };
        assert!(right, "{container:?}");
    }
}

/// Nothing of the runtime and of its pods runs or is mounted any more; the next start is another boot's.
fn cut(node: &mut Node) {
    node.kill();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let cgroup = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let pid = process.file_name().to_string_lossy().parse::<i32>();
        if let (Ok(pid), true) = (pid, cgroup.contains("/stories/") || cgroup.contains("/pintle-monitors")) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    unmount_below(ROOT);
    unmount_below("/run/pintle");
    fs::remove_dir_all("/run/pintle").expect("a folder");
    fs::write(NEXT_BOOT, format!("{:?}\n", std::time::Instant::now())).expect("a file");
    shell("mount", &["--bind", NEXT_BOOT, BOOT]);
    for link in fs::read_dir("/sys/class/net").expect("links").flatten() {
        let name = link.file_name().to_string_lossy().into_owned();
        if name.starts_with("veth") {
            // those of a namespace that is gone go by themselves, a moment later
            let _ = std::process::Command::new("ip").args(["link", "del", &name]).output();
        }
    }
    remove_cgroups();
}

fn remove_cgroups() {
    for hierarchy in crate::hierarchies::all() {
        let dir = hierarchy.mounted.join("stories");
        // processes that were killed leave a moment later
        while dir.exists() && !crate::hierarchies::remaining(&dir).is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn unmount_below(dir: &str) {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    for point in table.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(dir)) {
        umount2(point, MntFlags::MNT_DETACH).expect("a mount");
    }
}

/// Empties or cuts short some of the files that are not flushed.
fn damage(dice: &mut Dice) {
    let mut files = Vec::new();
    for dir in ["sandboxes", "containers", "cni"] {
        collect(&Path::new(ROOT).join(dir), &mut files);
    }
    files.sort();
    for file in files {
        let length = fs::metadata(&file).map_or(0, |it| it.len());
        match dice.below(4) {
            0 => fs::write(&file, "").expect("a file"),
            1 => {
                let file = fs::OpenOptions::new().write(true).open(&file).expect("a file");
                file.set_len(dice.below(length)).expect("a shorter file");
            }
            _ => {}
        }
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

/// Empty, cut short or garbage: of the index, of blobs, of holds, of layers' records.
async fn images(node: &mut Node) {
    let image = Path::new(ROOT).join("images");
    let damages: [fn(&Path); 5] = [
        |dir| fs::write(dir.join("images.json"), "").expect("a file"),
        |dir| fs::write(dir.join("images.json"), r#"{"version":1,"images":{"sha2"#).expect("a file"),
        |dir| each(&dir.join("blobs/sha256"), |file| fs::write(file, "").expect("a file")),
        |dir| {
            each(&dir.join("blobs/sha256"), |file| {
                let half = fs::metadata(file).expect("a blob").len() / 2;
                fs::OpenOptions::new().write(true).open(file).expect("a blob").set_len(half).expect("half of it");
            });
        },
        |dir| {
            let mut files = Vec::new();
            collect(&dir.join("holds"), &mut files);
            files.into_iter().for_each(|file| fs::write(file, "").expect("a file"));
        },
    ];
    for damage in damages {
        let pod = node.run_pod(pod_config("imaged")).await;
        node.run(&pod, "main", "sleep 100000").await;
        cut(node);
        damage(&image);
        node.start().await;
        node.remove_pod(&pod).await;
        node.image().list_images(v1::ListImagesRequest { filter: None }).await.expect("a list");
        for name in [&node.images.shell, &node.images.web1] {
            let image = Some(v1::ImageSpec { image: name.clone(), ..Default::default() });
            node.image().pull_image(v1::PullImageRequest { image, ..Default::default() }).await.expect("a pull");
        }
        let pod = node.run_pod(pod_config("imaged")).await;
        node.run(&pod, "main", "sleep 100000").await;
        node.remove_pod(&pod).await;
        shell("umount", &[BOOT]);
    }
    // what was set aside is somebody's to look at; here nobody does
    let _ = fs::remove_file(image.join("images.damaged"));
}

fn each(dir: &Path, act: impl Fn(&Path)) {
    fs::read_dir(dir).expect("a folder").flatten().for_each(|file| act(&file.path()));
}
