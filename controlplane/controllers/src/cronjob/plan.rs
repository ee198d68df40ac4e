//! What a CronJob does now: which Jobs to start, replace or forget, and its status.
//!
//! Must not know: the API, clocks.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::schedule::Schedule;
use crate::owner;

/// What to report about a CronJob: whether it is a warning, the reason, the message.
pub type Note = (bool, &'static str, String);

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub start: Option<Job>,
    pub delete: Vec<Arc<Job>>,
    /// Before the new Job is added to it.
    pub status: CronJobStatus,
    pub notes: Vec<Note>,
    pub again: Option<SignedDuration>,
}

/// How a Job ended.
pub fn ended(job: &Job) -> Option<&str> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends = conditions.filter(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True");
    ends.next().map(|condition| condition.type_.as_str())
}

pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    review(jobs, &mut plan);
    if cron.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    clean_up(cron, jobs, &mut plan);
    let spec = &cron.spec;
    if spec.suspend == Some(true) {
        return plan;
    }
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::system(),
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                plan.notes.push((true, "UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}")));
                return plan;
            }
        },
    };
    match Schedule::parse(&spec.schedule) {
        Ok(schedule) => {
            let due = due(cron, &schedule, &zone, now);
            plan.again = schedule.next(now, &zone).map(|next| next.duration_since(now));
            if let Some(due) = due {
                start(cron, jobs, due, &zone, now, &mut plan);
            }
        }
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            plan.notes.push((true, "UnparseableSchedule", message));
        }
    }
    plan
}

/// Brings the list of active Jobs up to date.
fn review(jobs: &[Arc<Job>], plan: &mut Plan) {
    let mut active = plan.status.active.take().unwrap_or_default();
    for job in jobs {
        let listed = active.iter().any(|one| one.uid == job.metadata.uid);
        let name = job.metadata.name.clone().unwrap_or_default();
        match ended(job) {
            Some(condition) => {
                if listed {
                    active.retain(|one| one.uid != job.metadata.uid);
                    let message = format!("Saw completed job: {name}, condition: {condition}");
                    plan.notes.push((false, "SawCompletedJob", message));
                }
                let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
                if condition == "Complete" && completed > plan.status.last_successful_time {
                    plan.status.last_successful_time = completed;
                }
            }
            None if !listed => {
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.notes.push((true, "UnexpectedJob", message));
            }
            None => {}
        }
    }
    active.retain(|one| {
        let present = jobs.iter().any(|job| job.metadata.uid == one.uid);
        if !present {
            let message = format!("Active job went missing: {}", one.name.as_deref().unwrap_or_default());
            plan.notes.push((false, "MissingJob", message));
        }
        present
    });
    plan.status.active = Some(active).filter(|active| !active.is_empty());
}

/// Deletes the oldest ended Jobs over the limits.
fn clean_up(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) {
    let spec = &cron.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    for (type_, limit) in limits {
        let mut all: Vec<&Arc<Job>> = jobs.iter().filter(|job| ended(job) == Some(type_)).collect();
        let started = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone());
        all.sort_by_key(|job| (started(job), job.metadata.name.clone()));
        let over = all.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        plan.delete.extend(all.into_iter().take(over).cloned());
    }
}

/// The latest time that has come and was not acted on.
fn due(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let since = last.or(cron.metadata.creation_timestamp.as_ref())?.0;
    schedule.latest(since, now, zone)
}

fn start(cron: &CronJob, jobs: &[Arc<Job>], due: Timestamp, zone: &TimeZone, now: Timestamp, plan: &mut Plan) {
    let spec = &cron.spec;
    let deadline = spec.starting_deadline_seconds.map(|seconds| due + SignedDuration::from_secs(seconds));
    if deadline.is_some_and(|deadline| deadline < now) {
        plan.notes.push((true, "MissSchedule", format!("Missed scheduled time to start a job: {due}")));
        return;
    }
    let job = new_job(cron, due, zone);
    if jobs.iter().any(|other| other.metadata.name == job.metadata.name) {
        return;
    }
    let running: Vec<&Arc<Job>> = jobs.iter().filter(|job| ended(job).is_none()).collect();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !running.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notes.push((false, "JobAlreadyActive", message.into()));
            return;
        }
        Some("Replace") => {
            plan.delete.extend(running.into_iter().cloned());
            plan.status.active = None;
        }
        _ => {}
    }
    plan.status.last_schedule_time = Some(Time(due));
    plan.start = Some(job);
}

