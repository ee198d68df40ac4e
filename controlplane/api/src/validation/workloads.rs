//! Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs and CronJobs.
//!
//! Must not know: controllers.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{immutable, names, nonnegative, one_of, pod, selectors, shown, text};
use crate::field::{Error, Errors, Path};

fn spec_path() -> Path {
    Path::new("spec")
}

fn nonnegative_i32(value: Option<i32>, path: &Path, errors: &mut Errors) {
    nonnegative(value.map(i64::from), path, errors);
}

/// A workload's selector, and that its template's labels meet it. `kind` is what upstream calls it in words.
fn selector_and_template(
    selector: &LabelSelector,
    template: &core::PodTemplateSpec,
    kind: &str,
    path: &Path,
    errors: &mut Errors,
) {
    let at = path.child("selector");
    selectors::label_selector(selector, &at, errors);
    if selectors::is_empty(selector) {
        errors.push(Error::invalid(&at, shown(selector), format!("empty selector is invalid for {kind}")));
    } else {
        template_matches(selector, template, &path.child("template"), errors);
    }
    pod::template(template, &path.child("template"), errors);
}

fn template_matches(selector: &LabelSelector, template: &core::PodTemplateSpec, path: &Path, errors: &mut Errors) {
    let labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    if selectors::matches(selector, &labels) == Some(false) {
        let at = path.child("metadata").child("labels");
        errors.push(Error::invalid(&at, shown(&labels), "`selector` does not match template `labels`"));
    }
}

/// What runs for ever must restart always and have no deadline. `kind` is what upstream calls it.
fn runs_for_ever(template: &core::PodTemplateSpec, kind: &str, path: &Path, errors: &mut Errors) {
    let (Some(spec), at) = (&template.spec, path.child("template").child("spec")) else { return };
    let policy = text(&spec.restart_policy);
    if policy != "Always" {
        errors.push(Error::not_supported(&at.child("restartPolicy"), policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&at.child("activeDeadlineSeconds"), detail));
    }
}

pub(crate) fn deployment(deployment: &apps::Deployment, errors: &mut Errors) {
    let (Some(spec), path) = (&deployment.spec, spec_path()) else { return };
    nonnegative_i32(spec.replicas, &path.child("replicas"), errors);
    selector_and_template(&spec.selector, &spec.template, "deployment", &path, errors);
    runs_for_ever(&spec.template, "ReplicaSet", &path, errors);
    if let Some(strategy) = &spec.strategy {
        deployment_strategy(strategy, &path.child("strategy"), errors);
    }
    nonnegative_i32(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    nonnegative_i32(spec.revision_history_limit, &path.child("revisionHistoryLimit"), errors);
    if let Some(deadline) = spec.progress_deadline_seconds {
        let at = path.child("progressDeadlineSeconds");
        nonnegative_i32(Some(deadline), &at, errors);
        if deadline <= spec.min_ready_seconds.unwrap_or(0) {
            errors.push(Error::invalid(&at, deadline, "must be greater than minReadySeconds"));
        }
    }
}

fn deployment_strategy(strategy: &apps::DeploymentStrategy, path: &Path, errors: &mut Errors) {
    let at = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            errors.push(Error::forbidden(&at, "may not be specified when strategy `type` is 'Recreate'"));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.push(Error::required(&at, "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(rolling)) => {
            rolling_update(&rolling.max_unavailable, &rolling.max_surge, &at, errors);
        }
        _ => errors.push(Error::not_supported(path, shown(strategy), &["Recreate", "RollingUpdate"])),
    }
}

fn rolling_update(unavailable: &Option<IntOrString>, surge: &Option<IntOrString>, path: &Path, errors: &mut Errors) {
    let at = path.child("maxUnavailable");
    int_or_percent(unavailable, &at, errors);
    int_or_percent(surge, &path.child("maxSurge"), errors);
    if amount(unavailable) == 0 && amount(surge) == 0 {
        errors.push(Error::invalid(&at, shown(unavailable), "may not be 0 when `maxSurge` is 0"));
    }
    if is_percent(unavailable) && amount(unavailable) > 100 {
        errors.push(Error::invalid(&at, shown(unavailable), "must not be greater than 100%"));
    }
}

fn is_percent(value: &Option<IntOrString>) -> bool {
    matches!(value, Some(IntOrString::String(_)))
}

/// The number, without its percent sign.
fn amount(value: &Option<IntOrString>) -> i64 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => i64::from(*number),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(0),
    }
}

pub(crate) fn int_or_percent(value: &Option<IntOrString>, path: &Path, errors: &mut Errors) {
    match value {
        None => {}
        Some(IntOrString::Int(number)) => nonnegative_i32(Some(*number), path, errors),
        Some(IntOrString::String(text)) => super::invalid(names::percent(text), text, path, errors),
    }
}

pub(crate) fn deployment_update(new: &apps::Deployment, old: &apps::Deployment, errors: &mut Errors) {
    if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
        immutable(&new.selector, &old.selector, &spec_path().child("selector"), errors);
    }
}

