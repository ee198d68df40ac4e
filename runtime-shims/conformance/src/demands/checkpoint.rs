//! Checkpoints of containers.
//!
//! Must not know: CRIU's images.

use anyhow::{Context as _, ensure};
use pintle_cri::archive::tar;
use pintle_cri::v1;
use tonic::Code;

use super::demand;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, Skip, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "runtime/checkpoint",
        "writes a running container's checkpoint as one archive, where an OCI runtime of its handlers can; it runs on",
        "runtime.v1 CheckpointContainer; KEP-2008",
        written
    ),
    demand!(
        "runtime/checkpoint-of-what-runs",
        "refuses a checkpoint of what does not run, and writes nothing",
        "runtime.v1 CheckpointContainer; KEP-2008",
        only_of_what_runs
    ),
];

/// What every reader of such archives looks for, and a file in the folder of CRIU's images.
const PARTS: [&str; 4] = ["config.dump", "spec.dump", "rootfs-diff.tar", "checkpoint/inventory.img"];

async fn written(bench: &Bench) -> anyhow::Result<()> {
    let mut handlers: Vec<String> = bench.shared.told.runtime_handlers.iter().map(|one| one.name.clone()).collect();
    if handlers.is_empty() {
        handlers.push(String::new());
    }
    let (mut reasons, mut shown) = (Vec::new(), false);
    for handler in handlers {
        match by_handler(bench, &handler).await.with_context(|| format!("handler {handler:?}"))? {
            Some(reason) => reasons.push(format!("handler {handler:?}: {reason}")),
            None => shown = true,
        }
    }
    if shown { Ok(()) } else { Err(Skip(reasons.join("; ")).into()) }
}

/// Why the handler's OCI runtime cannot, where it cannot.
async fn by_handler(bench: &Bench, handler: &str) -> anyhow::Result<Option<String>> {
    let config = bench.pod_config();
    std::fs::create_dir_all(&config.log_directory)?;
    let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() };
    let id = bench.cri().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
    let pod = Pod { id, config };
    let id = bench.waiting(&pod).await?;
    bench.said(&id, &["write", "/written", "before"]).await?;
    let archive = bench.dir()?.join(format!("checkpoint-{handler}.tar"));
    let location = archive.display().to_string();
    let request = v1::CheckpointContainerRequest { container_id: id.clone(), location, timeout: 300 };
    if let Err(status) = bench.cri().checkpoint_container(request).await {
        return cannot(&status).map(Some).ok_or_else(|| status.into());
    }
    holds(&std::fs::read(&archive).context("the archive")?)?;
    let of = std::fs::metadata(&archive)?;
    equal("the archive's mode", std::os::unix::fs::PermissionsExt::mode(&of.permissions()) & 0o077, 0)?;
    equal("the state", bench.status(&id).await?.state(), v1::ContainerState::ContainerRunning)?;
    equal("what it says after that", bench.said(&id, &["cat", "/written"]).await?.as_str(), "before")?;
    bench.stop(&id, 20).await?;
    equal("the exit code", bench.exited(&id).await?.exit_code, 0)?;
    Ok(None)
}

fn cannot(status: &tonic::Status) -> Option<String> {
    let no_criu = status.message().contains("CRIU binary not found");
    let machine = status.code() == Code::FailedPrecondition && status.message().contains("CRIU");
    (no_criu || machine || status.code() == Code::Unimplemented).then(|| status.message().to_owned())
}

fn holds(archive: &[u8]) -> anyhow::Result<()> {
    let files = tar::files(archive).context("reading the archive")?;
    for part in PARTS {
        let (_, bytes) = files.iter().find(|(path, _)| path == part).with_context(|| format!("{part} is not in it"))?;
        ensure!(!bytes.is_empty(), "{part} is empty");
        // containerd's is compressed
        if let (true, Ok(files)) = (part == "rootfs-diff.tar", tar::files(bytes)) {
            let found = files.iter().find(|(path, _)| path == "written").map(|(_, bytes)| *bytes);
            equal("a file that the container wrote", found, Some(&b"before"[..]))?;
        }
    }
    Ok(())
}

async fn only_of_what_runs(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let created = bench.create(&pod, bench.container(&pod, &["wait"])).await?;
    let archive = bench.dir()?.join("refused.tar");
    for id in [created.as_str(), "no-such-container"] {
        let location = archive.display().to_string();
        let request = v1::CheckpointContainerRequest { container_id: id.into(), location, timeout: 30 };
        match bench.cri().checkpoint_container(request).await {
            Ok(_) => anyhow::bail!("a checkpoint of {id} was written"),
            Err(status) => cannot(&status).map_or(Ok(()), |reason| Err(Skip(reason)))?,
        }
        ensure!(!archive.exists(), "an archive of {id} is there");
    }
    Ok(())
}
