//! Runs the suite: images served and pulled, tests side by side, everything removed again, whatever became of them.
//!
//! Must not know: any one demand, how a report is shown.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::{FutureExt as _, StreamExt as _};
use pintle_cri::v1;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, MARK, STOP_SOON, Shared};
use crate::controllers::Controllers;
use crate::demand::{Demand, Selection, Skip, image};
use crate::registry::Registry;
use crate::report::{Outcome, Report, Verdict};
use crate::{demands, images};

/// Within which one test must end; its clean-up has as much again.
const WITHIN: Duration = Duration::from_secs(90);

/// What stands in the way of a runtime that takes every registry for one with TLS.
const PLAIN: &str = "from the suite's own registry, which speaks plain HTTP on 127.0.0.1 (CRI-O wants location = \
                     \"127.0.0.1\" with insecure = true in /etc/containers/registries.conf)";

/// How the suite is run.
#[derive(Debug)]
pub struct Options {
    pub selection: Selection,
    /// Who makes cgroups, where the runtime does not tell it; nothing is cgroupfs, as for kubelets.
    pub cgroup_driver: Option<v1::CgroupDriver>,
    /// How many tests at once, at least one.
    pub parallel: usize,
    /// Logs of containers and files of tests; must be the same path for the runtime. Removed at the end.
    pub dir: PathBuf,
    /// Ends the run before its time: what it made is removed all the same.
    pub stop: CancellationToken,
}

/// Runs the chosen tests; `told` hears of each as it ends.
///
/// # Errors
/// What no test can do without fails: the registry, the images' pulls, the runtime's status; or the runtime tells another
/// cgroup driver than the options; or the run was stopped. A test that fails is no error but in the report.
pub async fn run(
    runtime: pintle_cri::Runtime,
    options: &Options,
    mut told: impl FnMut(&Verdict),
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let prepared = tokio::time::timeout(WITHIN, prepare(runtime, options)).await;
    let shared = Arc::new(prepared.context("the runtime did not take the images in time")??);
    std::fs::create_dir_all(&options.dir).with_context(|| format!("making {}", options.dir.display()))?;
    let run = format!("run-{}-", std::process::id());
    let chosen: Vec<_> = demands::all().into_iter().filter(|one| options.selection.takes(one.name)).collect();
    let tests = chosen.iter().enumerate().map(|(number, demand)| {
        let bench = Bench::new(shared.clone(), format!("{run}{number}"));
        async move { judge(demand, bench).await }
    });
    let ended = futures::stream::iter(tests).buffer_unordered(options.parallel.max(1));
    let mut ended = Box::pin(ended.take_until(options.stop.cancelled()));
    let mut verdicts = Vec::new();
    while let Some(verdict) = ended.next().await {
        told(&verdict);
        verdicts.push(verdict);
    }
    drop(ended);
    // a sandbox may have come up after its test gave up on it
    let last = async {
        sweep(&shared, |mark| mark.starts_with(&run)).await;
        forget_images(&shared).await;
    };
    // what hangs now was told of by its test
    let _ = tokio::time::timeout(WITHIN, last).await;
    std::fs::remove_dir_all(&options.dir).with_context(|| format!("removing {}", options.dir.display()))?;
    ensure!(!options.stop.is_cancelled(), "stopped after {} of {} tests", verdicts.len(), chosen.len());
    verdicts.sort_by_key(|one| chosen.iter().position(|demand| demand.name == one.name));
    Ok(Report::new(&shared.runtime.version, verdicts, started.elapsed()))
}

