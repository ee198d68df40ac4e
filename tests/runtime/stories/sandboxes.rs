//! What a pod's containers share, and what they do not.
//!
//! Must not know: streams, restarts.

use futures::FutureExt as _;
use pintle_cri::v1;
use pintle_cri::v1::NamespaceMode;

use super::Story;
use crate::isolation::SCRATCH;
use crate::node::Node;
use crate::pods::{container_config, on_host_network, pod_config, security};

pub const STORIES: &[(&str, Story)] = &[
    ("a_pod_has_an_address_a_name_and_a_resolver", |node| network(node).boxed_local()),
    ("two_pods_reach_each_other", |node| reach(node).boxed_local()),
    ("a_shared_process_namespace_has_a_first_process_of_its_own", |node| shared_pids(node).boxed_local()),
    ("sysctls_hold_in_the_pod_alone", |node| sysctls(node).boxed_local()),
    ("a_pod_in_a_user_namespace_is_nobody_on_the_host", |node| user_namespace(node).boxed_local()),
    ("a_process_namespace_is_shared_where_the_pod_has_one", |node| nothing_to_share(node).boxed_local()),
    ("a_sandbox_with_a_process_is_confined_by_the_hosts_profile", |node| sandbox_profile(node).boxed_local()),
    ("images_are_mounted_as_volumes", |node| image_volume(node).boxed_local()),
];

async fn network(node: &mut Node) {
    let mut config = pod_config("named");
    config.dns_config = Some(v1::DnsConfig {
        servers: vec!["10.96.0.10".into()],
        searches: vec!["stories.svc.cluster.local".into()],
        options: vec!["ndots:5".into()],
    });
    let pod = node.run_pod(config).await;
    let address = node.pod_status(&pod).await.network.expect("a network").ip;
    assert!(address.starts_with("10.99.0."), "{address:?}");
    let id = node.run(&pod, "main", "sleep 1000").await;
    assert_eq!(node.output(&id, "hostname").await, "named");
    let addresses = node.output(&id, "ip -4 addr show eth0").await;
    assert!(addresses.contains(&address), "{addresses}");
    let resolver = node.output(&id, "cat /etc/resolv.conf").await;
    assert_eq!(resolver, "search stories.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5");
    assert_eq!(node.output(&id, "mount | grep -c ' /dev/shm '").await, "1");
    node.remove_pod(&pod).await;
}

async fn reach(node: &mut Node) {
    let (one, other) = (node.run_pod(pod_config("one")).await, node.run_pod(pod_config("other")).await);
    let mut config = container_config(node, &one, "web", "");
    config.image = Some(v1::ImageSpec { image: node.images.web1.clone(), ..Default::default() });
    config.command.clear();
    let web = node.create(&one, config).await;
    node.start_container(&web).await.expect("a start");
    let id = node.run(&other, "main", "sleep 1000").await;
    let address = node.pod_status(&one).await.network.expect("a network").ip;
    node.until("the page is served", async || {
        let asked = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80");
        String::from_utf8_lossy(&node.exec(&id, &asked).await.stdout).trim_end().ends_with("web 1")
    })
    .await;
    node.remove_pod(&one).await;
    node.remove_pod(&other).await;
}

async fn shared_pids(node: &mut Node) {
    let mut config = pod_config("together");
    security(&mut config).pid = NamespaceMode::Pod.into();
    let pod = node.run_pod(config).await;
    let (first, second) = (node.run(&pod, "a", "sleep 1001").await, node.run(&pod, "b", "sleep 1002").await);
    let seen = node.output(&second, "ps -o args").await;
    assert!(seen.contains("/pause") && seen.contains("sleep 1001") && seen.contains("sleep 1002"), "{seen}");
    // the end of one is not the end of the other
    node.stop_container(&first, 0).await;
    let seen = node.output(&second, "ps -o args").await;
    assert!(!seen.contains("sleep 1001") && seen.contains("sleep 1002"), "{seen}");
    node.remove_pod(&pod).await;
}

