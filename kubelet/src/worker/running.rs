//! A round of a pod that should run: report, plan, apply.
//!
//! Must not know: how a pod ends.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Next, Update, Worker};
use crate::apply::start::Place;
use crate::apply::{container_reference, pod_reference};
use crate::images::Wanted;
use crate::plan::actions::{self, Kill, KillReason, Plan, Snapshot, Start};
use crate::plan::pod as spec_of;
use crate::plan::restart::{BackOff, go_duration};
use crate::plan::retained;
use crate::plan::seen::Seen;

/// How soon a round that changed something looks at the result.
const AGAIN: Duration = Duration::ZERO;
/// How soon a failed step is tried again.
const RETRY: Duration = Duration::from_secs(10);

impl Worker {
    pub(super) async fn keep_running(&mut self, update: &Update, seen: Seen) -> anyhow::Result<Next> {
        let pod = update.pod.as_ref();
        let facts = self.facts(pod, &seen);
        self.note_progress(pod, &seen);
        self.probes.reconcile(pod, &seen, facts.pod_ips.first().map_or("", String::as_str), false);
        let plan = self.plan(pod, &seen);
        self.forget_settled(&plan, &seen);
        self.note_waits(pod, &plan);
        let status = self.report(update, &seen, false);
        if status.phase.as_deref().is_some_and(spec_of::is_terminal_phase) {
            return Ok(Next::Wait(AGAIN));
        }
        let changed = self.apply(pod, &plan, &seen).await?;
        self.remove_surplus(&seen).await?;
        if changed {
            return Ok(Next::Wait(AGAIN));
        }
        let resync = self.start.drivers.config.sync_frequency;
        let retry = (!self.waiting.is_empty()).then(|| self.retry(pod, &plan));
        let retry = retry.or(self.sizes.failed().then_some(RETRY));
        let deadline = self.until_deadline(pod);
        Ok(Next::Wait([Some(resync), plan.wake_after(), retry, deadline].into_iter().flatten().min().unwrap_or(resync)))
    }

    fn plan(&self, pod: &Pod, seen: &Seen) -> Plan {
        actions::plan(&Snapshot {
            pod,
            seen,
            probes: &self.probes.results(),
            given: &self.sizes.given.containers,
            backoffs: &self.backoffs,
            max_backoff: self.start.drivers.config.max_container_backoff,
            now: Timestamp::now(),
        })
    }

    /// When a container that waits for something else than its back-off is tried again.
    fn retry(&self, pod: &Pod, plan: &Plan) -> Duration {
        let spec = pod.spec.as_ref();
        let image = |start: &Start| {
            let (_, container) = spec_of::find_container(spec?, &start.name)?;
            let volumes = spec_of::image_volumes(spec?, &container);
            let wanted = volumes.iter().map(|(_, source)| Wanted::of_volume(source));
            let wanted = wanted.chain([Wanted::of_container(&container)]).map(|wanted| wanted.image);
            let waits = wanted.filter_map(|image| self.start.drivers.images.retry_after(pod, image));
            waits.filter(|wait| !wait.is_zero()).min()
        };
        let starts = plan.start.iter().filter(|start| start.wait.is_none());
        starts.map(|start| image(start).unwrap_or(RETRY)).min().unwrap_or(RETRY)
    }

    /// A reason to wait is over once its container runs or is not wanted any more.
    fn forget_settled(&mut self, plan: &Plan, seen: &Seen) {
        let running = |name: &str| seen.running().any(|one| one.name == name);
        self.waiting.retain(|name, _| {
            !running(name) && (plan.create_sandbox.is_some() || plan.start.iter().any(|start| start.name == *name))
        });
    }

    /// Containers in back-off wait for it, and say so once per back-off.
    fn note_waits(&mut self, pod: &Pod, plan: &Plan) {
        for start in &plan.start {
            let Some(wait) = &start.wait else { continue };
            let text = format!(
                "back-off {} restarting failed container={} pod={}",
                go_duration(wait.delay),
                start.name,
                spec_of::display(pod)
            );
            let reason = ("CrashLoopBackOff".to_string(), text);
            if self.waiting.insert(start.name.clone(), reason.clone()).as_ref() != Some(&reason) {
                let regarding = container_reference(pod, start.kind, &start.name);
                let message =
                    format!("Back-off restarting failed container {} in pod {}", start.name, spec_of::display(pod));
                self.start.drivers.recorder.warning(&regarding, "BackOff", message);
            }
        }
    }

