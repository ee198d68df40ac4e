//! The pods that wait: active (to be scheduled now, by priority, then age), backoff (after a failed try), and
//! unschedulable (until something happens that may help).
//!
//! Must not know: nodes, or how a pod is scheduled. Time is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Config;
use crate::plan::pod::PodInfo;

/// Something that may make a pod schedulable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A node came, or offers other things than before.
    Node,
    /// A pod is on a node now.
    PodAssigned,
    /// A pod is on its node no longer, or takes up less.
    PodGone,
    /// A namespace came or has other labels.
    Namespace,
}

impl Happening {
    /// Whether it may help a pod that these plugins turned down.
    fn helps(self, plugins: &BTreeSet<&'static str>) -> bool {
        let one_of = |names: &[&str]| names.iter().any(|name| plugins.contains(name));
        match self {
            Self::Node => true,
            Self::PodAssigned => one_of(&["InterPodAffinity", "PodTopologySpread"]),
            Self::PodGone => one_of(&["NodeResourcesFit", "NodePorts", "InterPodAffinity", "PodTopologySpread"]),
            Self::Namespace => one_of(&["InterPodAffinity"]),
        }
    }
}

/// Higher priority first, then the one that has waited longer.
type Turn = (Reverse<i32>, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active(Turn),
    Backoff(Instant, u64),
    Unschedulable(Instant),
    /// Taken, its outcome not known yet.
    Taken,
}

struct Waiting {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    /// When it first came.
    added: Instant,
    /// When its backoff ends.
    backs_off_until: Instant,
    plugins: BTreeSet<&'static str>,
}

/// A pod to be scheduled now.
pub struct Attempt {
    pub pod: Arc<PodInfo>,
    /// This one included.
    pub number: u32,
    pub added: Instant,
}

/// How many wait where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lengths {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
}

pub struct Queue {
    initial: Duration,
    max: Duration,
    max_unschedulable: Duration,
    pods: HashMap<String, Waiting>,
    active: BTreeMap<Turn, String>,
    backoff: BTreeMap<(Instant, u64), String>,
    unschedulable: BTreeSet<String>,
    next: u64,
}

impl Queue {
    pub fn new(config: &Config) -> Self {
        Self {
            initial: config.pod_initial_backoff,
            max: config.pod_max_backoff,
            max_unschedulable: config.pod_max_unschedulable,
            pods: HashMap::new(),
            active: BTreeMap::new(),
            backoff: BTreeMap::new(),
            unschedulable: BTreeSet::new(),
            next: 0,
        }
    }

    pub fn lengths(&self) -> Lengths {
        let (active, backoff) = (self.active.len(), self.backoff.len());
        Lengths { active, backoff, unschedulable: self.unschedulable.len() }
    }

    /// Takes a new pod, or what is new about a known one: if that may make it schedulable, it is tried again.
    pub fn put(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let Some(known) = self.pods.get_mut(&pod.uid) else {
            let uid = pod.uid.clone();
            let place = Place::Taken;
            let plugins = BTreeSet::new();
            let waiting = Waiting { pod, place, attempts: 0, added: now, backs_off_until: now, plugins };
            self.pods.insert(uid.clone(), waiting);
            self.activate(&uid);
            return;
        };
        let changed = !known.pod.asks_the_same(&pod);
        let reprioritised = known.pod.priority != pod.priority;
        known.pod = pod.clone();
        match known.place {
            Place::Unschedulable(_) if changed => self.try_again(&pod.uid, now),
            Place::Active(_) if reprioritised => self.activate(&pod.uid),
            _ => {}
        }
    }

    pub fn remove(&mut self, uid: &str) {
        self.unplace(uid);
        self.pods.remove(uid);
    }

    /// The pod whose turn it is. It stays known until [`Queue::remove`], [`Queue::back_off`] or
    /// [`Queue::unschedulable`].
    pub fn pop(&mut self) -> Option<Attempt> {
        let (_, uid) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.place = Place::Taken;
        waiting.attempts += 1;
        Some(Attempt { pod: waiting.pod.clone(), number: waiting.attempts, added: waiting.added })
    }

    /// The try failed for a reason that may pass by itself.
    pub fn back_off(&mut self, uid: &str, now: Instant) {
        self.set_backoff(uid, now);
        self.try_again(uid, now);
    }

