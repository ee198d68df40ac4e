//! HorizontalPodAutoscalers, both versions.
//!
//! Must not know: metrics.

use k8s_openapi::api::autoscaling::{v1, v2};

use super::fill;
use crate::field::Errors;
use crate::kinds::Rules;
use crate::validation::policies;

pub(super) struct HorizontalPodAutoscalerV1;

impl Rules for HorizontalPodAutoscalerV1 {
    type Object = v1::HorizontalPodAutoscaler;

    fn defaults(autoscaler: &mut v1::HorizontalPodAutoscaler) {
        fill::value(&mut autoscaler.spec.min_replicas, 1);
    }
}

pub(super) struct HorizontalPodAutoscaler;

impl Rules for HorizontalPodAutoscaler {
    type Object = v2::HorizontalPodAutoscaler;

    fn defaults(autoscaler: &mut v2::HorizontalPodAutoscaler) {
        let spec = &mut autoscaler.spec;
        fill::value(&mut spec.min_replicas, 1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            spec.metrics = Some(vec![cpu_at_80_percent()]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let up = behavior.scale_up.get_or_insert_default();
            fill_rules(up, &[("Pods", 4), ("Percent", 100)]);
            fill::value(&mut up.stabilization_window_seconds, 0);
            fill_rules(behavior.scale_down.get_or_insert_default(), &[("Percent", 100)]);
        }
    }

    fn validate(object: &v2::HorizontalPodAutoscaler, errors: &mut Errors) {
        policies::autoscaler(object, errors);
    }
}

fn fill_rules(rules: &mut v2::HPAScalingRules, policies: &[(&str, i32)]) {
    fill::value(&mut rules.select_policy, "Max".to_owned());
    let policy =
        |&(type_, value): &(&str, i32)| v2::HPAScalingPolicy { type_: type_.to_owned(), value, period_seconds: 15 };
    fill::value(&mut rules.policies, policies.iter().map(policy).collect());
}

fn cpu_at_80_percent() -> v2::MetricSpec {
    let target = v2::MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(80),
        ..v2::MetricTarget::default()
    };
    v2::MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(v2::ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..v2::MetricSpec::default()
    }
}