    /// Carries the plan out; true when something changed.
    async fn apply(&mut self, pod: &Pod, plan: &Plan, seen: &Seen) -> anyhow::Result<bool> {
        let drivers = self.start.drivers.clone();
        if plan.end_pod && !seen.stopped() {
            if plan.create_sandbox.is_some() {
                drivers.recorder.normal(
                    &pod_reference(pod),
                    "SandboxChanged",
                    "Pod sandbox changed, it will be killed and re-created.",
                );
            }
            drivers.end_pod(pod, seen, spec_of::grace_seconds(pod)).await;
            return Ok(true);
        }
        self.kill(pod, plan, seen).await;
        let resized = self.fit(pod, plan, seen).await;
        let facts = self.facts(pod, seen);
        if !self.set_up_volumes(pod, &facts).await {
            return Ok(!plan.kill.is_empty() || resized);
        }
        if let Some(attempt) = plan.create_sandbox {
            let of = pod.clone();
            self.sandbox = Some(tokio::spawn(async move { drivers.create_sandbox(&of, attempt).await }));
            if let Err(message) = self.made_sandbox().await {
                anyhow::bail!("creating the sandbox of {}: {message}", spec_of::display(pod));
            }
            if attempt == 0 {
                self.start.measures.pod_started();
            }
            // its addresses are looked at before anything starts in it
            return Ok(true);
        }
        let started = self.start_containers(pod, plan, seen).await;
        Ok(started || !plan.kill.is_empty() || (resized && !self.sizes.failed()))
    }

    async fn kill(&mut self, pod: &Pod, plan: &Plan, seen: &Seen) {
        let host = seen.ready_sandbox().and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default();
        let drivers = &self.start.drivers;
        let one = |kill: &Kill| {
            let (found, host, message) = (seen.by_id(&kill.id).cloned(), host.clone(), kill.message.clone());
            let grace = probe_grace(pod, kill).unwrap_or_else(|| spec_of::grace_seconds(pod));
            async move {
                if let Some(found) = found {
                    drivers.kill_container(pod, &found, grace, Some(&message), &host).await;
                }
            }
        };
        join_all(plan.kill.iter().map(one)).await;
    }

    /// Makes the volumes, or says why not.
    async fn set_up_volumes(&mut self, pod: &Pod, facts: &crate::references::Facts) -> bool {
        let drivers = &self.start.drivers;
        match drivers.volumes.set_up(pod, facts).await {
            Ok(volumes) => {
                self.volumes = volumes;
                true
            }
            Err(errors) => {
                for error in errors {
                    let message =
                        format!("MountVolume.SetUp failed for volume \"{}\" : {}", error.volume, error.message);
                    drivers.recorder.warning(&pod_reference(pod), "FailedMount", message);
                }
                // whatever makes it possible later wakes the worker, or the next try does
                self.volumes = drivers.volumes.watch_all(pod);
                self.volumes.refresh = Some(RETRY);
                false
            }
        }
    }

    /// Starts what is not in back-off, one after the other; true when something started.
    async fn start_containers(&mut self, pod: &Pod, plan: &Plan, seen: &Seen) -> bool {
        let Some(sandbox) = seen.ready_sandbox() else { return false };
        let drivers = self.start.drivers.clone();
        let config = match drivers.sandbox_config(pod, sandbox.attempt) {
            Ok(config) => config,
            Err(why) => {
                tracing::warn!(pod = spec_of::display(pod), "no container starts: {why}");
                return false;
            }
        };
        let facts = self.facts(pod, seen);
        let mut started = false;
        for start in plan.start.iter().filter(|start| start.wait.is_none()) {
            self.note_restart(start);
            let place =
                Place { pod, seen, sandbox_id: &sandbox.id, sandbox: &config, volumes: &self.volumes, facts: &facts };
            self.sizes.started(pod, &start.name);
            match drivers.start_container(&place, start).await {
                Ok(()) => {
                    self.start.measures.container_started();
                    self.waiting.remove(&start.name);
                    started = true;
                }
                Err(reason) => {
                    let changed = self.waiting.insert(start.name.clone(), reason.clone()).as_ref() != Some(&reason);
                    // a new reason is worth a report at once
                    started |= changed;
                }
            }
        }
        started
    }

    /// The next failure of this container waits longer.
    fn note_restart(&mut self, start: &Start) {
        let Some(finished) = start.previous_end else { return };
        let max = self.start.drivers.config.max_container_backoff;
        let next = BackOff::next(self.backoffs.get(&start.name), finished, Timestamp::now(), max);
        self.backoffs.insert(start.name.clone(), next);
    }

    async fn remove_surplus(&self, seen: &Seen) -> anyhow::Result<()> {
        for container in retained::surplus_containers(seen) {
            self.start.drivers.remove_container(container).await?;
        }
        for sandbox in retained::surplus_sandboxes(seen) {
            self.start.drivers.remove_sandbox(sandbox).await?;
        }
        Ok(())
    }
}

/// A probe may have a grace period of its own.
fn probe_grace(pod: &Pod, kill: &Kill) -> Option<i64> {
    let (_, container) = spec_of::find_container(pod.spec.as_ref()?, &kill.name)?;
    match kill.reason {
        KillReason::LivenessProbe => container.liveness_probe?.termination_grace_period_seconds,
        KillReason::StartupProbe => container.startup_probe?.termination_grace_period_seconds,
        KillReason::DefinitionChanged | KillReason::Resize | KillReason::Unknown => None,
    }
}
