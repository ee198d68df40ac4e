//! A container's configuration: command, environment, files, devices, resources.
//!
//! Must not know: users and confinement.

use anyhow::ensure;
use pintle_cri::v1;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "container/image-command",
        "without a command of its own, a container runs the image's entrypoint with the image's arguments",
        "runtime.v1 ContainerConfig.command, args; OCI image Entrypoint, Cmd",
        image_command
    ),
    demand!(
        "container/args",
        "arguments replace the image's arguments and leave its entrypoint",
        "runtime.v1 ContainerConfig.args",
        args
    ),
    demand!(
        "container/command",
        "a command replaces the image's entrypoint and drops its arguments",
        "runtime.v1 ContainerConfig.command",
        command
    ),
    demand!(
        "container/environment",
        "the environment is the image's, with the container's over it",
        "runtime.v1 ContainerConfig.envs",
        environment
    ),
    demand!(
        "container/working-directory",
        "the working directory is the container's, else the image's",
        "runtime.v1 ContainerConfig.working_dir",
        working_directory
    ),
    demand!(
        "container/mount",
        "a folder of the host is mounted; what a container writes is there on the host",
        "runtime.v1 ContainerConfig.mounts",
        mount
    ),
    demand!(
        "container/mount-read-only",
        "a read-only mount cannot be written",
        "runtime.v1 Mount.readonly",
        mount_read_only
    ),
    demand!(
        "container/device",
        "a device of the host is there under the container's name for it, and can be opened",
        "runtime.v1 ContainerConfig.devices",
        device
    ),
    demand!(
        "container/memory-limit",
        "the memory limit is set on the container's cgroup, and changed while it runs",
        "runtime.v1 LinuxContainerResources.memory_limit_in_bytes, UpdateContainerResources",
        memory_limit
    ),
    demand!(
        "container/oom-score",
        "the OOM score adjustment is set",
        "runtime.v1 LinuxContainerResources.oom_score_adj",
        oom_score
    ),
];

async fn image_command(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { command: Vec::new(), ..bench.container(&pod, &[]) };
    equal("what it printed", bench.printed(&pod, config).await?.as_str(), "from the image\n")
}

async fn args(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let args = vec!["args".into(), "from the".into(), "container".into()];
    let config = v1::ContainerConfig { command: Vec::new(), args, ..bench.container(&pod, &[]) };
    equal("what it printed", bench.printed(&pod, config).await?.as_str(), "from the\ncontainer\n")
}

async fn command(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { args: vec!["more".into()], ..bench.container(&pod, &["args", "one"]) };
    equal("what it printed", bench.printed(&pod, config).await?.as_str(), "one\nmore\n")
}

async fn environment(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["env"]);
    let envs = [("REPLACED", "by the container"), ("OWN", "a=b")];
    config.envs = envs.map(|(key, value)| v1::KeyValue { key: key.into(), value: value.into() }).into();
    let text = bench.printed(&pod, config).await?;
    for demanded in ["FROM_IMAGE=kept", "REPLACED=by the container", "OWN=a=b"] {
        ensure!(text.lines().any(|line| line == demanded), "no {demanded} in {text:?}");
    }
    equal("how often it is there", text.matches("REPLACED=").count(), 1)
}

async fn working_directory(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let of_image = bench.container(&pod, &["cwd"]);
    equal("the image's", bench.printed(&pod, of_image.clone()).await?.as_str(), "/work\n")?;
    let mut own = v1::ContainerConfig { working_dir: "/tmp".into(), log_path: "own.log".into(), ..of_image };
    own.metadata = Some(v1::ContainerMetadata { name: "own".into(), attempt: 0 });
    equal("the container's", bench.printed(&pod, own).await?.as_str(), "/tmp\n")
}

async fn mounted(bench: &Bench, readonly: bool) -> anyhow::Result<(String, std::path::PathBuf)> {
    let pod = bench.pod().await?;
    let dir = bench.dir()?.join("volume");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("in"), "of the host")?;
    let mut config = bench.container(&pod, &["wait"]);
    let host_path = dir.display().to_string();
    config.mounts = vec![v1::Mount { container_path: "/mnt/it".into(), host_path, readonly, ..Default::default() }];
    let id = bench.run(&pod, config).await?;
    equal("what it reads", bench.said(&id, &["cat", "/mnt/it/in"]).await?, "of the host")?;
    Ok((id, dir))
}

async fn mount(bench: &Bench) -> anyhow::Result<()> {
    let (id, dir) = mounted(bench, false).await?;
    bench.said(&id, &["write", "/mnt/it/out", "of the container"]).await?;
    equal("what it wrote", std::fs::read_to_string(dir.join("out"))?.as_str(), "of the container")
}

async fn mount_read_only(bench: &Bench) -> anyhow::Result<()> {
    let (id, _) = mounted(bench, true).await?;
    let complaint = bench.complained(&id, &["write", "/mnt/it/out", "x"]).await?;
    ensure!(complaint.contains("Read-only file system"), "{complaint}");
    Ok(())
}

async fn device(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.devices = vec![v1::Device {
        container_path: "/dev/given".into(),
        host_path: "/dev/null".into(),
        permissions: "rwm".into(),
    }];
    let id = bench.run(&pod, config).await?;
    bench.said(&id, &["open", "/dev/given"]).await.map(drop)
}

/// The limit as the kernel has it, on either version of cgroups.
async fn limit(bench: &Bench, id: &str) -> anyhow::Result<String> {
    let v1 = bench.exec(id, &["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]).await?;
    if v1.exit_code == 0 {
        return Ok(String::from_utf8_lossy(&v1.stdout).trim().to_owned());
    }
    bench.said(id, &["cat", "/sys/fs/cgroup/memory.max"]).await
}

async fn memory_limit(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    let limited = |bytes| Some(v1::LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() });
    if let Some(linux) = config.linux.as_mut() {
        linux.resources = limited(64 << 20);
    }
    let id = bench.run(&pod, config).await?;
    equal("the limit", limit(bench, &id).await?, (64 << 20).to_string())?;
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: limited(96 << 20),
        ..Default::default()
    };
    bench.cri().update_container_resources(request).await?;
    equal("the limit after the update", limit(bench, &id).await?, (96 << 20).to_string())
}

async fn oom_score(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["cat", "/proc/self/oom_score_adj"]);
    if let Some(linux) = config.linux.as_mut() {
        linux.resources = Some(v1::LinuxContainerResources { oom_score_adj: 987, ..Default::default() });
    }
    equal("the adjustment", bench.printed(&pod, config).await?.as_str(), "987\n")
}