/// Its name follows from the time, so that it cannot be started twice.
fn new_job(cron: &CronJob, due: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let name = cron.metadata.name.as_deref().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let time = due.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    annotations.insert("batch.kubernetes.io/cronjob-scheduled-timestamp".into(), time);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", due.as_second() / 60)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// How the status refers to a Job that was just started.
pub fn active_reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cron(spec: Value) -> CronJob {
        let mut all =
            json!({"schedule": "0 * * * *", "timeZone": "Etc/UTC", "jobTemplate": {"spec": {"template": {}}}});
        for (key, value) in spec.as_object().unwrap() {
            all[key] = value.clone();
        }
        let meta =
            json!({"name": "tick", "namespace": "default", "uid": "c", "creationTimestamp": "2026-01-01T09:30:00Z"});
        serde_json::from_value(json!({"metadata": meta, "spec": all})).unwrap()
    }

    fn job(name: &str, condition: Option<&str>) -> Arc<Job> {
        let conditions: Vec<Value> =
            condition.map(|type_| json!({"type": type_, "status": "True"})).into_iter().collect();
        let status = json!({"conditions": conditions, "startTime": "2026-01-01T09:00:00Z"});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "status": status})).unwrap())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_job_starts_when_its_time_has_come_and_only_once() {
        let mut cron = cron(json!({}));
        cron.spec.time_zone = None;
        let zone = TimeZone::UTC;
        let schedule = Schedule::parse("0 * * * *").unwrap();
        assert_eq!(due(&cron, &schedule, &zone, at("2026-01-01T09:59:00Z")), None);
        let time = due(&cron, &schedule, &zone, at("2026-01-01T10:00:03Z")).unwrap();
        let mut plan = Plan::default();
        start(&cron, &[], time, &zone, at("2026-01-01T10:00:03Z"), &mut plan);
        let started = plan.start.unwrap();
        assert_eq!(started.metadata.name.as_deref(), Some("tick-29454360"));
        let annotations = started.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-01-01T10:00:00Z");
        cron.status = Some(plan.status);
        assert_eq!(due(&cron, &schedule, &zone, at("2026-01-01T10:30:00Z")), None);
    }

    #[test]
    fn the_concurrency_policy_decides_while_a_job_still_runs() {
        let start_with = |policy: &str| {
            let mut plan = Plan::default();
            let (time, now) = (at("2026-01-01T10:00:00Z"), at("2026-01-01T10:00:01Z"));
            start(
                &cron(json!({"concurrencyPolicy": policy})),
                &[job("running", None)],
                time,
                &TimeZone::UTC,
                now,
                &mut plan,
            );
            (plan.start.is_some(), plan.delete.len())
        };
        assert_eq!(start_with("Allow"), (true, 0));
        assert_eq!(start_with("Forbid"), (false, 0));
        assert_eq!(start_with("Replace"), (true, 1));
    }

    #[test]
    fn ended_jobs_leave_the_active_list_and_old_ones_go() {
        let mut cron = cron(json!({"suspend": true, "successfulJobsHistoryLimit": 1}));
        let active = [active_reference(&job("a", None)), active_reference(&job("lost", None))];
        cron.status = Some(CronJobStatus { active: Some(active.to_vec()), ..CronJobStatus::default() });
        let plan = plan(&cron, &[job("a", Some("Complete")), job("b", Some("Complete"))], at("2026-01-01T10:00:00Z"));
        assert_eq!(plan.status.active, None);
        let reasons: Vec<&str> = plan.notes.iter().map(|note| note.1).collect();
        assert_eq!(reasons, ["SawCompletedJob", "MissingJob"]);
        assert_eq!(plan.delete.len(), 1);
    }

    #[test]
    fn a_missed_deadline_starts_nothing() {
        let mut plan = Plan::default();
        let (time, now) = (at("2026-01-01T10:00:00Z"), at("2026-01-01T10:10:00Z"));
        start(&cron(json!({"startingDeadlineSeconds": 60})), &[], time, &TimeZone::UTC, now, &mut plan);
        assert_eq!((plan.start, plan.notes[0].1), (None, "MissSchedule"));
    }
}
