//! Commands in running containers.
//!
//! Must not know: how the streaming protocols work.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use crate::bench::{Bench, command};
use crate::demand::{Demand, equal};

pub const DEMANDS: &[Demand] = &[
    demand!("exec/output", "a command's two streams are told apart", "runtime.v1 ExecSync.stdout, stderr", output),
    demand!("exec/exit-code", "a command's exit code is told", "runtime.v1 ExecSync.exit_code", exit_code),
    demand!(
        "exec/much-output",
        "a megabyte of output comes whole",
        "runtime.v1 ExecSync.stdout; containers' probes and hooks",
        much_output
    ),
    demand!(
        "exec/environment",
        "a command has the container's environment, working directory and namespaces",
        "runtime.v1 ExecSync",
        environment
    ),
    demand!(
        "exec/timeout",
        "a command that takes longer than its time is ended, and its call fails or tells a failure",
        "runtime.v1 ExecSync.timeout; probes' timeoutSeconds",
        timeout
    ),
    demand!(
        "exec/missing-command",
        "a command that is not there is an error or an exit code other than 0, and the container goes on",
        "runtime.v1 ExecSync",
        missing_command
    ),
    demand!(
        "exec/timeout-code",
        "the call of a command that takes too long is refused with DeadlineExceeded, or tells an exit code that is not 0",
        "kubelet's probes: ErrCommandTimedOut and CodeExitError are failures, any other error is none",
        timeout_code
    ),
    demand!(
        "exec/no-timeout",
        "a timeout of 0 is none",
        "runtime.v1 ExecSyncRequest.timeout: 0 for no limit; lifecycle hooks",
        no_timeout
    ),
    demand!("exec/input-ends", "a command's input ends at once", "runtime.v1 ExecSync: no stdin", input_ends),
    demand!(
        "exec/flood",
        "a flood of output ends the call or is cut, and neither the container nor the runtime suffers",
        "runtime.v1 ExecSync: at most 16 MiB; CVE-2022-31030",
        flood
    ),
    demand!(
        "exec/many",
        "twenty commands at once each have their own output and exit code",
        "kubelet: probes of a container run at once",
        many
    ),
    demand!(
        "exec/crash",
        "a command that a signal ended has the exit code 128 and the signal's number",
        "runtime.v1 ExecSyncResponse.exit_code",
        crash
    ),
    demand!("exec/survives", "commands still run after one was ended by its timeout", "kubelet's probes", survives),
    demand!("exec/not-running", "nothing runs in a container that has exited", "runtime.v1 ExecSync", not_running),
    demand!(
        "exec/url",
        "exec, attach and port forwarding are given a URL",
        "runtime.v1 Exec, Attach, PortForward",
        url
    ),
];

async fn output(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let done = bench.exec(&id, &["both", "out", "err"]).await?;
    equal("stdout", String::from_utf8_lossy(&done.stdout).as_ref(), "out\n")?;
    equal("stderr", String::from_utf8_lossy(&done.stderr).as_ref(), "err\n")
}

async fn exit_code(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    for code in [0, 1, 42] {
        equal("the exit code", bench.exec(&id, &["exit", &code.to_string()]).await?.exit_code, code)?;
    }
    Ok(())
}

async fn much_output(bench: &Bench) -> anyhow::Result<()> {
    const MUCH: usize = 1 << 20;
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let done = bench.exec(&id, &["long", &MUCH.to_string()]).await?;
    equal("the length", done.stdout.len(), MUCH + 1)
}

async fn environment(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.working_dir = "/tmp".into();
    config.envs = vec![v1::KeyValue { key: "OWN".into(), value: "value".into() }];
    let id = bench.run(&pod, config).await?;
    let told = bench.said(&id, &["env"]).await?;
    ensure!(told.lines().any(|line| line == "OWN=value"), "no OWN in {told:?}");
    equal("the working directory", bench.said(&id, &["cwd"]).await?, "/tmp")?;
    let first = bench.said(&id, &["cat", "/proc/1/cmdline"]).await?;
    equal("the first process", first.trim_end_matches('\0'), "/program\0wait")
}