async fn sysctls(node: &mut Node) {
    let mut config = pod_config("tuned");
    let linux = config.linux.as_mut().expect("linux");
    linux.sysctls.insert("net.core.somaxconn".into(), "321".into());
    linux.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    let pod = node.run_pod(config).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    assert_eq!(node.output(&id, "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced").await, "321\n1");
    assert_ne!(std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("a setting").trim(), "321");
    node.remove_pod(&pod).await;
    let mut config = on_host_network(pod_config("untunable"));
    config.linux.as_mut().expect("linux").sysctls.insert("net.core.somaxconn".into(), "321".into());
    let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    assert_eq!(node.cri().run_pod_sandbox(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

async fn user_namespace(node: &mut Node) {
    let pod = node.run_pod(with_users(pod_config("mapped"))).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    assert_eq!(node.output(&id, "id -u; touch /file; stat -c %u /file /bin").await, "0\n0\n0");
    let written = std::fs::metadata(format!("/var/lib/pintle/runtime/containers/{id}/upper/file")).expect("a file");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&written), 200_000);
    assert_eq!(node.output(&id, "cat /proc/self/uid_map").await.split_whitespace().nth(1), Some("200000"));
    node.remove_pod(&pod).await;
}

fn with_users(mut config: v1::PodSandboxConfig) -> v1::PodSandboxConfig {
    let ids = vec![v1::IdMapping { host_id: 200_000, container_id: 0, length: 65_536 }];
    security(&mut config).userns_options =
        Some(v1::UserNamespace { mode: NamespaceMode::Pod.into(), uids: ids.clone(), gids: ids });
    config
}

async fn image_volume(node: &mut Node) {
    see_image(node, on_host_network(pod_config("volume"))).await;
    see_image(node, with_users(pod_config("mapped-volume"))).await;
}

async fn see_image(node: &Node, config: v1::PodSandboxConfig) {
    let pod = node.run_pod(config).await;
    let mut config = container_config(node, &pod, "main", "sleep 1000");
    config.mounts.push(v1::Mount {
        container_path: "/volume".into(),
        image: Some(v1::ImageSpec { image: node.images.web1.clone(), ..Default::default() }),
        image_sub_path: "www".into(),
        readonly: true,
        ..Default::default()
    });
    let id = node.create(&pod, config).await;
    node.start_container(&id).await.expect("a start");
    assert_eq!(node.output(&id, "cat /volume/index.html; stat -c %u /volume/index.html").await, "web 1\n0");
    let mounted = node.status(&id).await.mounts.into_iter().find_map(|mount| mount.image).expect("an image");
    assert!(mounted.image_ref.starts_with("sha256:"), "{mounted:?}");
    assert_ne!(node.exec(&id, "touch /volume/x").await.exit_code, 0);
    node.remove_pod(&pod).await;
}

async fn nothing_to_share(node: &mut Node) {
    let pod = node.run_pod(pod_config("apart")).await;
    let mut config = container_config(node, &pod, "main", "sleep 1000");
    let context = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()).expect("a context");
    context.namespace_options = Some(v1::NamespaceOption { pid: NamespaceMode::Pod.into(), ..Default::default() });
    let refused = node.try_create(&pod, config).await.expect_err("nothing to share");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("the sandbox has no PID namespace to share"), "{refused}");
    node.remove_pod(&pod).await;
}

async fn sandbox_profile(node: &mut Node) {
    let profile = std::path::Path::new(SCRATCH).join("profile.json");
    std::fs::write(&profile, r#"{ "defaultAction": "SCMP_ACT_ALLOW" }"#).expect("a profile");
    let mut config = pod_config("confined");
    security(&mut config).pid = NamespaceMode::Pod.into();
    let context = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()).expect("a context");
    context.seccomp = Some(v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::Localhost.into(),
        localhost_ref: profile.display().to_string(),
    });
    let pod = node.run_pod(config).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    assert_eq!(node.output(&id, "grep Seccomp: /proc/1/status").await, "Seccomp:\t2");
    node.remove_pod(&pod).await;
}
