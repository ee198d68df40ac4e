//! Requests that make no sense, and bytes that are no request: each is refused with a code that says why, nothing is made,
//! and the runtime goes on.
//!
//! Must not know: how requests are checked.

use futures::FutureExt as _;
use pintle_cri::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::Code;

use super::Story;
use super::kills::warm_up;
use crate::census::Census;
use crate::dice::Dice;
use crate::node::{Node, SOCKET};
use crate::pods::{Pod, container_config, on_host_network, pod_config};

pub const STORIES: &[(&str, Story)] = &[
    ("malformed_pods_are_refused", |node| pods(node).boxed_local()),
    ("malformed_containers_are_refused", |node| containers(node).boxed_local()),
    ("unknown_names_are_told_apart_from_malformed_ones", |node| unknown(node).boxed_local()),
    ("bytes_that_are_no_request_end_their_connection_alone", |node| bytes(node).boxed_local()),
];

type PodChange = (&'static str, fn(&mut v1::PodSandboxConfig), &'static [Code]);
type ContainerChange = (&'static str, fn(&mut v1::ContainerConfig), &'static [Code]);

const INVALID: &[Code] = &[Code::InvalidArgument];

async fn pods(node: &mut Node) {
    warm_up(node).await;
    let before = Census::take(node.pid());
    let changes: &[PodChange] = &[
        ("no metadata", |it| it.metadata = None, INVALID),
        ("a cgroup outside", |it| linux(it).cgroup_parent = "/../../etc".into(), INVALID),
        ("a sysctl that is a path", |it| drop(linux(it).sysctls.insert("../../x".into(), "1".into())), INVALID),
        (
            "a sysctl that is not there",
            |it| drop(linux(it).sysctls.insert("net.nope".into(), "1".into())),
            &[Code::Unknown, Code::InvalidArgument],
        ),
        ("a host name too long", |it| it.hostname = "a".repeat(300), INVALID),
        ("a host port too high", |it| it.port_mappings = vec![port(70_000, 80)], INVALID),
        ("a negative port", |it| it.port_mappings = vec![port(8080, -1)], INVALID),
        ("a user namespace without users", |it| users(it, Vec::new()), INVALID),
        ("users that overlap", |it| users(it, vec![map(0, 1000, 10), map(5, 2000, 10)]), INVALID),
        ("a search line with a line break", |it| it.dns_config = Some(dns("a\nnameserver 6.6.6.6")), INVALID),
    ];
    for (what, change, codes) in changes {
        let mut config = pod_config("malformed");
        change(&mut config);
        let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        refused(what, node.cri().run_pod_sandbox(request).await, codes);
    }
    let nothing = v1::RunPodSandboxRequest::default();
    refused("no configuration", node.cri().run_pod_sandbox(nothing).await, INVALID);
    let config = Some(pod_config("handled"));
    let handled = v1::RunPodSandboxRequest { config, runtime_handler: "../../bin/sh".into() };
    refused("an unknown handler", node.cri().run_pod_sandbox(handled).await, &[Code::NotFound, Code::InvalidArgument]);
    node.nothing_beyond(&before).await;
}

fn linux(config: &mut v1::PodSandboxConfig) -> &mut v1::LinuxPodSandboxConfig {
    config.linux.as_mut().expect("linux")
}

fn port(host_port: i32, container_port: i32) -> v1::PortMapping {
    v1::PortMapping { host_port, container_port, ..Default::default() }
}

fn map(container_id: u32, host_id: u32, length: u32) -> v1::IdMapping {
    v1::IdMapping { host_id, container_id, length }
}

fn users(config: &mut v1::PodSandboxConfig, ids: Vec<v1::IdMapping>) {
    let mode = v1::NamespaceMode::Pod.into();
    crate::pods::security(config).userns_options = Some(v1::UserNamespace { mode, uids: ids.clone(), gids: ids });
}

fn dns(search: &str) -> v1::DnsConfig {
    v1::DnsConfig { searches: vec![search.into()], ..Default::default() }
}

fn refused<T: std::fmt::Debug>(what: &str, answer: Result<tonic::Response<T>, tonic::Status>, codes: &[Code]) {
    let status = answer.map(tonic::Response::into_inner).expect_err(what);
    assert!(codes.contains(&status.code()), "{what}: {status:?}");
    assert!(!status.message().is_empty(), "{what}: it does not say why");
}

