//! Images as volumes.

use pintle_cri::v1::*;

use crate::machine::{Machine, SHELL, possible, shell};

fn volume(sub_path: &str) -> Mount {
    Mount {
        container_path: "/volume".into(),
        image: Some(ImageSpec { image: SHELL.into(), ..Default::default() }),
        image_sub_path: sub_path.into(),
        readonly: true,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_an_image_is_a_read_only_volume() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let sandbox = machine.sandbox("volume").await;
    let config = ContainerConfig { mounts: vec![volume("etc")], ..shell("main", "sleep 1000") };
    let id = machine.create_as(&sandbox, config).await.unwrap();
    machine.runtime.clone().start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    let (code, seen) = machine.exec(&id, "cat /volume/group; echo > /volume/new").await;
    assert!(code != 0 && seen.starts_with("root:x:0:") && seen.contains("Read-only"), "{code} {seen}");
    let mounted = machine.status(&id).await.mounts.into_iter().find_map(|mount| mount.image).unwrap();
    assert!(mounted.image_ref.starts_with("sha256:"), "{mounted:?}");
    let none = ContainerConfig { mounts: vec![volume("none")], ..shell("other", "true") };
    let refused = machine.create_as(&sandbox, none).await.unwrap_err();
    assert!(refused.message().contains("ImageVolumeMountFailed"), "{refused}");
    machine.runtime.clone().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.0 }).await.unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(machine.path("lib/containers").to_str().unwrap()), "{mounts}");
}
