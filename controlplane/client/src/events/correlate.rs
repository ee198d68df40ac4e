//! What to write for an occurrence: a new event, one more count on an old one, or nothing. The numbers are upstream's
//! (client-go, tools/record): ten events that differ only in their message within ten minutes are combined from then on;
//! a source may burst 25 events about an object and then one per five minutes.
//!
//! Must not know: the API, clocks.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::Occurrence;

const SIMILAR: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
const BURST: f64 = 25.0;
const PER_SECOND: f64 = 1.0 / 300.0;
/// Entries per generation of each memory; upstream keeps 4096.
const REMEMBERED: usize = 2048;
/// The longest name an object may have.
const NAME: usize = 253;

/// An event to write. With a count above one it exists already, unless it has expired.
#[derive(Debug, PartialEq)]
pub(super) struct Correlated {
    pub(super) event: Event,
    pub(super) exists: bool,
}

pub(super) struct Correlator {
    component: String,
    host: String,
    similar: Recent<Similar>,
    written: Recent<Written>,
    budgets: Recent<Budget>,
}

#[derive(Clone, Default)]
struct Similar {
    messages: BTreeSet<String>,
    last: Option<Timestamp>,
}

#[derive(Clone)]
struct Written {
    name: String,
    count: i32,
    first: Timestamp,
}

#[derive(Clone)]
struct Budget {
    tokens: f64,
    at: Timestamp,
}

impl Correlator {
    pub(super) fn new(component: &str, host: &str) -> Self {
        Self {
            component: component.to_owned(),
            host: host.to_owned(),
            similar: Recent::default(),
            written: Recent::default(),
            budgets: Recent::default(),
        }
    }

    /// None: dropped, its source says too much about this object.
    pub(super) fn correlate(&mut self, mut occurrence: Occurrence) -> Option<Correlated> {
        let about = about(&occurrence);
        let group = format!("{about}\0{}", occurrence.reason);
        let key = if self.combine(&group, &occurrence) {
            occurrence.message = format!("(combined from similar events): {}", occurrence.message);
            group
        } else {
            format!("{group}\0{}", occurrence.message)
        };
        let written = self.count(key, &occurrence);
        let allowed = self.spend(about, occurrence.at);
        allowed.then(|| Correlated { exists: written.count > 1, event: self.event(occurrence, written) })
    }

    fn combine(&mut self, group: &str, occurrence: &Occurrence) -> bool {
        let mut similar = self.similar.get(group).unwrap_or_default();
        if similar.last.is_some_and(|last| seconds(last, occurrence.at) > SIMILAR_SECONDS as f64) {
            similar.messages.clear();
        }
        similar.messages.insert(occurrence.message.clone());
        similar.last = Some(occurrence.at);
        let many = similar.messages.len() >= SIMILAR;
        if many {
            similar.messages.pop_first();
        }
        self.similar.put(group.to_owned(), similar);
        many
    }

    fn count(&mut self, key: String, occurrence: &Occurrence) -> Written {
        let written = match self.written.get(&key) {
            Some(old) => Written { count: old.count.saturating_add(1), ..old },
            None => Written { name: event_name(occurrence), count: 1, first: occurrence.at },
        };
        self.written.put(key, written.clone());
        written
    }

    fn spend(&mut self, about: String, now: Timestamp) -> bool {
        let mut budget = self.budgets.get(&about).unwrap_or(Budget { tokens: BURST, at: now });
        budget.tokens = (budget.tokens + seconds(budget.at, now).max(0.0) * PER_SECOND).min(BURST);
        budget.at = now;
        let allowed = budget.tokens >= 1.0;
        if allowed {
            budget.tokens -= 1.0;
        }
        self.budgets.put(about, budget);
        allowed
    }