async fn prepare(runtime: pintle_cri::Runtime, options: &Options) -> anyhow::Result<Shared> {
    let told = runtime.told_cgroup_driver().await.context("asking the runtime for its cgroup driver")?;
    let cgroup_driver = cgroup_driver(told, options.cgroup_driver)?;
    let registry = Registry::start(images::all()).await?;
    let mut cri = runtime.runtime.clone();
    let told = cri.status(v1::StatusRequest { verbose: false }).await.context("Status")?.into_inner();
    let mut conditions = told.status.iter().flat_map(|status| &status.conditions);
    let pod_network = conditions.any(|one| one.r#type == "NetworkReady" && one.status);
    let configuration = cri.runtime_config(v1::RuntimeConfigRequest {}).await;
    let modern = !configuration.is_err_and(|status| status.code() == tonic::Code::Unimplemented);
    for name in images::FOR_ALL {
        let request = v1::PullImageRequest { image: Some(image(&registry.tagged(name))), ..Default::default() };
        let pulled = runtime.images.clone().pull_image(request).await;
        pulled.with_context(|| format!("pulling {} {PLAIN}", registry.tagged(name)))?;
    }
    let (controllers, dir) = (Controllers::of_machine(), options.dir.clone());
    Ok(Shared { runtime, registry, pod_network, told, modern, cgroup_driver, controllers, dir })
}

/// What the runtime tells; what was said of it, where it tells nothing.
fn cgroup_driver(told: Option<v1::CgroupDriver>, said: Option<v1::CgroupDriver>) -> anyhow::Result<v1::CgroupDriver> {
    let name = |driver: v1::CgroupDriver| driver.as_str_name().to_lowercase();
    match (told, said) {
        (Some(told), Some(said)) if told != said => {
            let (told, said) = (name(told), name(said));
            bail!(
                "the runtime tells that its cgroup driver is {told}: it cannot be tested as one whose driver is {said}"
            )
        }
        (told, said) => Ok(told.or(said).unwrap_or(v1::CgroupDriver::Cgroupfs)),
    }
}

async fn judge(demand: &'static Demand, bench: Bench) -> Verdict {
    let started = Instant::now();
    let test = AssertUnwindSafe((demand.test)(&bench)).catch_unwind();
    let outcome = match tokio::time::timeout(WITHIN, test).await {
        Err(_) => Outcome::Failed(format!("did not end within {} s", WITHIN.as_secs())),
        Ok(Err(_)) => Outcome::Failed("the test itself broke (panic)".into()),
        Ok(Ok(Ok(()))) => Outcome::Passed,
        Ok(Ok(Err(error))) => match error.downcast_ref::<Skip>() {
            Some(Skip(reason)) => Outcome::Skipped(reason.clone()),
            None => Outcome::Failed(format!("{error:#}")),
        },
    };
    let took = started.elapsed();
    let swept = tokio::time::timeout(WITHIN, sweep(&bench.shared, |mark| mark == bench.mark)).await;
    let outcome = match (outcome, swept) {
        (Outcome::Passed, Ok(Some(left))) => Outcome::Failed(format!("cannot be cleaned up: {left}")),
        (Outcome::Passed, Err(_)) => Outcome::Failed("cannot be cleaned up in time".into()),
        (outcome, _) => outcome,
    };
    Verdict { name: demand.name, demand: demand.demand, source: demand.source, outcome, took }
}

/// Stops and removes the sandboxes with such marks; says what went wrong last.
pub async fn sweep(shared: &Shared, is_ours: impl Fn(&str) -> bool) -> Option<String> {
    let mut cri = shared.runtime.runtime.clone();
    let listed = match cri.list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await {
        Ok(listed) => listed.into_inner().items,
        Err(status) => return Some(format!("ListPodSandbox: {}", status.message())),
    };
    let mut wrong = None;
    for sandbox in listed.into_iter().filter(|one| one.labels.get(MARK).is_some_and(|mark| is_ours(mark))) {
        if let Err(status) = shared.runtime.stop_sandbox(&sandbox.id, STOP_SOON).await {
            wrong = Some(format!("StopPodSandbox: {}", status.message()));
        }
        if let Err(status) = shared.runtime.remove_sandbox(&sandbox.id, STOP_SOON).await {
            wrong = Some(format!("RemovePodSandbox: {}", status.message()));
        }
    }
    wrong
}

/// Best effort: an image that stays does no harm to the next run, whose registry has another port.
async fn forget_images(shared: &Shared) {
    let mut images = shared.runtime.images.clone();
    let Ok(listed) = images.list_images(v1::ListImagesRequest { filter: None }).await else { return };
    let ours = |name: &String| shared.registry.is_here(name);
    for one in listed.into_inner().images {
        if one.repo_tags.iter().chain(&one.repo_digests).any(ours) {
            let _ = images.remove_image(v1::RemoveImageRequest { image: Some(image(&one.id)) }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::CgroupDriver::{Cgroupfs, Systemd};

    #[test]
    fn the_runtime_knows_its_cgroup_driver_best() {
        assert_eq!(cgroup_driver(Some(Systemd), None).unwrap(), Systemd);
        assert_eq!(cgroup_driver(Some(Systemd), Some(Systemd)).unwrap(), Systemd);
        assert_eq!(cgroup_driver(None, Some(Systemd)).unwrap(), Systemd);
        assert_eq!(cgroup_driver(None, None).unwrap(), Cgroupfs);
        let both = cgroup_driver(Some(Cgroupfs), Some(Systemd)).unwrap_err().to_string();
        assert!(both.contains("is cgroupfs: it cannot be tested as one whose driver is systemd"), "{both}");
    }
}