async fn containers(node: &mut Node) {
    warm_up(node).await;
    let before = Census::take(node.pid());
    let pod = node.run_pod(on_host_network(pod_config("malformed"))).await;
    let there = Census::take(node.pid());
    let changes: &[ContainerChange] = &[
        ("no metadata", |it| it.metadata = None, INVALID),
        ("no image", |it| it.image = None, &[Code::InvalidArgument, Code::NotFound]),
        ("an image that is not there", |it| image(it, "127.0.0.1:1/none:1"), &[Code::NotFound]),
        ("an image that is no name", |it| image(it, "../../etc"), &[Code::InvalidArgument, Code::NotFound]),
        ("a relative mount", |it| it.mounts.push(mount("/tmp", "relative")), INVALID),
        (
            "a device that is not there",
            |it| it.devices.push(device("/dev/none")),
            &[Code::Unknown, Code::NotFound, Code::InvalidArgument],
        ),
        ("a capability that is none", |it| capability(it, "NOPE"), INVALID),
        (
            "a profile that is not there",
            |it| profile(it, "/no/such/profile.json"),
            &[Code::Unknown, Code::NotFound, Code::InvalidArgument],
        ),
        ("a variable with a zero", |it| it.envs.push(variable("a\0b")), INVALID),
        ("a command with a zero", |it| it.command = vec!["/bin/sh\0".into()], INVALID),
    ];
    for (what, change, codes) in changes {
        let mut config = container_config(node, &pod, "malformed", "true");
        change(&mut config);
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        refused(what, node.cri().create_container(request).await, codes);
    }
    node.nothing_beyond(&there).await;
    let nowhere = Pod { id: "0123456789abcdef".into(), config: pod.config.clone() };
    let refused = node.try_create(&nowhere, container_config(node, &pod, "main", "true")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    node.remove_pod(&pod).await;
    node.nothing_beyond(&before).await;
}

fn image(config: &mut v1::ContainerConfig, name: &str) {
    config.image = Some(v1::ImageSpec { image: name.into(), ..Default::default() });
}

fn mount(host: &str, container: &str) -> v1::Mount {
    v1::Mount { host_path: host.into(), container_path: container.into(), ..Default::default() }
}

fn device(path: &str) -> v1::Device {
    v1::Device { host_path: path.into(), container_path: path.into(), permissions: "rwm".into() }
}

fn context(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()).expect("a context")
}

fn capability(config: &mut v1::ContainerConfig, name: &str) {
    context(config).capabilities = Some(v1::Capability { add_capabilities: vec![name.into()], ..Default::default() });
}

fn profile(config: &mut v1::ContainerConfig, path: &str) {
    let profile_type = v1::security_profile::ProfileType::Localhost.into();
    context(config).seccomp = Some(v1::SecurityProfile { profile_type, localhost_ref: path.into() });
}

fn variable(key: &str) -> v1::KeyValue {
    v1::KeyValue { key: key.into(), value: "x".into() }
}

async fn unknown(node: &mut Node) {
    let (none, empty) = ("ffffffffffff".to_owned(), String::new());
    for (id, code) in [(none, Code::NotFound), (empty, Code::NotFound)] {
        let or_invalid = [code, Code::InvalidArgument];
        let status = v1::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
        refused("status of a pod", node.cri().pod_sandbox_status(status).await, &or_invalid);
        let status = v1::ContainerStatusRequest { container_id: id.clone(), verbose: false };
        refused("status", node.cri().container_status(status).await, &or_invalid);
        let start = v1::StartContainerRequest { container_id: id.clone() };
        refused("start", node.cri().start_container(start).await, &or_invalid);
        let exec = v1::ExecSyncRequest { container_id: id.clone(), cmd: vec!["true".into()], timeout: 1 };
        refused("exec", node.cri().exec_sync(exec).await, &or_invalid);
        let update = v1::UpdateContainerResourcesRequest { container_id: id.clone(), ..Default::default() };
        refused("update", node.cri().update_container_resources(update).await, &or_invalid);
        let logs = v1::ReopenContainerLogRequest { container_id: id.clone() };
        refused("log", node.cri().reopen_container_log(logs).await, &or_invalid);
        let stats = v1::ContainerStatsRequest { container_id: id };
        refused("statistics", node.cri().container_stats(stats).await, &or_invalid);
    }
    for name in ["", "a/UPPER", "a b", "127.0.0.1:1/x@sha256:nope"] {
        let image = Some(v1::ImageSpec { image: name.into(), ..Default::default() });
        let request = v1::PullImageRequest { image, ..Default::default() };
        refused(name, node.image().pull_image(request).await, INVALID);
    }
    refused("no image", node.image().pull_image(v1::PullImageRequest::default()).await, INVALID);
}

async fn bytes(node: &mut Node) {
    let mut dice = Dice::printed("bytes");
    for round in 0..40 {
        let mut socket = UnixStream::connect(SOCKET).await.expect("the socket");
        let mut sent = match round % 3 {
            0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            _ => Vec::new(),
        };
        sent.extend((0..dice.below(3000)).map(|_| u8::try_from(dice.below(256)).unwrap_or_default()));
        // it may hang up before it has read all of it
        let _ = socket.write_all(&sent).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
    }
    let mut config = pod_config("large");
    config.annotations.insert("large".into(), "x".repeat(17 << 20));
    let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    node.cri().run_pod_sandbox(request).await.unwrap_err();
    node.cri().version(v1::VersionRequest { version: String::new() }).await.expect("it goes on");
}
