//! `pods`: one pod from create to Ready, then a Deployment from count to count, seen by watch.
//!
//! Must not know: how the node runs containers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{Stream, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::arguments::Arguments;
use crate::cluster::Cluster;
use crate::memory::{cpu, total_mib};
use crate::processes::Selection;
use crate::report::Report;
use crate::samples::{Samples, milliseconds};

/// How often the single pod is made; the first of all brings the image and does not count.
const SINGLE_PODS: usize = 5;
const NAME: &str = "bench";

pub async fn measure(
    arguments: &Arguments,
    cluster: &Cluster,
    stack: &Selection,
    report: &mut Report,
) -> anyhow::Result<()> {
    // Lives until the pods are gone: they may be pulled from it.
    let (image, _registry) = image(arguments).await?;
    report.about("image", &image);
    let namespace = cluster.namespace().await?;
    let result = in_namespace(arguments, cluster, (&namespace, &image), stack, report).await;
    result.and(cluster.remove_namespace(&namespace).await)
}

/// The pods' image, and the registry it comes from, unless one is named.
///
/// # Errors
/// There is no registry, or nothing to make an image from.
pub async fn image(arguments: &Arguments) -> anyhow::Result<(String, Option<pintle_harness::Registry>)> {
    if let Some(image) = &arguments.image {
        return Ok((image.clone(), None));
    }
    let registry = pintle_harness::Registry::start().await.context("an image of our own (--image names another)")?;
    let images = pintle_harness::images::build_and_push(&registry).await?;
    Ok((images.shell, Some(registry)))
}

async fn in_namespace(
    arguments: &Arguments,
    cluster: &Cluster,
    (namespace, image): (&str, &str),
    stack: &Selection,
    report: &mut Report,
) -> anyhow::Result<()> {
    cluster.service_account(namespace).await?;
    let pods = Api::<Pod>::namespaced(cluster.client()?, namespace);
    let events = Box::pin(watcher(pods.clone(), watcher::Config::default()));
    let mut seen = Seen::new(events);
    cluster.within("the watch", seen.until(|seen| seen.listed)).await?;
    one_at_a_time(cluster, &pods, image, &mut seen, report).await?;
    let deployments = Api::<Deployment>::namespaced(cluster.client()?, namespace);
    deployments.create(&PostParams::default(), &deployment(image)?).await?;
    let mut now = 0;
    for next in arguments.scale.iter().copied() {
        let step = format!("Deployment {now} to {next}");
        report.did(format!("pods: {step}"));
        let took = cluster.within(&step, scale(&deployments, next, &mut seen)).await?;
        let what = if next == 0 { "all gone" } else { "all Ready" };
        report.figure("pods", format!("{step}, {what}"), took.as_secs_f64(), "s");
        report.percentiles("pods", &format!("{step}, pod created to Ready"), &seen.take_samples());
        let memory = total_mib(stack);
        if next > 0 && memory > 0.0 {
            report.figure("pods", format!("PSS, all, with {next} pods"), memory, "MiB");
            let used = cpu(stack, arguments.window()).await;
            report.figure("pods", format!("CPU, all, with {next} pods"), used, "ms/s");
        }
        now = next;
    }
    Ok(())
}

async fn one_at_a_time<S>(
    cluster: &Cluster,
    pods: &Api<Pod>,
    image: &str,
    seen: &mut Seen<S>,
    report: &mut Report,
) -> anyhow::Result<()>
where
    S: Stream<Item = watcher::Result<Event<Pod>>> + Unpin,
{
    report.did(format!("pods: one for its image, then {SINGLE_PODS} one after the other"));
    let mut samples = Samples::default();
    for number in 0..=SINGLE_PODS {
        let name = format!("single-{number}");
        let began = Instant::now();
        pods.create(&PostParams::default(), &pod(&name, image)?).await?;
        cluster.within("one pod Ready", seen.until(|seen| seen.ready() == 1)).await?;
        if number > 0 {
            samples.add(began.elapsed());
        }
        pods.delete(&name, &DeleteParams::default()).await?;
        cluster.within("one pod gone", seen.until(|seen| seen.pods.is_empty())).await?;
    }
    let median = samples.percentile(50.0).context("no pod was made")?;
    report.figure("pods", format!("one pod, create to Ready, p50 of {SINGLE_PODS}"), median, "ms");
    let slowest = samples.into_iter().max().map(milliseconds).unwrap_or_default();
    report.figure("pods", "one pod, create to Ready, slowest", slowest, "ms");
    seen.take_samples();
    Ok(())
}

