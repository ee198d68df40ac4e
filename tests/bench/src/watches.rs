//! Many watchers, each on a connection of its own, while ConfigMaps are created.
//!
//! Must not know: how creates are timed for themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{AsyncBufRead, AsyncBufReadExt as _};
use kube::client::Body;
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::cluster::Cluster;
use crate::objects::{Creates, answer, create};
use crate::report::Report;
use crate::samples::Samples;

/// What the names of watched objects begin with.
const PREFIX: &str = "watched";

/// When each object's create went out, in nanoseconds since `began`.
struct Sent {
    began: Instant,
    at: Vec<AtomicU64>,
}

impl Sent {
    fn note(&self, number: usize) {
        if let Some(at) = self.at.get(number) {
            at.store(self.now(), Ordering::Release);
        }
    }

    fn since(&self, number: usize) -> Option<Duration> {
        let at = self.at.get(number)?.load(Ordering::Acquire);
        Some(Duration::from_nanos(self.now().saturating_sub(at)))
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

pub async fn measure(arguments: &Arguments, cluster: &Cluster, path: &str, report: &mut Report) -> anyhow::Result<()> {
    let (watchers, count) = (arguments.watchers, arguments.watched);
    if watchers == 0 || count == 0 {
        return Ok(());
    }
    report.did(format!("objects: {watchers} watchers while {count} ConfigMaps are created"));
    let at = (0..count).map(|_| AtomicU64::new(0)).collect();
    let sent = Arc::new(Sent { began: Instant::now(), at });
    let watching = cluster.within("opening watches", open(cluster, path, watchers, &sent)).await?;
    let creates = Creates { path: path.to_owned(), prefix: PREFIX, count };
    let notes = sent.clone();
    let began = Instant::now();
    let creating = create(cluster, &creates, arguments.connections, move |number| notes.note(number));
    let both = async { tokio::try_join!(creating, gather(watching)) };
    let (_, samples) = cluster.within("watches", both).await?;
    report.figure(
        "objects",
        format!("events to {watchers} watchers"),
        samples.len() as f64 / began.elapsed().as_secs_f64(),
        "/s",
    );
    report.percentiles("objects", &format!("create to event, {watchers} watchers"), &samples);
    Ok(())
}

/// Watches that have begun: whatever is created from now on reaches each of them.
async fn open(
    cluster: &Cluster,
    path: &str,
    watchers: usize,
    sent: &Arc<Sent>,
) -> anyhow::Result<JoinSet<anyhow::Result<Samples>>> {
    let mut tasks = JoinSet::new();
    let first = answer(&cluster.client()?, http::Request::get(format!("{path}?limit=1")).body(Body::empty())?).await?;
    let list: serde_json::Value = serde_json::from_slice(&first)?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("a list without a resourceVersion")?.to_owned();
    for _ in 0..watchers {
        let client = cluster.client()?;
        let uri = format!("{path}?watch=true&resourceVersion={revision}");
        let stream = client.request_stream(http::Request::get(uri).body(Vec::new())?).await?;
        let sent = sent.clone();
        tasks.spawn(async move {
            let _open = client;
            follow(stream, &sent).await
        });
    }
    Ok(tasks)
}

/// Reads events until that of every object was there; how long after its create each came.
async fn follow(stream: impl AsyncBufRead, sent: &Sent) -> anyhow::Result<Samples> {
    let mut stream = std::pin::pin!(stream);
    let (mut samples, mut line) = (Samples::default(), Vec::new());
    while samples.len() < sent.at.len() {
        line.clear();
        anyhow::ensure!(stream.read_until(b'\n', &mut line).await? > 0, "a watch ended early");
        samples.extend(number(&line).and_then(|number| sent.since(number)));
    }
    Ok(samples)
}

async fn gather(mut watching: JoinSet<anyhow::Result<Samples>>) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    while let Some(done) = watching.join_next().await {
        samples.extend(done??);
    }
    Ok(samples)
}

/// The number in the name of a watched object, found without parsing the event.
fn number(event: &[u8]) -> Option<usize> {
    let mark = format!("\"{PREFIX}-");
    let from = memchr::memmem::find(event, mark.as_bytes())? + mark.len();
    let digits = event.get(from..)?.split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_its_objects_number() {
        let event =
            br#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"watched-1204","namespace":"x"}}}"#;
        assert_eq!(number(event), Some(1204));
        assert_eq!(number(br#"{"type":"ADDED","object":{"metadata":{"name":"listed-7"}}}"#), None);
    }

    #[tokio::test]
    async fn a_watch_is_followed_until_every_object_came() {
        let sent = Sent { began: Instant::now(), at: vec![AtomicU64::new(0), AtomicU64::new(0)] };
        let events: &[u8] = b"{\"name\":\"watched-0\"}\n{\"type\":\"BOOKMARK\"}\n{\"name\":\"watched-1\"}\n";
        assert_eq!(follow(events, &sent).await.unwrap().len(), 2);
        assert!(follow(&events[..21], &sent).await.is_err());
    }
}
