//! `successPolicy`: when enough of an indexed Job has succeeded.
//!
//! Must not know: the API, clocks.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;

use super::indexes;

/// Which rule is met by the indexes that have succeeded, in upstream's words.
pub fn met(job: &Job, succeeded: &BTreeSet<i32>) -> Option<String> {
    let spec = job.spec.as_ref()?;
    let rules = spec.success_policy.as_ref()?.rules.iter().enumerate();
    let end = spec.completions.unwrap_or(0);
    let met = |wanted: Option<&str>, count: Option<i32>| {
        let wanted = wanted.map(|text| indexes::read(text, end));
        let have = wanted.as_ref().map_or(succeeded.len(), |wanted| wanted.intersection(succeeded).count());
        let all = wanted.map_or(usize::MAX, |wanted| wanted.len());
        have >= count.map_or(all, |count| usize::try_from(count).unwrap_or(usize::MAX))
    };
    let mut found = rules.filter(|(_, rule)| met(rule.succeeded_indexes.as_deref(), rule.succeeded_count));
    found.next().map(|(index, _)| format!("Matched rules at index {index}"))
}
