//! Jobs and CronJobs.
//!
//! Must not know: controllers.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1 as batch;

use super::{fill, pod_spec};
use crate::field::Errors;
use crate::kinds::Rules;
use crate::validation::workloads;

pub(super) struct Job;

impl Rules for Job {
    type Object = batch::Job;

    fn defaults(job: &mut batch::Job) {
        let spec = job.spec.get_or_insert_default();
        fill_spec_fields(spec);
        fill::value(&mut spec.completion_mode, "NonIndexed".to_owned());
        fill::value(&mut spec.suspend, false);
        let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        fill::value(&mut spec.pod_replacement_policy, replacement.to_owned());
        fill::value(&mut spec.manual_selector, false);
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        fill::value(&mut spec.parallelism, 1);
        let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        fill::value(&mut spec.backoff_limit, limit);
        if job.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) {
            job.metadata.labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone());
        }
    }

    fn prepare_create(job: &mut batch::Job) {
        let spec = job.spec.get_or_insert_default();
        if spec.manual_selector == Some(true) {
            return;
        }
        let (uid, name) = (job.metadata.uid.clone(), job.metadata.name.clone());
        let (uid, name) = (uid.unwrap_or_default(), name.unwrap_or_default());
        let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
        for (key, value) in [("controller-uid", &uid), ("job-name", &name)] {
            // the names without prefix are older; users and dashboards still select by them
            labels.insert(key.to_owned(), value.clone());
            labels.insert(format!("batch.kubernetes.io/{key}"), value.clone());
        }
        let selector = spec.selector.get_or_insert_default();
        let wanted = selector.match_labels.get_or_insert_with(BTreeMap::new);
        wanted.entry("batch.kubernetes.io/controller-uid".to_owned()).or_insert(uid);
    }

    fn validate(object: &batch::Job, errors: &mut Errors) {
        workloads::job(object, errors);
    }

    fn validate_update(new: &batch::Job, old: &batch::Job, _subresource: &str, errors: &mut Errors) {
        workloads::job_update(new, old, errors);
    }
}

/// What the specs of Jobs and of CronJobs' templates share: the pod template and the failure policy's patterns.
fn fill_spec_fields(spec: &mut batch::JobSpec) {
    pod_spec::fill_template(&mut spec.template);
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| policy.rules.iter_mut());
    for pattern in rules.flat_map(|rule| fill::each(&mut rule.on_pod_conditions)) {
        fill::text(&mut pattern.status, "True");
    }
}

pub(super) struct CronJob;

impl Rules for CronJob {
    type Object = batch::CronJob;

    fn defaults(cron: &mut batch::CronJob) {
        let spec = &mut cron.spec;
        fill_spec_fields(spec.job_template.spec.get_or_insert_default());
        fill::text(&mut spec.concurrency_policy, "Allow");
        fill::value(&mut spec.suspend, false);
        fill::value(&mut spec.successful_jobs_history_limit, 3);
        fill::value(&mut spec.failed_jobs_history_limit, 1);
    }

    fn validate(object: &batch::CronJob, errors: &mut Errors) {
        workloads::cron_job(object, errors);
    }
}