async fn timeout(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let request = v1::ExecSyncRequest { container_id: id.clone(), cmd: command(&["stubborn"]), timeout: 1 };
    cut_short(bench.cri().exec_sync(request).await.map(tonic::Response::into_inner))?;
    let gone = async || {
        let processes = bench.said(&id, &["ls", "/proc"]).await?;
        // the container's first process and this `ls`
        Ok(processes.lines().filter(|name| name.parse::<u32>().is_ok()).count() == 2)
    };
    bench.until("the command is gone", gone).await
}

async fn missing_command(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let request = v1::ExecSyncRequest { container_id: id.clone(), cmd: vec!["/no/such/program".into()], timeout: 20 };
    if let Ok(done) = bench.cri().exec_sync(request).await {
        ensure!(done.into_inner().exit_code != 0, "it went well");
    }
    equal("the state", bench.status(&id).await?.state(), v1::ContainerState::ContainerRunning)
}

async fn not_running(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["exit", "0"])).await?;
    bench.exited(&id).await?;
    ensure!(bench.exec(&id, &["out", "x"]).await.is_err(), "it ran");
    Ok(())
}

async fn url(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let container_id = id.clone();
    let exec = v1::ExecRequest { container_id, cmd: command(&["cwd"]), stdout: true, ..Default::default() };
    let exec = bench.cri().exec(exec).await.context("Exec")?.into_inner().url;
    let attach = v1::AttachRequest { container_id: id, stdout: true, ..Default::default() };
    let attach = bench.cri().attach(attach).await.context("Attach")?.into_inner().url;
    let forward = v1::PortForwardRequest { pod_sandbox_id: pod.id, port: vec![80] };
    let forward = bench.cri().port_forward(forward).await.context("PortForward")?.into_inner().url;
    for url in [exec, attach, forward] {
        ensure!(url.starts_with("http://") || url.starts_with("https://"), "{url:?} is no URL");
    }
    Ok(())
}

async fn late(bench: &Bench, id: &str) -> Result<v1::ExecSyncResponse, tonic::Status> {
    let request = v1::ExecSyncRequest { container_id: id.into(), cmd: command(&["stubborn"]), timeout: 1 };
    bench.cri().exec_sync(request).await.map(tonic::Response::into_inner)
}

/// What a probe takes for a failure.
fn cut_short(answer: Result<v1::ExecSyncResponse, tonic::Status>) -> anyhow::Result<()> {
    match answer {
        Ok(done) => ensure!(done.exit_code != 0, "it went well"),
        Err(status) => {
            equal(&format!("the code ({})", status.message()), status.code(), tonic::Code::DeadlineExceeded)?
        }
    }
    Ok(())
}

async fn timeout_code(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    cut_short(late(bench, &id).await)
}

async fn no_timeout(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let request = v1::ExecSyncRequest { container_id: id, cmd: command(&["spin", "300"]), timeout: 0 };
    equal("the exit code", bench.cri().exec_sync(request).await?.into_inner().exit_code, 0)
}

async fn input_ends(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    equal("what it reads", bench.said(&id, &["stdin"]).await?.as_str(), "")
}

async fn flood(bench: &Bench) -> anyhow::Result<()> {
    const FLOOD: usize = 40 << 20;
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    if let Ok(done) = bench.exec(&id, &["long", &FLOOD.to_string()]).await {
        ensure!(done.stdout.len() <= 16 << 20, "{} bytes came", done.stdout.len());
    }
    equal("what another command says", bench.said(&id, &["out", "x"]).await?.as_str(), "x")?;
    equal("the state", bench.status(&id).await?.state(), v1::ContainerState::ContainerRunning)
}

async fn many(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let one = async |number: u32| {
        let (out, err) = (format!("out {number}"), format!("err {number}"));
        let done = bench.exec(&id, &["both-and-exit", &out, &err, &number.to_string()]).await?;
        equal("stdout", String::from_utf8_lossy(&done.stdout).trim_end(), out.as_str())?;
        equal("stderr", String::from_utf8_lossy(&done.stderr).trim_end(), err.as_str())?;
        equal("the exit code", done.exit_code, number.cast_signed())
    };
    futures::future::try_join_all((0..20).map(one)).await.map(drop)
}

async fn crash(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    equal("the exit code", bench.exec(&id, &["crash"]).await?.exit_code, 139)
}

async fn survives(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    cut_short(late(bench, &id).await)?;
    equal("what another command says", bench.said(&id, &["out", "x"]).await?.as_str(), "x")?;
    equal("the state", bench.status(&id).await?.state(), v1::ContainerState::ContainerRunning)
}
