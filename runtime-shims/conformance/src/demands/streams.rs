//! Streams behind the URLs of exec and attach, in both protocols.
//!
//! Must not know: how the protocols work.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use crate::bench::{Bench, command};
use crate::demand::{Demand, equal};
use crate::remote::{Command, WebSocket, text, until};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "exec/streams",
        "a command reads what is sent to it, its two streams come apart, and its exit code last",
        "runtime.v1 Exec.url; remotecommand v4.channel.k8s.io",
        streams
    ),
    demand!(
        "exec/streams-success",
        "a command that goes well ends with a status that says so",
        "remotecommand v4.channel.k8s.io: status Success on the error stream",
        success
    ),
    demand!(
        "exec/streams-much",
        "a megabyte through a command comes back whole, byte for byte",
        "runtime.v1 Exec.url; kubectl cp",
        much
    ),
    demand!(
        "exec/streams-missing-command",
        "a command that is not there is told as an error, and the container goes on",
        "remotecommand v4.channel.k8s.io: error stream",
        missing
    ),
    demand!(
        "exec/terminal",
        "with a terminal, the command has one for input and output",
        "runtime.v1 ExecRequest.tty",
        terminal
    ),
    demand!(
        "exec/resize",
        "the client's sizes become the terminal's, as they change",
        "remotecommand: resize stream; kubectl exec -it",
        resize
    ),
    demand!("exec/url-once", "a URL is good for one session", "kubelet's streaming server: single-use tokens", once),
    demand!(
        "exec/websocket",
        "the same over WebSocket: three channels and the exit code",
        "remotecommand v4.channel.k8s.io over WebSocket",
        websocket
    ),
    demand!(
        "exec/websocket-half-close",
        "a WebSocket's client closes a command's input, and hears the rest",
        "remotecommand v5.channel.k8s.io; kubectl cp",
        websocket_half_close
    ),
    demand!(
        "attach/session",
        "one who attaches talks with the container's process, and the log has it too",
        "runtime.v1 Attach.url; ContainerConfig.stdin, stdin_once",
        attach
    ),
    demand!(
        "attach/output",
        "one who attaches sees what the container prints, and can leave; the container goes on",
        "runtime.v1 Attach.stdout; kubectl attach",
        attach_output
    ),
    demand!(
        "attach/two",
        "two who are attached at once see the same",
        "runtime.v1 Attach: any number of clients",
        attach_two
    ),
    demand!(
        "attach/input-stays-open",
        "where input is not for one client only, the next one who attaches goes on with it",
        "runtime.v1 ContainerConfig.stdin_once: false",
        attach_again
    ),
    demand!(
        "attach/terminal",
        "one who attaches to a terminal sizes it",
        "runtime.v1 AttachRequest.tty; kubectl run -it",
        attach_terminal
    ),
    demand!(
        "attach/exited",
        "a container that has exited is not attached to",
        "runtime.v1 Attach; kubelet's attach",
        attach_exited
    ),
];

/// The URL of a command with input.
async fn exec_url(bench: &Bench, id: &str, words: &[&str], tty: bool) -> anyhow::Result<String> {
    let (container_id, cmd) = (id.to_owned(), command(words));
    let request = v1::ExecRequest { container_id, cmd, stdin: true, stdout: true, stderr: !tty, tty };
    Ok(bench.cri().exec(request).await.context("Exec")?.into_inner().url)
}

/// A session with a command in a new container.
async fn exec(bench: &Bench, words: &[&str], tty: bool) -> anyhow::Result<Command> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    Command::open(&exec_url(bench, &id, words, tty).await?, true, tty).await
}

async fn streams(bench: &Bench) -> anyhow::Result<()> {
    let mut session = exec(bench, &["echo", "9"], false).await?;
    session.say("hello").await?;
    session.close_stdin().await?;
    equal("stdout", text(session.stdout).await?.as_str(), "hello")?;
    equal("stderr", text(session.stderr.context("no stderr")?).await?.as_str(), "ends\n")?;
    let status = text(session.error).await?;
    ensure!(status.contains("NonZeroExitCode") && status.contains("\"9\""), "the error stream said {status:?}");
    Ok(())
}

async fn success(bench: &Bench) -> anyhow::Result<()> {
    let session = exec(bench, &["out", "x"], false).await?;
    equal("stdout", text(session.stdout).await?.as_str(), "x\n")?;
    let status = text(session.error).await?;
    ensure!(status.contains("\"status\":\"Success\""), "the error stream said {status:?}");
    Ok(())
}

async fn much(bench: &Bench) -> anyhow::Result<()> {
    let mut session = exec(bench, &["echo", "0"], false).await?;
    let sent: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let stdin = session.stdin.as_mut().context("no stdin")?;
    stdin.writer.send(sent.clone().into()).await?;
    stdin.writer.finish().await?;
    let came = crate::remote::all(session.stdout).await?;
    ensure!(came == sent, "{} bytes came back, and not those {} that were sent", came.len(), sent.len());
    Ok(())
}