pub(crate) fn replica_set(set: &apps::ReplicaSet, errors: &mut Errors) {
    let (Some(spec), path) = (&set.spec, spec_path()) else { return };
    nonnegative_i32(spec.replicas, &path.child("replicas"), errors);
    nonnegative_i32(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    let template = spec.template.clone().unwrap_or_default();
    // upstream says "deployment" here too
    selector_and_template(&spec.selector, &template, "deployment", &path, errors);
    runs_for_ever(&template, "ReplicaSet", &path, errors);
}

pub(crate) fn replica_set_update(new: &apps::ReplicaSet, old: &apps::ReplicaSet, errors: &mut Errors) {
    if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
        immutable(&new.selector, &old.selector, &spec_path().child("selector"), errors);
    }
}

pub(crate) fn replication_controller(controller: &core::ReplicationController, errors: &mut Errors) {
    let (Some(spec), path) = (&controller.spec, spec_path()) else { return };
    nonnegative_i32(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    nonnegative_i32(spec.replicas, &path.child("replicas"), errors);
    let selector = spec.selector.clone().unwrap_or_default();
    if selector.is_empty() {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    let Some(template) = &spec.template else {
        errors.push(Error::required(&path.child("template"), ""));
        return;
    };
    let selector = LabelSelector { match_labels: Some(selector), match_expressions: None };
    template_matches(&selector, template, &path.child("template"), errors);
    pod::template(template, &path.child("template"), errors);
    runs_for_ever(template, "ReplicationController", &path, errors);
}

pub(crate) fn daemon_set(set: &apps::DaemonSet, errors: &mut Errors) {
    let (Some(spec), path) = (&set.spec, spec_path()) else { return };
    selector_and_template(&spec.selector, &spec.template, "daemonset", &path, errors);
    runs_for_ever(&spec.template, "DaemonSet", &path, errors);
    nonnegative_i32(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    nonnegative_i32(spec.revision_history_limit, &path.child("revisionHistoryLimit"), errors);
    let Some(strategy) = &spec.update_strategy else { return };
    let at = path.child("updateStrategy");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(Error::required(&at.child("rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => {
            int_or_percent(&rolling.max_unavailable, &at.child("rollingUpdate").child("maxUnavailable"), errors);
            int_or_percent(&rolling.max_surge, &at.child("rollingUpdate").child("maxSurge"), errors);
            let both = [&rolling.max_unavailable, &rolling.max_surge].map(|value| amount(value) != 0);
            let detail = match both {
                [false, false] => "cannot be 0 when maxSurge is 0",
                [true, true] => "may not be set when maxUnavailable is non-zero",
                _ => return,
            };
            let field = if both[0] { "maxSurge" } else { "maxUnavailable" };
            let bad = if both[0] { &rolling.max_surge } else { &rolling.max_unavailable };
            errors.push(Error::invalid(&at.child("rollingUpdate").child(field), shown(bad), detail));
        }
        (other, _) => {
            errors.push(Error::not_supported(&at.child("type"), other, &["RollingUpdate", "OnDelete"]));
        }
    }
}

pub(crate) fn daemon_set_update(new: &apps::DaemonSet, old: &apps::DaemonSet, errors: &mut Errors) {
    if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
        immutable(&new.selector, &old.selector, &spec_path().child("selector"), errors);
    }
}

pub(crate) fn stateful_set(set: &apps::StatefulSet, errors: &mut Errors) {
    let (Some(spec), path) = (&set.spec, spec_path()) else { return };
    let policy = text(&spec.pod_management_policy);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let at = path.child("podManagementPolicy");
        errors.push(Error::invalid(&at, policy, "must be 'OrderedReady' or 'Parallel'"));
    }
    let strategy = spec.update_strategy.as_ref();
    if !matches!(strategy.map(|s| text(&s.type_)), None | Some("RollingUpdate" | "OnDelete")) {
        let at = path.child("updateStrategy");
        errors.push(Error::invalid(&at, shown(&strategy), "must be 'RollingUpdate' or 'OnDelete'"));
    }
    nonnegative_i32(spec.replicas, &path.child("replicas"), errors);
    nonnegative_i32(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    if !text(&spec.service_name).is_empty() {
        let service = text(&spec.service_name);
        super::invalid(names::dns1123_label(service), service, &path.child("serviceName"), errors);
    }
    selector_and_template(&spec.selector, &with_claims(spec), "statefulset", &path, errors);
    runs_for_ever(&spec.template, "StatefulSet", &path, errors);
}

/// The template as its pods will have it: with a volume for every claim template.
fn with_claims(spec: &apps::StatefulSetSpec) -> core::PodTemplateSpec {
    let mut template = spec.template.clone();
    let pod = template.spec.get_or_insert_default();
    let volumes = pod.volumes.get_or_insert_default();
    for name in spec.volume_claim_templates.iter().flatten().filter_map(|claim| claim.metadata.name.clone()) {
        volumes.retain(|volume| volume.name != name);
        let source = core::PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
        volumes.push(core::Volume { name, persistent_volume_claim: Some(source), ..core::Volume::default() });
    }
    template
}

pub(crate) fn stateful_set_update(new: &apps::StatefulSet, old: &apps::StatefulSet, errors: &mut Errors) {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
    let mut same = new.clone();
    same.replicas = old.replicas;
    same.template.clone_from(&old.template);
    same.update_strategy.clone_from(&old.update_strategy);
    same.min_ready_seconds = old.min_ready_seconds;
    same.ordinals.clone_from(&old.ordinals);
    same.revision_history_limit = old.revision_history_limit;
    same.persistent_volume_claim_retention_policy.clone_from(&old.persistent_volume_claim_retention_policy);
    if same != *old {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                      'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                      'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&spec_path(), detail));
    }
}

pub(crate) fn job(job: &batch::Job, errors: &mut Errors) {
    let (Some(spec), path) = (&job.spec, spec_path()) else { return };
    job_spec(spec, &path, errors);
    match &spec.selector {
        None => errors.push(Error::required(&path.child("selector"), "")),
        Some(selector) => {
            selectors::label_selector(selector, &path.child("selector"), errors);
            template_matches(selector, &spec.template, &path.child("template"), errors);
        }
    }
}

fn job_spec(spec: &batch::JobSpec, path: &Path, errors: &mut Errors) {
    let counts = [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ];
    for (field, value) in counts {
        nonnegative(value, &path.child(field), errors);
    }
    job_mode(spec, path, errors);
    pod::template(&spec.template, &path.child("template"), errors);
    let policy = spec.template.spec.as_ref().map_or("", |pod| text(&pod.restart_policy));
    let at = path.child("template").child("spec").child("restartPolicy");
    match policy {
        "" | "Always" => {
            errors.push(Error::required(&at, "valid values: \"OnFailure\", \"Never\""));
        }
        "Never" => {}
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(Error::invalid(&at, policy, detail));
        }
        "OnFailure" => {}
        other => errors.push(Error::not_supported(&at, other, &["OnFailure", "Never"])),
    }
}