    /// No node would do; `plugins` turned them down.
    pub fn unschedulable(&mut self, uid: &str, plugins: BTreeSet<&'static str>, now: Instant) {
        self.unplace(uid);
        self.set_backoff(uid, now);
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.plugins = plugins;
            waiting.place = Place::Unschedulable(now);
            self.unschedulable.insert(uid.to_owned());
        }
    }

    /// Tries again whom it may help.
    pub fn happened(&mut self, happening: Happening, now: Instant) {
        let helped = |uid: &&String| self.pods.get(*uid).is_some_and(|waiting| happening.helps(&waiting.plugins));
        let helped: Vec<String> = self.unschedulable.iter().filter(helped).cloned().collect();
        helped.iter().for_each(|uid| self.try_again(uid, now));
    }

    /// Moves on whose time has come.
    pub fn flush(&mut self, now: Instant) {
        while let Some(first) = self.backoff.first_entry().filter(|first| first.key().0 <= now) {
            let uid = first.remove();
            self.activate(&uid);
        }
        let given_up = |uid: &&String| match self.pods.get(*uid).map(|waiting| waiting.place) {
            Some(Place::Unschedulable(since)) => now.duration_since(since) >= self.max_unschedulable,
            _ => false,
        };
        let late: Vec<String> = self.unschedulable.iter().filter(given_up).cloned().collect();
        late.iter().for_each(|uid| self.try_again(uid, now));
    }

    /// When [`Queue::flush`] has something to do next.
    pub fn next_flush(&self) -> Option<Instant> {
        let backoff = self.backoff.keys().next().map(|(until, _)| *until);
        let since = self.unschedulable.iter().filter_map(|uid| match self.pods.get(uid)?.place {
            Place::Unschedulable(since) => Some(since + self.max_unschedulable),
            _ => None,
        });
        backoff.into_iter().chain(since.min()).min()
    }

    fn set_backoff(&mut self, uid: &str, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(uid) {
            let doublings = waiting.attempts.saturating_sub(1).min(16);
            waiting.backs_off_until = now + (self.initial * 2_u32.pow(doublings)).min(self.max);
        }
    }

    /// At once, or after its backoff.
    fn try_again(&mut self, uid: &str, now: Instant) {
        let Some(waiting) = self.pods.get(uid) else { return };
        let until = waiting.backs_off_until;
        if until <= now {
            return self.activate(uid);
        }
        self.unplace(uid);
        self.next += 1;
        self.backoff.insert((until, self.next), uid.to_owned());
        self.place(uid, Place::Backoff(until, self.next));
    }

    fn activate(&mut self, uid: &str) {
        self.unplace(uid);
        let Some(waiting) = self.pods.get(uid) else { return };
        self.next += 1;
        let turn = (Reverse(waiting.pod.priority), self.next);
        self.active.insert(turn, uid.to_owned());
        self.place(uid, Place::Active(turn));
    }

    fn place(&mut self, uid: &str, place: Place) {
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.place = place;
        }
    }

    fn unplace(&mut self, uid: &str) {
        match self.pods.get(uid).map(|waiting| waiting.place) {
            Some(Place::Active(turn)) => drop(self.active.remove(&turn)),
            Some(Place::Backoff(until, number)) => drop(self.backoff.remove(&(until, number))),
            Some(Place::Unschedulable(_)) => drop(self.unschedulable.remove(uid)),
            Some(Place::Taken) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        Arc::new(PodInfo { uid: name.to_owned(), name: name.to_owned(), priority, ..PodInfo::default() })
    }

    fn popped(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|attempt| attempt.pod.name.clone()).collect()
    }

    #[test]
    fn priority_goes_before_age() {
        let (mut queue, now) = (Queue::new(&Config::default()), Instant::now());
        for (name, priority) in [("a", 0), ("b", 5), ("c", 5), ("d", -1)] {
            queue.put(pod(name, priority), now);
        }
        assert_eq!(popped(&mut queue), ["b", "c", "a", "d"]);
    }

    #[test]
    fn an_unschedulable_pod_waits_for_what_helps_it_and_for_its_backoff() {
        let (mut queue, now) = (Queue::new(&Config::default()), Instant::now());
        queue.put(pod("a", 0), now);
        assert_eq!(popped(&mut queue), ["a"]);
        queue.unschedulable("a", BTreeSet::from(["NodeResourcesFit"]), now);
        queue.happened(Happening::PodAssigned, now);
        assert_eq!(queue.lengths(), Lengths { unschedulable: 1, ..Lengths::default() });
        queue.happened(Happening::PodGone, now);
        assert_eq!(queue.lengths(), Lengths { backoff: 1, ..Lengths::default() });
        assert_eq!(queue.next_flush(), Some(now + Duration::from_secs(1)));
        queue.flush(now + Duration::from_secs(1));
        assert_eq!(popped(&mut queue), ["a"]);
    }

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let (mut queue, mut now) = (Queue::new(&Config::default()), Instant::now());
        queue.put(pod("a", 0), now);
        for seconds in [1, 2, 4, 8, 10, 10] {
            assert_eq!(popped(&mut queue), ["a"]);
            queue.back_off("a", now);
            queue.flush(now + Duration::from_secs(seconds) - Duration::from_millis(1));
            assert_eq!(queue.lengths().active, 0);
            now += Duration::from_secs(seconds);
            queue.flush(now);
        }
    }

    #[test]
    fn what_nothing_happens_to_is_tried_again_all_the_same() {
        let (mut queue, now) = (Queue::new(&Config::default()), Instant::now());
        queue.put(pod("a", 0), now);
        queue.pop();
        queue.unschedulable("a", BTreeSet::new(), now);
        let later = queue.next_flush().unwrap();
        assert_eq!(later, now + Duration::from_secs(300));
        queue.flush(later);
        assert_eq!(popped(&mut queue), ["a"]);
    }

    #[test]
    fn a_changed_pod_is_tried_again_and_a_removed_one_is_not() {
        let (mut queue, now) = (Queue::new(&Config::default()), Instant::now());
        queue.put(pod("a", 0), now);
        queue.pop();
        queue.unschedulable("a", BTreeSet::new(), now);
        let later = now + Duration::from_secs(60);
        queue.put(pod("a", 0), later);
        assert_eq!(queue.lengths().active, 0);
        let labelled = PodInfo { labels: [("a".to_owned(), "b".to_owned())].into(), ..(*pod("a", 0)).clone() };
        queue.put(Arc::new(labelled), later);
        assert_eq!(queue.lengths().active, 1);
        queue.remove("a");
        assert!(queue.pop().is_none());
    }
}
