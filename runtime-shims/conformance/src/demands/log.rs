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
