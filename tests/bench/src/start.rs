//! `start`: from a command until the cluster can be used.
//!
//! Must not know: which stack the command starts.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::arguments::Arguments;
use crate::cluster::Cluster;
use crate::report::Report;

/// How often a cluster that does not answer yet is asked: nothing tells of it before it answers.
const ASK: Duration = Duration::from_millis(5);
/// How long a started command may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// The command's process group. Dropping it stops it.
pub struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id() as i32);
        let began = Instant::now();
        // It may have ended by itself.
        let _ = killpg(group, Signal::SIGTERM);
        while began.elapsed() < STOP {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Starts the cluster, which runs until what is returned is dropped.
///
/// # Errors
/// A cluster answers already, the command ends, or one of the three things does not come in time.
pub async fn measure(arguments: &Arguments, command: &str, report: &mut Report) -> anyhow::Result<Started> {
    anyhow::ensure!(ready(arguments).await.is_none(), "a cluster answers already: its start cannot be measured");
    let (image, _registry) = crate::pods::image(arguments).await?;
    let began = Instant::now();
    let mut started = Started(spawn(command)?);
    let client = until(arguments, &mut started, "/readyz", || ready(arguments)).await?;
    report.figure("start", "command to /readyz", began.elapsed().as_secs_f64(), "s");
    until(arguments, &mut started, "a Ready node", || node_ready(&client)).await?;
    report.figure("start", "command to node Ready", began.elapsed().as_secs_f64(), "s");
    until(arguments, &mut started, "the default service account", || default_account(&client)).await?;
    report.figure("start", "command to default service account", began.elapsed().as_secs_f64(), "s");
    first_pod(arguments, &client, (&image, began), report).await?;
    report.did(format!("start: ran `{command}`, asked every {ASK:?}"));
    Ok(started)
}

/// The first pod of the cluster; unless an image is named that the node has, its time includes the pull.
async fn first_pod(
    arguments: &Arguments,
    client: &Client,
    (image, began): (&str, Instant),
    report: &mut Report,
) -> anyhow::Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &crate::pods::pod("first", image)?).await?;
    let ready = |pod: Option<&Pod>| pod.is_some_and(crate::pods::is_ready);
    tokio::time::timeout(arguments.timeout(), await_condition(pods.clone(), "first", ready)).await??;
    report.figure("start", "command to first pod Ready", began.elapsed().as_secs_f64(), "s");
    pods.delete("first", &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

fn spawn(command: &str) -> anyhow::Result<Child> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    shell.spawn().with_context(|| format!("starting `{command}`"))
}

/// Asks until there is an answer.
async fn until<T, F>(arguments: &Arguments, started: &mut Started, what: &str, ask: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    while began.elapsed() < arguments.timeout() {
        let asked = tokio::time::timeout(arguments.timeout(), ask()).await;
        if let Ok(Some(answer)) = asked {
            return Ok(answer);
        }
        if let Some(status) = started.0.try_wait()? {
            anyhow::bail!("the command ended before {what} was there: {status}");
        }
        tokio::time::sleep(ASK).await;
    }
    anyhow::bail!("{what}: not there after {:?}", arguments.timeout())
}

/// A client once /readyz answers. The kubeconfig is read anew each time: the command may write it.
async fn ready(arguments: &Arguments) -> Option<Client> {
    let client = Cluster::new(&arguments.kubeconfig, arguments.timeout()).await.ok()?.client().ok()?;
    let request = http::Request::get("/readyz").body(Vec::new()).ok()?;
    client.request_text(request).await.ok()?;
    Some(client)
}

async fn node_ready(client: &Client) -> Option<()> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.ok()?;
    let ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    nodes.items.iter().any(ready).then_some(())
}

async fn default_account(client: &Client) -> Option<()> {
    Api::<ServiceAccount>::namespaced(client.clone(), "default").get("default").await.ok().map(|_| ())
}