async fn missing(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let request = v1::ExecRequest {
        container_id: id.clone(),
        cmd: vec!["/no/such/program".into()],
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let url = bench.cri().exec(request).await.context("Exec")?.into_inner().url;
    let session = Command::open(&url, false, false).await?;
    let status = text(session.error).await?;
    ensure!(status.contains("Failure"), "the error stream said {status:?}");
    equal("the state", bench.status(&id).await?.state(), v1::ContainerState::ContainerRunning)
}

async fn terminal(bench: &Bench) -> anyhow::Result<()> {
    let session = exec(bench, &["terminals"], true).await?;
    equal("what they are", text(session.stdout).await?.trim_end(), "terminal terminal terminal")
}

async fn resize(bench: &Bench) -> anyhow::Result<()> {
    let mut session = exec(bench, &["size", "132"], true).await?;
    session.resize(101, 41).await?;
    until(&mut session.stdout, "size 41 101").await?;
    session.resize(132, 43).await?;
    until(&mut session.stdout, "size 43 132").await?;
    let status = text(session.error).await?;
    ensure!(status.contains("Success"), "the error stream said {status:?}");
    Ok(())
}

async fn once(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let url = exec_url(bench, &id, &["out", "x"], false).await?;
    let session = Command::open(&url, true, false).await?;
    equal("stdout", text(session.stdout).await?.as_str(), "x\n")?;
    ensure!(crate::remote::upgrade(&url, "v4.channel.k8s.io").await.is_err(), "the URL was good twice");
    Ok(())
}

async fn websocket(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let cmd = command(&["both-and-exit", "to out", "to err", "9"]);
    let request = v1::ExecRequest { container_id: id, cmd, stdout: true, stderr: true, ..Default::default() };
    let url = bench.cri().exec(request).await.context("Exec")?.into_inner().url;
    let [out, err, status] = WebSocket::open(&url, "v4.channel.k8s.io").await?.all().await?;
    equal("stdout", out.as_str(), "to out\n")?;
    equal("stderr", err.as_str(), "to err\n")?;
    ensure!(status.contains("NonZeroExitCode") && status.contains("\"9\""), "the error channel said {status:?}");
    Ok(())
}

async fn websocket_half_close(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let url = exec_url(bench, &id, &["echo", "0"], false).await?;
    let mut session = WebSocket::open(&url, "v5.channel.k8s.io").await?;
    session.say("hel").await?;
    session.say("lo").await?;
    session.close_stdin().await?;
    let [out, err, status] = session.all().await?;
    equal("stdout and stderr", (out.as_str(), err.as_str()), ("hello", "ends\n"))?;
    ensure!(status.contains("Success"), "the error channel said {status:?}");
    Ok(())
}

async fn attached(bench: &Bench, id: &str, stdin: bool, tty: bool) -> anyhow::Result<Command> {
    let request = v1::AttachRequest { container_id: id.into(), stdin, tty, stdout: true, stderr: !tty };
    let url = bench.cri().attach(request).await.context("Attach")?.into_inner().url;
    Command::open(&url, stdin, tty).await
}

async fn attach(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["stdin"]);
    (config.stdin, config.stdin_once) = (true, true);
    let id = bench.run(&pod, config).await?;
    let mut session = attached(bench, &id, true, false).await?;
    session.say("said\n").await?;
    session.close_stdin().await?;
    equal("what comes back", text(session.stdout).await?.as_str(), "said\n")?;
    equal("the exit code", bench.exited(&id).await?.exit_code, 0)?;
    equal("the log", bench.log(&pod, "main.log").as_str(), "said\n")
}

async fn attach_output(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["every", "10"])).await?;
    let mut session = attached(bench, &id, false, false).await?;
    let seen = line(&until(&mut session.stdout, "0\n").await?);
    drop(session);
    let later = format!("line {}\n", seen + 40);
    bench.until("the log goes on", async || Ok(bench.log(&pod, "main.log").contains(&later))).await?;
    equal("the state", bench.status(&id).await?.state(), v1::ContainerState::ContainerRunning)
}

async fn attach_two(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["every", "10"])).await?;
    let (mut first, mut second) =
        (attached(bench, &id, false, false).await?, attached(bench, &id, false, false).await?);
    // both are attached once both have seen a line, however long that took
    let seen = [until(&mut first.stdout, "0\n").await?, until(&mut second.stdout, "0\n").await?];
    let later = format!("line {}\n", seen.iter().map(|text| line(text)).max().unwrap_or_default() + 40);
    until(&mut first.stdout, &later).await?;
    until(&mut second.stdout, &later).await.map(drop)
}

/// The number of the last whole line.
fn line(text: &str) -> u32 {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.rsplit("line ").next().and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

async fn attach_again(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { stdin: true, ..bench.container(&pod, &["repeat"]) };
    let id = bench.ready(&pod, config).await?;
    for (line, answer) in [("one\n", "got one\n"), ("two\n", "got two\n")] {
        let mut session = attached(bench, &id, true, false).await?;
        session.say(line).await?;
        until(&mut session.stdout, answer).await?;
        session.close_stdin().await?;
    }
    equal("the log", bench.log(&pod, "main.log").as_str(), "ready\ngot one\ngot two\n")
}

async fn attach_terminal(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { stdin: true, tty: true, ..bench.container(&pod, &["size", "132"]) };
    let id = bench.run(&pod, config).await?;
    let mut session = attached(bench, &id, true, true).await?;
    session.resize(132, 43).await?;
    until(&mut session.stdout, "size 43 132").await?;
    equal("the exit code", bench.exited(&id).await?.exit_code, 0)
}

async fn attach_exited(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["exit", "0"])).await?;
    bench.exited(&id).await?;
    let request = v1::AttachRequest { container_id: id, stdout: true, ..Default::default() };
    let Ok(answer) = bench.cri().attach(request).await else { return Ok(()) };
    // a runtime may say so only in the session
    let Ok(session) = Command::open(&answer.into_inner().url, false, false).await else { return Ok(()) };
    let status = text(session.error).await?;
    ensure!(!status.contains("Success") && !status.is_empty(), "the error stream said {status:?}");
    Ok(())
}
