//! User namespaces: pods whose root is nobody on the host.
//!
//! Must not know: what else pods share.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;
use pintle_cri::v1::NamespaceMode as Mode;

use super::demand;
use super::mounts::id_mapped;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, Skip, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "users/mapped",
        "a pod's users are those of the host that it was given, for its containers and commands in them",
        "runtime.v1 UserNamespace.uids, gids; KEP-127",
        mapped
    ),
    demand!(
        "users/shared-by-pod",
        "containers of a pod share its user namespace, which is not the host's",
        "runtime.v1 UserNamespace.mode POD",
        shared
    ),
    demand!(
        "users/root-owns-image",
        "the image's files belong to the pod's root, who can change them",
        "KEP-127: ID-mapped roots",
        owns_image
    ),
    demand!(
        "users/volume",
        "a volume with ID maps belongs to the pod's root; what it writes belongs to the host's user",
        "runtime.v1 Mount.uidMappings, gidMappings",
        volume
    ),
    demand!(
        "users/host-untouched",
        "the pod's root is nobody to files of the host that are mounted without a map",
        "KEP-127",
        untouched
    ),
    demand!("users/of-host", "mode NODE is the host's user namespace", "runtime.v1 UserNamespace.mode NODE", of_host),
    demand!(
        "users/bad-map",
        "a mapping of no users is refused",
        "runtime.v1 IDMapping.length: must be greater than 0",
        bad_map
    ),
    demand!(
        "users/told",
        "the sandbox's status tells its user namespace",
        "runtime.v1 NamespaceOption.userns_options; kubelet's recovery of mappings",
        told
    ),
];

const FIRST: u32 = 0x0100_0000;
const LENGTH: u32 = 0x1_0000;

fn maps() -> Vec<v1::IdMapping> {
    vec![v1::IdMapping { host_id: FIRST, container_id: 0, length: LENGTH }]
}

async fn pod(bench: &Bench, maps: Vec<v1::IdMapping>) -> anyhow::Result<Pod> {
    bench.needs_handler("user namespaces", |can| can.user_namespaces)?;
    if !bench.shared.pod_network && !bench.shared.told.features.is_some_and(|it| it.user_namespaces_host_network) {
        return Err(Skip("user namespaces need a pod network here".into()).into());
    }
    let users = v1::UserNamespace { mode: Mode::Pod.into(), uids: maps.clone(), gids: maps };
    bench.run_pod(bench.pod_config_with(|it| it.userns_options = Some(users))).await
}

async fn mapped(bench: &Bench) -> anyhow::Result<()> {
    let pod = pod(bench, maps()).await?;
    let id = bench.waiting(&pod).await?;
    for path in ["/proc/1/uid_map", "/proc/self/uid_map", "/proc/1/gid_map", "/proc/self/gid_map"] {
        let map = bench.said(&id, &["cat", path]).await?;
        let words: Vec<&str> = map.split_whitespace().collect();
        equal(path, words, vec!["0", "16777216", "65536"])?;
    }
    Ok(())
}

async fn shared(bench: &Bench) -> anyhow::Result<()> {
    let pod = pod(bench, maps()).await?;
    let first = bench.waiting(&pod).await?;
    let second = bench.ready(&pod, Bench::named(bench.container(&pod, &["wait"]), "second")).await?;
    let link = &["link", "/proc/self/ns/user"];
    let found = bench.said(&first, link).await?;
    equal("the second container's", bench.said(&second, link).await?, found.as_str())?;
    let hosts = std::fs::read_link("/proc/self/ns/user")?.display().to_string();
    ensure!(found != hosts, "it is the host's");
    Ok(())
}

async fn owns_image(bench: &Bench) -> anyhow::Result<()> {
    let pod = pod(bench, maps()).await?;
    let id = bench.waiting(&pod).await?;
    equal("the program's owner", bench.said(&id, &["stat", "/program"]).await?, "0 0 755 file")?;
    bench.said(&id, &["write", "/etc/passwd", "x"]).await.map(drop)
}

async fn volume(bench: &Bench) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let pod = pod(bench, maps()).await?;
    let id = id_mapped(bench, &pod, &maps()).await?;
    let owner = bench.said(&id, &["stat", "/mnt/it/in"]).await?;
    ensure!(owner.starts_with("0 0 "), "the file is of {owner}");
    bench.said(&id, &["write", "/mnt/it/out", "x"]).await?;
    let written = std::fs::metadata(bench.dir()?.join("mapped/out")).context("what it wrote")?;
    equal("the owner on the host", (written.uid(), written.gid()), (0, 0))
}

async fn untouched(bench: &Bench) -> anyhow::Result<()> {
    let pod = pod(bench, maps()).await?;
    let id = id_mapped(bench, &pod, &[]).await?;
    let owner = bench.said(&id, &["stat", "/mnt/it/in"]).await?;
    ensure!(owner.starts_with("65534 65534 "), "the file is of {owner}");
    bench.complained(&id, &["write", "/mnt/it/in", "x"]).await.map(drop)
}

async fn of_host(bench: &Bench) -> anyhow::Result<()> {
    let users = v1::UserNamespace { mode: Mode::Node.into(), ..Default::default() };
    let pod = bench.run_pod(bench.pod_config_with(|it| it.userns_options = Some(users))).await?;
    let id = bench.waiting(&pod).await?;
    let hosts = std::fs::read_link("/proc/self/ns/user")?.display().to_string();
    equal("the namespace", bench.said(&id, &["link", "/proc/self/ns/user"]).await?, hosts)
}

async fn bad_map(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_handler("user namespaces", |can| can.user_namespaces)?;
    let none = vec![v1::IdMapping { host_id: FIRST, container_id: 0, length: 0 }];
    match pod(bench, none).await {
        Err(error) if error.downcast_ref::<Skip>().is_some() => Err(error),
        Err(_) => Ok(()),
        Ok(_) => anyhow::bail!("it runs"),
    }
}

async fn told(bench: &Bench) -> anyhow::Result<()> {
    let pod = pod(bench, maps()).await?;
    let linux = bench.pod_status(&pod).await?.linux.context("the status has no linux")?;
    let options = linux.namespaces.and_then(|it| it.options).context("no namespaces")?;
    let users = options.userns_options.context("no userns_options")?;
    equal("mode", users.mode(), Mode::Pod)?;
    equal("uids", users.uids, maps())
}
