//! `objects`: ConfigMaps of 1 KiB created over several connections, listed one after the other and many at once.
//!
//! Must not know: how watches are measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::cluster::Cluster;
use crate::processes::{Meter, Selection};
use crate::report::Report;
use crate::samples::Samples;
use crate::watches;

/// Lists one after the other.
const SINGLE_LISTS: usize = 5;

pub async fn measure(
    arguments: &Arguments,
    cluster: &Cluster,
    stack: &Selection,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = cluster.namespace().await?;
    let result = in_namespace(arguments, cluster, stack, &namespace, report).await;
    // Without a controller manager nothing else would remove them.
    let emptied = cluster.within("removing the ConfigMaps", remove_all(cluster, &namespace)).await;
    let removed = cluster.remove_namespace(&namespace).await;
    result.and(emptied).and(removed)
}

async fn in_namespace(
    arguments: &Arguments,
    cluster: &Cluster,
    stack: &Selection,
    namespace: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (count, connections) = (arguments.objects, arguments.connections);
    report.did(format!("objects: {count} ConfigMaps of 1 KiB over {connections} connections, then lists of them"));
    let meter = Meter::begin(stack);
    let path = path(namespace);
    let creates = Creates { path: path.clone(), prefix: "listed", count };
    let (samples, took) = cluster.within("creates", create(cluster, &creates, connections, |_| ())).await?;
    let cpu = meter.end();
    report.figure("objects", "creates", samples.len() as f64 / took.as_secs_f64(), "/s");
    report.percentiles("objects", "create", &samples);
    if cpu > 0.0 {
        report.figure("objects", "CPU of the stack per create", cpu / count.max(1) as f64, "ms");
    }
    lists(arguments, cluster, &path, report).await?;
    watches::measure(arguments, cluster, &path, report).await
}

/// ConfigMaps to create: `PREFIX-NUMBER` from 0.
pub struct Creates {
    /// The collection's path.
    pub path: String,
    pub prefix: &'static str,
    pub count: usize,
}

/// Creates them, each connection one at a time; the requests' times, and that of all together. `before` learns each
/// number just before its request goes out.
pub async fn create(
    cluster: &Cluster,
    creates: &Creates,
    connections: usize,
    before: impl Fn(usize) + Clone + Send + 'static,
) -> anyhow::Result<(Samples, Duration)> {
    let (next, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let clients = clients(cluster, connections).await?;
    let began = Instant::now();
    for client in clients {
        let (path, prefix, count) = (creates.path.clone(), creates.prefix, creates.count);
        let (next, before) = (next.clone(), before.clone());
        tasks.spawn(async move {
            let mut samples = Samples::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(samples);
                }
                let request = http::Request::post(&path).header("Content-Type", "application/json");
                let request = request.body(Body::from(config_map(prefix, number)))?;
                before(number);
                let sent = Instant::now();
                answer(&client, request).await?;
                samples.add(sent.elapsed());
            }
        });
    }
    let mut samples = Samples::default();
    while let Some(done) = tasks.join_next().await {
        samples.extend(done??);
    }
    Ok((samples, began.elapsed()))
}

/// Clients whose connections are open already.
async fn clients(cluster: &Cluster, count: usize) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        let client = cluster.client()?;
        answer(&client, http::Request::get("/readyz").body(Body::empty())?).await?;
        clients.push(client);
    }
    Ok(clients)
}

async fn lists(arguments: &Arguments, cluster: &Cluster, path: &str, report: &mut Report) -> anyhow::Result<()> {
    let (client, mut samples, mut bytes) = (clients(cluster, 1).await?.remove(0), Samples::default(), 0);
    for _ in 0..SINGLE_LISTS {
        let began = Instant::now();
        bytes = answer(&client, http::Request::get(path).body(Body::empty())?).await?.len();
        samples.add(began.elapsed());
    }
    let count = arguments.objects;
    report.figure("objects", format!("list of {count}"), bytes as f64 / 1e6, "MB");
    let median = samples.percentile(50.0).context("no list was made")?;
    report.figure("objects", format!("list of {count}, p50"), median, "ms");
    let took = cluster.within("lists at once", lists_at_once(arguments, cluster, path)).await?;
    let (lists, at_once) = (arguments.lists as f64, arguments.lists_at_once);
    report.figure("objects", format!("lists of {count}, {at_once} at once"), lists / took.as_secs_f64(), "/s");
    Ok(())
}

async fn lists_at_once(arguments: &Arguments, cluster: &Cluster, path: &str) -> anyhow::Result<Duration> {
    let (left, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let clients = clients(cluster, arguments.lists_at_once).await?;
    let began = Instant::now();
    for client in clients {
        let (left, path, lists) = (left.clone(), path.to_owned(), arguments.lists);
        tasks.spawn(async move {
            while left.fetch_add(1, Ordering::Relaxed) < lists {
                answer(&client, http::Request::get(&path).body(Body::empty())?).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}

/// The answer's body, read to its end and not looked at: the client costs as little as it can.
///
/// # Errors
/// The request fails or is refused.
pub async fn answer(client: &Client, request: http::Request<Body>) -> anyhow::Result<Bytes> {
    let response = client.send(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}

async fn remove_all(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    answer(&cluster.client()?, http::Request::delete(path(namespace)).body(Body::empty())?).await?;
    Ok(())
}

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// A ConfigMap with 1 KiB of data, as JSON.
fn config_map(prefix: &str, number: usize) -> Vec<u8> {
    let (name, data) = (format!("{prefix}-{number}"), "x".repeat(1024));
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "value": data },
    });
    object.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_has_its_name_and_a_kib_of_data() {
        let value: serde_json::Value = serde_json::from_slice(&config_map("listed", 7)).unwrap();
        assert_eq!(value["metadata"]["name"], "listed-7");
        assert_eq!(value["data"]["value"].as_str().map(str::len), Some(1024));
    }
}
