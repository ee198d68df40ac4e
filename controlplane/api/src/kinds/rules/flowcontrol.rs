//! Flow schemas and priority levels.
//!
//! Must not know: how requests are queued.

use k8s_openapi::api::flowcontrol::v1 as flowcontrol;

use super::fill;
use crate::kinds::Rules;

pub(super) struct FlowSchema;

impl Rules for FlowSchema {
    type Object = flowcontrol::FlowSchema;

    fn defaults(schema: &mut flowcontrol::FlowSchema) {
        fill::number(&mut schema.spec.get_or_insert_default().matching_precedence, 1000);
    }
}

pub(super) struct PriorityLevelConfiguration;

impl Rules for PriorityLevelConfiguration {
    type Object = flowcontrol::PriorityLevelConfiguration;

    fn defaults(level: &mut flowcontrol::PriorityLevelConfiguration) {
        let spec = level.spec.get_or_insert_default();
        if let Some(exempt) = &mut spec.exempt {
            fill::value(&mut exempt.nominal_concurrency_shares, 0);
            fill::value(&mut exempt.lendable_percent, 0);
        }
        let Some(limited) = &mut spec.limited else { return };
        fill::value(&mut limited.nominal_concurrency_shares, 30);
        fill::value(&mut limited.lendable_percent, 0);
        if let Some(queuing) = limited.limit_response.as_mut().and_then(|response| response.queuing.as_mut()) {
            fill::number(&mut queuing.hand_size, 8);
            fill::number(&mut queuing.queues, 64);
            fill::number(&mut queuing.queue_length_limit, 50);
        }
    }
}
