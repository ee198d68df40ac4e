//! `pintle up`: checks the machine, then starts every part in one process and tells each step.
//!
//! Must not know: what any part does inside.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use pintle_apiserver::auth::UserInfo;

use crate::config::Config;
use crate::identity::Identity;
use crate::parts::{self, Parts};
use crate::preflight;
use crate::progress::{Progress, say};

/// The last progress line begins with this.
pub const READY: &str = "Ready";
/// How long parts may take to put down what they hold.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the cluster until SIGINT or SIGTERM. Containers keep running afterwards.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let progress = Progress::start();
    let _only = only_one(&config)?;
    progress.step("preflight", async { check(&config) }).await?;
    let cancel = pintle_daemon::shutdown::on_signals()?;
    let mut parts = Parts::new(cancel.child_token());
    let result = tokio::select! {
        started = start(&config, &progress, &mut parts) => started,
        () = cancel.cancelled() => Ok(()),
    };
    let result = match result {
        // told to stop, the parts end by themselves: that is no failure of theirs
        Ok(()) => tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            error = parts.failed() => Err(error),
        },
        Err(error) => Err(error),
    };
    if tokio::time::timeout(DRAIN, parts.stop()).await.is_err() {
        tracing::warn!("some parts did not stop in time and were ended");
    }
    result
}

/// Holds the lock and the pid file as long as the process lives.
fn only_one(config: &Config) -> anyhow::Result<nix::fcntl::Flock<fs::File>> {
    let path = config.run_dir.join("pintle.pid");
    fs::create_dir_all(&config.run_dir)
        .with_context(|| format!("making {} (are you root?)", config.run_dir.display()))?;
    let open = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = open.with_context(|| format!("opening {}", path.display()))?;
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|_| {
        let pid = fs::read_to_string(&path).unwrap_or_default();
        anyhow::anyhow!("pintle runs already (pid {}): `pintle down` stops it", pid.trim())
    })?;
    lock.set_len(0)?;
    (&*lock).write_all(std::process::id().to_string().as_bytes())?;
    Ok(lock)
}

fn check(config: &Config) -> anyhow::Result<()> {
    crate::machine::load_modules();
    let problems = preflight::problems(&preflight::look(config));
    anyhow::ensure!(problems.is_empty(), "this machine cannot run a cluster yet:\n  - {}", problems.join("\n  - "));
    Ok(())
}

async fn start(config: &Config, progress: &Progress, parts: &mut Parts) -> anyhow::Result<()> {
    let identity = progress.step("certificates and keys", async { Identity::prepare(config) }).await?;
    let cluster = progress.step("API server", parts::apiserver(config, identity, parts)).await?;
    parts::control_plane(config, &cluster, parts)?;
    let runtime = progress.step("container runtime", parts::runtime(config, parts)).await?;
    parts::node(config, &cluster, runtime.clone(), parts)?;
    let admin = cluster.client(UserInfo::apiserver());
    progress.step("cluster DNS", parts::dns_service(config, admin.clone())).await?;
    progress.step("pod network", parts::pod_network(config, admin.clone(), &runtime)).await?;
    progress.step("node Ready", parts::node_ready(config, admin)).await?;
    farewell(config, progress);
    Ok(())
}

fn farewell(config: &Config, progress: &Progress) {
    say(&format!("\n  kubeconfig: {}", config.kubeconfig.display()));
    if crate::machine::program("kubectl").is_none() {
        say("  kubectl is not on this machine: any kubectl from 1.35 to 1.37 works with this file");
    }
    say(&format!("  Next: kubectl --kubeconfig {} get nodes\n", config.kubeconfig.display()));
    say(&format!("{READY} in {}.", progress.elapsed()));
}