    fn event(&self, occurrence: Occurrence, written: Written) -> Event {
        let namespace = occurrence.regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(written.name),
                namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            involved_object: occurrence.regarding,
            related: occurrence.related,
            action: some(&occurrence.action),
            reason: Some(occurrence.reason),
            message: Some(occurrence.message),
            type_: Some(occurrence.type_.as_str().to_owned()),
            count: Some(written.count),
            first_timestamp: Some(Time(written.first)),
            last_timestamp: Some(Time(occurrence.at)),
            source: Some(EventSource { component: some(&self.component), host: some(&self.host) }),
            reporting_component: some(&self.component),
            reporting_instance: some(&self.host),
            ..Event::default()
        }
    }
}

fn about(occurrence: &Occurrence) -> String {
    let object = &occurrence.regarding;
    let parts = [&object.kind, &object.namespace, &object.name, &object.uid, &object.api_version, &object.field_path];
    let parts: Vec<&str> = parts.into_iter().map(|part| part.as_deref().unwrap_or_default()).collect();
    format!("{}\0{}", parts.join("\0"), occurrence.type_.as_str())
}

fn event_name(occurrence: &Occurrence) -> String {
    let suffix = format!(".{:x}", occurrence.at.as_nanosecond());
    let mut name = occurrence.regarding.name.clone().unwrap_or_default();
    let mut fits = name.len().min(NAME - suffix.len());
    while !name.is_char_boundary(fits) {
        fits -= 1;
    }
    name.truncate(fits);
    name + &suffix
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// A memory that forgets what was not used for longest, half of it at a time.
struct Recent<T> {
    new: HashMap<String, T>,
    old: HashMap<String, T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { new: HashMap::new(), old: HashMap::new() }
    }
}

impl<T: Clone> Recent<T> {
    fn get(&self, key: &str) -> Option<T> {
        self.new.get(key).or_else(|| self.old.get(key)).cloned()
    }

    fn put(&mut self, key: String, value: T) {
        self.new.insert(key, value);
        if self.new.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::super::EventType;
    use super::*;

    fn occurrence(message: &str, at: i64) -> Occurrence {
        Occurrence {
            regarding: ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("default".into()),
                name: Some("web-0".into()),
                uid: Some("u".into()),
                ..ObjectReference::default()
            },
            related: None,
            type_: EventType::Warning,
            reason: "Failed".into(),
            action: String::new(),
            message: message.into(),
            at: Timestamp::from_second(at).unwrap(),
        }
    }

    #[test]
    fn the_same_event_again_counts_the_first_one_up() {
        let mut correlator = Correlator::new("kubelet", "node-1");
        let first = correlator.correlate(occurrence("a", 100)).unwrap();
        let second = correlator.correlate(occurrence("a", 105)).unwrap();
        assert!(!first.exists && second.exists);
        assert_eq!(first.event.metadata.name, second.event.metadata.name);
        assert_eq!(second.event.count, Some(2));
        assert_eq!(second.event.first_timestamp, first.event.first_timestamp);
        assert_eq!(second.event.source.unwrap().host.as_deref(), Some("node-1"));
    }

    #[test]
    fn the_tenth_event_that_differs_only_in_its_message_combines_them() {
        let mut correlator = Correlator::new("kubelet", "");
        let messages: Vec<String> = (0..12)
            .map(|n| correlator.correlate(occurrence(&format!("m{n}"), 100 + n)).unwrap().event.message.unwrap())
            .collect();
        assert_eq!(messages[8], "m8");
        assert_eq!(messages[9], "(combined from similar events): m9");
        assert_eq!(messages[11], "(combined from similar events): m11");
    }

    #[test]
    fn a_source_may_say_25_things_about_an_object_and_then_one_per_five_minutes() {
        let mut correlator = Correlator::new("kubelet", "");
        let written = (0..40).filter(|_| correlator.correlate(occurrence("a", 100)).is_some()).count();
        assert_eq!(written, 25);
        assert!(correlator.correlate(occurrence("a", 399)).is_none());
        assert_eq!(correlator.correlate(occurrence("a", 401)).unwrap().event.count, Some(42));
    }
}
