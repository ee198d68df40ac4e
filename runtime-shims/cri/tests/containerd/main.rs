//! Against a real containerd: events, logs, and streaming to a real kubectl.

mod cluster;
mod machine;
mod streaming;

use futures::StreamExt;
use machine::{Machine, possible};
use pintle_cri::log;
use pintle_cri::v1::*;
use pintle_cri::{CgroupDriver, Event, EventKind};

#[tokio::test]
async fn a_containers_life_is_told_in_order_and_agrees_with_its_status() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let mut events = machine.runtime.events();
    assert_eq!(events.next().await, Some(Event::Resync));

    let sandbox = machine.sandbox("web").await;
    let container = machine.container(&sandbox, "echo hello; exit 3").await;
    let mut client = machine.runtime.runtime.clone();
    let mut seen = Vec::new();
    while seen.last() != Some(&EventKind::Deleted) {
        let Some(Event::Container(event)) = events.next().await else { continue };
        if event.container_id != container {
            assert_eq!(event.pod_sandbox_id.as_ref(), Some(&event.container_id), "a sandbox is its own");
            continue;
        }
        assert_eq!(event.pod_sandbox_id.as_ref(), Some(&sandbox.0));
        seen.push(event.kind);
        if event.kind == EventKind::Stopped {
            let asked = ContainerStatusRequest { container_id: container.clone(), verbose: false };
            let status = client.container_status(asked).await.unwrap().into_inner().status.unwrap();
            assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 3));
            client.remove_container(RemoveContainerRequest { container_id: container.clone() }).await.unwrap();
        }
    }
    assert_eq!(seen, [EventKind::Created, EventKind::Started, EventKind::Stopped, EventKind::Deleted]);
}

#[tokio::test]
async fn a_runtimes_logs_and_settings_are_read() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    assert_eq!(machine.runtime.version.runtime_name, "containerd");
    assert_eq!(machine.runtime.cgroup_driver(CgroupDriver::Systemd).await.unwrap(), CgroupDriver::Cgroupfs);
    assert_eq!(machine.runtime.sandbox_image().await.unwrap().as_deref(), Some("pintle.test/pause:1"));
    let (conf, bin) = machine.runtime.cni_directories().await.unwrap().unwrap();
    assert!(conf.ends_with("net.d") && bin.is_absolute(), "{conf:?} {bin:?}");
    assert!(!machine.runtime.ensure_sandbox_image().await.unwrap(), "it is there");

    let sandbox = machine.sandbox("web").await;
    machine.container(&sandbox, "echo out; echo err >&2").await;
    let lines = machine::until(async || {
        let lines = machine.log();
        if lines.iter().filter(|byte| **byte == b'\n').count() == 2 { Ok(lines) } else { Err("not yet") }
    })
    .await;
    let mut records: Vec<_> =
        lines.split_inclusive(|byte| *byte == b'\n').map(|line| log::parse(line).unwrap()).collect();
    records.sort_by_key(|record| record.stream.as_str());
    assert_eq!((records[0].stream, records[0].content), (log::Stream::Stderr, &b"err\n"[..]));
    assert_eq!((records[1].stream, records[1].content), (log::Stream::Stdout, &b"out\n"[..]));
}

#[tokio::test]
async fn a_killed_containerd_is_connected_to_again() {
    if !possible() {
        return;
    }
    let mut machine = Machine::start().await;
    let mut events = machine.runtime.events();
    assert_eq!(events.next().await, Some(Event::Resync));
    machine.restart();
    assert_eq!(events.next().await, Some(Event::Resync), "what happened meanwhile must be listed");
    let runtime = machine.runtime.runtime.clone();
    machine::until(async || runtime.clone().version(VersionRequest::default()).await).await;
}
