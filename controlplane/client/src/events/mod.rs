//! Reporting events, as upstream's recorder for components does: same events are counted, similar ones combined, noisy
//! ones dropped. A caller never waits; what does not fit the queue is dropped and said so.
//!
//! Must not know: why something is worth reporting.

mod correlate;
mod write;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events waiting to be written; upstream's broadcaster queues as many.
const QUEUE: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq)]
struct Occurrence {
    regarding: ObjectReference,
    related: Option<ObjectReference>,
    type_: EventType,
    reason: String,
    action: String,
    message: String,
    at: Timestamp,
}

/// Writes events (core/v1) in the name of one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

impl Recorder {
    /// `component` as in `kubectl describe`'s "From" (`deployment-controller`, `kubelet`); `host` is the node it runs on
    /// or empty.
    pub fn start(client: kube::Client, component: &str, host: &str, cancel: CancellationToken) -> Self {
        let (queue, occurrences) = mpsc::channel(QUEUE);
        let correlator = correlate::Correlator::new(component, host);
        tokio::spawn(write::run(client, correlator, occurrences, cancel));
        Self { queue }
    }

    pub fn normal(&self, regarding: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.report(regarding, None, EventType::Normal, reason, "", message);
    }

    pub fn warning(&self, regarding: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.report(regarding, None, EventType::Warning, reason, "", message);
    }

    /// Everything an event can say; `action` and `related` may be empty.
    pub fn report(
        &self,
        regarding: &ObjectReference,
        related: Option<&ObjectReference>,
        type_: EventType,
        reason: &str,
        action: &str,
        message: impl Into<String>,
    ) {
        let occurrence = Occurrence {
            regarding: regarding.clone(),
            related: related.cloned(),
            type_,
            reason: reason.to_owned(),
            action: action.to_owned(),
            message: message.into(),
            at: Timestamp::now(),
        };
        if let Err(error) = self.queue.try_send(occurrence) {
            tracing::warn!(reason, "event dropped: {error}");
        }
    }
}

/// What an event about `object` refers to.
pub fn reference<K: kube::Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