fn job_mode(spec: &batch::JobSpec, path: &Path, errors: &mut Errors) {
    let mode = spec.completion_mode.as_deref().unwrap_or("NonIndexed");
    one_of(mode, &["NonIndexed", "Indexed"], &path.child("completionMode"), errors);
    if mode == "Indexed" {
        if spec.completions.is_none() {
            errors.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
        }
        return;
    }
    let indexed_only =
        [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)];
    for (field, value) in indexed_only {
        if let Some(value) = value {
            errors.push(Error::invalid(&path.child(field), value, "requires indexed completion mode"));
        }
    }
}

pub(crate) fn job_update(new: &batch::Job, old: &batch::Job, errors: &mut Errors) {
    let (Some(new), Some(old), path) = (&new.spec, &old.spec, spec_path()) else { return };
    immutable(&new.selector, &old.selector, &path.child("selector"), errors);
    // scheduling of a suspended Job may still be changed, by queues of Jobs
    if old.suspend != Some(true) {
        immutable(&new.template, &old.template, &path.child("template"), errors);
    }
    if old.completion_mode.as_deref() != Some("Indexed") {
        immutable(&new.completions, &old.completions, &path.child("completions"), errors);
    }
    immutable(&new.completion_mode, &old.completion_mode, &path.child("completionMode"), errors);
    immutable(&new.pod_failure_policy, &old.pod_failure_policy, &path.child("podFailurePolicy"), errors);
    immutable(&new.backoff_limit_per_index, &old.backoff_limit_per_index, &path.child("backoffLimitPerIndex"), errors);
    immutable(&new.managed_by, &old.managed_by, &path.child("managedBy"), errors);
}

pub(crate) fn cron_job(cron: &batch::CronJob, errors: &mut Errors) {
    let (spec, path) = (&cron.spec, spec_path());
    super::required(&spec.schedule, &path.child("schedule"), errors);
    nonnegative(spec.starting_deadline_seconds, &path.child("startingDeadlineSeconds"), errors);
    let policies = ["Allow", "Forbid", "Replace"];
    one_of(text(&spec.concurrency_policy), &policies, &path.child("concurrencyPolicy"), errors);
    nonnegative_i32(spec.successful_jobs_history_limit, &path.child("successfulJobsHistoryLimit"), errors);
    nonnegative_i32(spec.failed_jobs_history_limit, &path.child("failedJobsHistoryLimit"), errors);
    if let Some(job) = &spec.job_template.spec {
        let at = path.child("jobTemplate").child("spec");
        job_spec(job, &at, errors);
        if job.manual_selector == Some(true) {
            let supported: &[&str] = &["nil", "false"];
            errors.push(Error::not_supported(&at.child("manualSelector"), true, supported));
        }
    }
}
