//! Devices of the host and of CDI.
//!
//! Must not know: what else containers are configured with.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use super::labels::for_all_containers;
use crate::bench::Bench;
use crate::demand::{Demand, Skip, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "device/given",
        "a device of the host is there under the container's name for it, and can be opened",
        "runtime.v1 ContainerConfig.devices; device plugins",
        given
    ),
    demand!(
        "device/permissions",
        "a device that is given for reading cannot be written",
        "runtime.v1 Device.permissions",
        permissions
    ),
    demand!(
        "device/permissions-without-making",
        "a device is there too where the container may not make it",
        "runtime.v1 Device.permissions without m; device plugins",
        without_making
    ),
    demand!(
        "device/not-given",
        "a device that was not given cannot be opened",
        "runtime.v1 LinuxContainerSecurityContext.privileged: false; device cgroup",
        not_given
    ),
    demand!(
        "device/missing",
        "a device that the host does not have is refused",
        "runtime.v1 Device.host_path",
        missing
    ),
    demand!(
        "device/privileged",
        "a privileged container has the host's devices",
        "runtime.v1 LinuxContainerSecurityContext.privileged",
        privileged
    ),
    demand!(
        "device/of-exec",
        "a command in a container may use the devices that the container was given, and no others",
        "runtime.v1 ExecSync, ContainerConfig.devices",
        of_exec
    ),
    demand!(
        "device/cdi",
        "a device of CDI brings its environment, device nodes and mounts",
        "runtime.v1 ContainerConfig.CDI_devices; KEP-4009",
        cdi
    ),
    demand!(
        "device/cdi-unknown",
        "a device that no CDI specification names is refused",
        "runtime.v1 CDIDevice.name; KEP-4009",
        cdi_unknown
    ),
];

fn device(container_path: &str, host_path: &str, permissions: &str) -> v1::Device {
    v1::Device { container_path: container_path.into(), host_path: host_path.into(), permissions: permissions.into() }
}

async fn with(bench: &Bench, devices: Vec<v1::Device>) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    bench.ready(&pod, v1::ContainerConfig { devices, ..bench.container(&pod, &["wait"]) }).await
}

async fn given(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, vec![device("/dev/given", "/dev/null", "rwm")]).await?;
    bench.said(&id, &["open", "/dev/given"]).await.map(drop)
}

/// The kernel's log: no container has it by default, and reading does not wait for anything.
const LOG: &str = "/dev/kmsg";

/// One that no container has by default, and whose opening does nothing.
fn spare() -> anyhow::Result<&'static str> {
    let known = ["/dev/loop-control", "/dev/fuse", "/dev/net/tun"];
    let found = known.into_iter().find(|path| Path::new(path).exists());
    Ok(found.ok_or_else(|| Skip(format!("the host has none of {known:?}")))?)
}

async fn permissions(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, vec![device("/dev/spare", spare()?, "rm")]).await?;
    let complaint = bench.complained(&id, &["open", "/dev/spare"]).await?;
    ensure!(complaint.contains("os error 1)"), "{complaint}");
    bench.said(&id, &["open-to-read", "/dev/spare"]).await.map(drop)
}

async fn without_making(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, vec![device("/dev/spare", spare()?, "rw")]).await?;
    bench.said(&id, &["open", "/dev/spare"]).await.map(drop)
}

async fn not_given(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, Vec::new()).await?;
    for path in [LOG, "/dev/mem", "/dev/fuse", "/dev/loop-control"] {
        bench.complained(&id, &["open-to-read", path]).await.context(path)?;
    }
    Ok(())
}

async fn missing(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let devices = vec![device("/dev/it", "/dev/no-such-device", "rwm")];
    let config = v1::ContainerConfig { devices, ..bench.container(&pod, &["wait"]) };
    ensure!(bench.run(&pod, config).await.is_err(), "it was started");
    Ok(())
}

async fn privileged(bench: &Bench) -> anyhow::Result<()> {
    ensure!(Path::new(LOG).exists(), "the host has no {LOG}");
    let mut config = bench.pod_config();
    if let Some(context) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
        context.privileged = true;
    }
    let pod = bench.run_pod(config).await?;
    let id = bench.ready(&pod, bench.secured(&pod, &["wait"], |it| it.privileged = true)).await?;
    bench.said(&id, &["open-to-read", LOG]).await.map(drop)
}

async fn of_exec(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, vec![device("/dev/given", "/dev/full", "rw")]).await?;
    equal("the device", bench.said(&id, &["stat", "/dev/given"]).await?.ends_with(" device"), true)?;
    bench.said(&id, &["open", "/dev/given"]).await?;
    let complaint = bench.complained(&id, &["block-device", "/tmp/disk", "8", "0"]).await?;
    ensure!(complaint.contains("os error 1)"), "{complaint}");
    Ok(())
}

/// A specification where runtimes look for them; removed again.
struct Specification(PathBuf);

impl Specification {
    fn write(bench: &Bench, mounted: &Path) -> anyhow::Result<Self> {
        let dir = Path::new("/var/run/cdi");
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let made = Self(dir.join(format!("pintle-{}.json", bench.mark)));
        let text = serde_json::json!({
            "cdiVersion": "0.5.0",
            "kind": format!("{}.example/device", bench.mark),
            "containerEdits": { "env": ["FROM_CDI=kind"] },
            "devices": [{ "name": "one", "containerEdits": {
                "env": ["OF_DEVICE=one"],
                "deviceNodes": [{ "path": "/dev/of-cdi", "hostPath": "/dev/full" }],
                "mounts": [{ "hostPath": mounted, "containerPath": "/of-cdi", "options": ["ro", "bind"] }],
            } }],
        });
        std::fs::write(&made.0, text.to_string()).context("writing a CDI specification")?;
        Ok(made)
    }
}

impl Drop for Specification {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn cdi(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_modern("CDI_devices")?;
    let mounted = bench.dir()?.join("of-cdi");
    std::fs::write(&mounted, "a library")?;
    for_all_containers(&mounted)?;
    let _kept = Specification::write(bench, &mounted)?;
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.cdi_devices = vec![v1::CdiDevice { name: format!("{}.example/device=one", bench.mark) }];
    let id = bench.ready(&pod, config).await?;
    let environment = bench.said(&id, &["env"]).await?;
    for demanded in ["FROM_CDI=kind", "OF_DEVICE=one"] {
        ensure!(environment.lines().any(|line| line == demanded), "no {demanded} in {environment:?}");
    }
    bench.said(&id, &["open", "/dev/of-cdi"]).await?;
    equal("the mounted file", bench.said(&id, &["cat", "/of-cdi"]).await?, "a library")
}

async fn cdi_unknown(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_modern("CDI_devices")?;
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.cdi_devices = vec![v1::CdiDevice { name: "no-such.example/device=one".into() }];
    ensure!(bench.run(&pod, config).await.is_err(), "it was started");
    Ok(())
}
