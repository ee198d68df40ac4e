//! Containers' logs, as `kubectl logs` and log shippers read them.
//!
//! Must not know: how they are written.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use pintle_cri::log::{Stream, parse};
use pintle_cri::v1;

use super::demand;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "log/format",
        "every line is a record with its time, its stream and the tag F",
        "kubelet's logs.parseCRILog",
        format
    ),
    demand!(
        "log/long-lines",
        "a line of 100,000 bytes is written in parts, tagged P but for the last, and comes together whole",
        "kubelet's logs.parseCRILog: LogTagPartial",
        long_lines
    ),
    demand!(
        "log/stopped",
        "what a container printed last before it ended is in the log once it has exited",
        "runtime.v1 ContainerConfig.log_path",
        stopped
    ),
    demand!(
        "log/reopen",
        "after a rename and ReopenContainerLog the log goes on in a new file, and no line is lost",
        "runtime.v1 ReopenContainerLog; kubelet's log rotation",
        reopen
    ),
    demand!(
        "log/bytes",
        "every byte comes as it was written, whether it is text or not; empty lines too",
        "kubelet's logs.parseCRILog",
        bytes
    ),
    demand!(
        "log/unfinished-line",
        "a last line without an end is in the log once the container has exited",
        "kubelet's logs.ReadLogs",
        unfinished
    ),
    demand!("log/much", "fifty thousand lines come whole and in order", "runtime.v1 ContainerConfig.log_path", much),
    demand!(
        "log/times",
        "the records' times rise, and lie between the container's start and end",
        "kubelet's logs.ReadLogs: since, kubectl logs --since",
        times
    ),
    demand!(
        "log/below",
        "a log may lie in a folder of the pod's log directory, which is there already",
        "kubelet's containerLogFileName: <name>/<attempt>.log",
        below
    ),
    demand!(
        "log/terminal",
        "what a terminal's container prints is in the log as stdout",
        "runtime.v1 ContainerConfig.tty, log_path",
        terminal
    ),
    demand!(
        "log/reopen-removed",
        "where the file was removed, ReopenContainerLog makes another",
        "runtime.v1 ReopenContainerLog; kubelet's log rotation",
        reopen_removed
    ),
    demand!("log/of-exec", "what commands in a container print is not in its log", "runtime.v1 ExecSync", of_exec),
    demand!("log/none", "a container without a log path runs", "runtime.v1 ContainerConfig.log_path: empty", none),
];

fn path(pod: &Pod) -> PathBuf {
    PathBuf::from(&pod.config.log_directory).join("main.log")
}

async fn written(bench: &Bench, words: &[&str]) -> anyhow::Result<Vec<u8>> {
    let pod = bench.pod().await?;
    bench.printed(&pod, bench.container(&pod, words)).await?;
    std::fs::read(path(&pod)).context("reading the log")
}

async fn format(bench: &Bench) -> anyhow::Result<()> {
    let bytes = written(bench, &["both", "to out", "to err"]).await?;
    let mut found = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let record = parse(line).with_context(|| format!("{:?}", String::from_utf8_lossy(line)))?;
        ensure!(!record.partial, "{:?} is partial", String::from_utf8_lossy(line));
        found.push((record.stream == Stream::Stdout, String::from_utf8_lossy(record.content).into_owned()));
    }
    found.sort();
    equal("the log", found, vec![(false, "to err\n".to_owned()), (true, "to out\n".to_owned())])
}

async fn long_lines(bench: &Bench) -> anyhow::Result<()> {
    const LENGTH: usize = 100_000;
    let bytes = written(bench, &["long", &LENGTH.to_string()]).await?;
    let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let mut whole = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let record = parse(line)?;
        equal("whether more follows", record.partial, number + 1 < lines.len())?;
        whole.extend_from_slice(record.content);
    }
    equal("the length of the line", whole.len(), LENGTH + 1)?;
    ensure!(lines.len() > 1, "it was written in one part");
    Ok(())
}

async fn stopped(bench: &Bench) -> anyhow::Result<()> {
    let bytes = written(bench, &["args", "first", "last"]).await?;
    let last = bytes.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    equal("the last line", String::from_utf8_lossy(parse(last)?.content).trim_end(), "last")
}