/// Asks for the replicas and waits until exactly as many are there, Ready.
async fn scale<S>(deployments: &Api<Deployment>, replicas: u32, seen: &mut Seen<S>) -> anyhow::Result<Duration>
where
    S: Stream<Item = watcher::Result<Event<Pod>>> + Unpin,
{
    let began = Instant::now();
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    deployments.patch(NAME, &PatchParams::default(), &patch).await?;
    let wanted = replicas as usize;
    seen.until(|seen| seen.ready() == wanted && seen.pods.len() == wanted).await?;
    Ok(began.elapsed())
}

/// The namespace's pods as the watch tells of them, by UID.
struct Seen<S> {
    events: S,
    listed: bool,
    pods: HashMap<String, Times>,
    samples: Samples,
}

struct Times {
    created: Instant,
    ready: bool,
    /// Whether its create to Ready was counted: a pod may be Ready more than once.
    counted: bool,
}

impl<S: Stream<Item = watcher::Result<Event<Pod>>> + Unpin> Seen<S> {
    fn new(events: S) -> Self {
        Self { events, listed: false, pods: HashMap::new(), samples: Samples::default() }
    }

    /// Reads events until it is so.
    async fn until(&mut self, so: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        while !so(self) {
            let event = self.events.try_next().await?.context("the watch ended")?;
            self.note(event, Instant::now());
        }
        Ok(())
    }

    fn note(&mut self, event: Event<Pod>, now: Instant) {
        match event {
            Event::Init => self.pods.clear(),
            Event::InitDone => self.listed = true,
            Event::Delete(pod) => drop(self.pods.remove(&uid(&pod))),
            Event::Apply(pod) | Event::InitApply(pod) => {
                let times = self.pods.entry(uid(&pod)).or_insert(Times { created: now, ready: false, counted: false });
                times.ready = is_ready(&pod);
                if times.ready && !times.counted {
                    times.counted = true;
                    self.samples.add(now - times.created);
                }
            }
        }
    }

    fn ready(&self) -> usize {
        self.pods.values().filter(|times| times.ready).count()
    }

    fn take_samples(&mut self) -> Samples {
        std::mem::take(&mut self.samples)
    }
}

fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let going = pod.metadata.deletion_timestamp.is_some();
    !going && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn spec(image: &str) -> serde_json::Value {
    json!({ "containers": [{ "name": "main", "image": image, "imagePullPolicy": "IfNotPresent" }] })
}

pub fn pod(name: &str, image: &str) -> anyhow::Result<Pod> {
    Ok(serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec(image) }))?)
}

fn deployment(image: &str) -> anyhow::Result<Deployment> {
    let labels = json!({ "app": NAME });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": NAME },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec(image) },
        },
    }))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(uid: &str, ready: &str) -> Event<Pod> {
        let status = json!({ "conditions": [{ "type": "Ready", "status": ready }] });
        Event::Apply(serde_json::from_value(json!({ "metadata": { "uid": uid }, "status": status })).unwrap())
    }

    #[test]
    fn a_pod_counts_once_from_its_first_event_to_ready() {
        let (mut seen, began) = (Seen::new(futures::stream::empty()), Instant::now());
        for (at, ready) in [(0, "False"), (40, "True"), (50, "False"), (60, "True")] {
            seen.note(told("a", ready), began + Duration::from_millis(at));
        }
        assert_eq!(seen.ready(), 1);
        assert_eq!(seen.take_samples().percentile(50.0), Some(40.0));
        assert_eq!(seen.take_samples().len(), 0);
    }

    #[test]
    fn pods_are_told_apart_by_uid_and_leave_when_deleted() {
        let (mut seen, now) = (Seen::new(futures::stream::empty()), Instant::now());
        seen.note(told("a", "True"), now);
        seen.note(told("b", "True"), now);
        let Event::Apply(gone) = told("a", "True") else { unreachable!() };
        seen.note(Event::Delete(gone), now);
        assert_eq!((seen.ready(), seen.pods.len()), (1, 1));
    }
}