async fn reopen(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["every", "2"])).await?;
    bench.until("it writes", async || Ok(bench.log(&pod, "main.log").contains("line 5\n"))).await?;
    std::fs::rename(path(&pod), path(&pod).with_extension("old"))?;
    let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
    bench.cri().reopen_container_log(request).await.context("ReopenContainerLog")?;
    bench.until("it goes on", async || Ok(bench.log(&pod, "main.log").lines().count() > 5)).await?;
    bench.stop(&id, 0).await?;
    let text = bench.log(&pod, "main.old") + &bench.log(&pod, "main.log");
    for (number, line) in text.lines().enumerate() {
        equal("a line", line, format!("line {number}"))?;
    }
    Ok(())
}

async fn none(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { log_path: String::new(), ..bench.container(&pod, &["out", "x"]) };
    let id = bench.run(&pod, config).await?;
    equal("the exit code", bench.exited(&id).await?.exit_code, 0)
}

/// The contents of a log's records, partial ones joined.
fn contents(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut whole = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        whole.extend_from_slice(parse(line)?.content);
    }
    Ok(whole)
}

async fn bytes(bench: &Bench) -> anyhow::Result<()> {
    let found = contents(&written(bench, &["all-bytes"]).await?)?;
    let demanded: Vec<u8> = (0..=255).chain([b'\n']).collect();
    ensure!(found == demanded, "{found:?}");
    let found = contents(&written(bench, &["print", "a\n\n\nb\n"]).await?)?;
    equal("lines with empty ones", String::from_utf8_lossy(&found).as_ref(), "a\n\n\nb\n")
}

async fn unfinished(bench: &Bench) -> anyhow::Result<()> {
    let found = contents(&written(bench, &["print", "first\nlast"]).await?)?;
    equal("the log", String::from_utf8_lossy(&found).trim_end(), "first\nlast")
}

async fn much(bench: &Bench) -> anyhow::Result<()> {
    const LINES: usize = 50_000;
    let found = contents(&written(bench, &["lines", &LINES.to_string()]).await?)?;
    let text = String::from_utf8_lossy(&found);
    for (number, line) in text.lines().enumerate() {
        equal("a line", line, format!("line {number}"))?;
    }
    equal("how many lines there are", text.lines().count(), LINES)
}

async fn times(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["args", "a", "b", "c"])).await?;
    let status = bench.exited(&id).await?;
    let log = std::fs::read(path(&pod)).context("reading the log")?;
    let mut last = i128::from(status.created_at);
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let at = parse(line)?.timestamp.as_nanosecond();
        ensure!(at >= last, "{at} comes after {last}");
        last = at;
    }
    // the end is noted by another clock read, at about the same time
    let end = i128::from(status.finished_at) + 1_000_000_000;
    ensure!(last <= end, "the last record is of {last}, the end of {}", status.finished_at);
    Ok(())
}

async fn below(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    std::fs::create_dir_all(PathBuf::from(&pod.config.log_directory).join("main"))?;
    let config = v1::ContainerConfig { log_path: "main/0.log".into(), ..bench.container(&pod, &["out", "x"]) };
    equal("the log", bench.printed(&pod, config).await?.as_str(), "x\n")
}

async fn terminal(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { tty: true, stdin: true, ..bench.container(&pod, &["both", "one", "two"]) };
    bench.printed(&pod, config).await?;
    let log = std::fs::read(path(&pod)).context("reading the log")?;
    let mut found = String::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let record = parse(line)?;
        ensure!(record.stream == Stream::Stdout, "{:?} is of stderr", String::from_utf8_lossy(line));
        found.push_str(&String::from_utf8_lossy(record.content));
    }
    equal("the log", found.replace('\r', ""), "one\ntwo\n")
}

async fn reopen_removed(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["every", "2"])).await?;
    bench.until("it writes", async || Ok(bench.log(&pod, "main.log").contains("line 5\n"))).await?;
    std::fs::remove_file(path(&pod))?;
    let request = v1::ReopenContainerLogRequest { container_id: id };
    bench.cri().reopen_container_log(request).await.context("ReopenContainerLog")?;
    bench.until("it goes on", async || Ok(bench.log(&pod, "main.log").lines().count() > 5)).await
}

async fn of_exec(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    bench.said(&id, &["out", "of a command"]).await?;
    bench.stop(&id, 20).await?;
    equal("the log", bench.log(&pod, "main.log").as_str(), "ready\nsignal 15\n")
}
