//! The desired state as a whole: who wants which element, and what changes in the kernel when one Service changes.
//!
//! Endpoints belong to one Service port. Frontends, cluster IPs, hairpins and source ranges may be wanted by several:
//! the one with the smallest number wins, as long as it wants them. Must not know: how changes are made.

use std::collections::{BTreeMap, HashMap};

use super::element::{Elements, Key, Value};

/// Changes of elements, each with its value in the kernel before and after. A change undone is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<Key, (Option<Value>, Option<Value>)>);

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.deletions().next().is_none() && self.additions().next().is_none()
    }

    /// How many elements change.
    pub fn len(&self) -> usize {
        self.real().count()
    }

    /// What to take out, sorted. An element that changes its value is here and among the additions.
    pub fn deletions(&self) -> impl Iterator<Item = (Key, Value)> {
        self.real().filter_map(|(key, (before, _))| Some((*key, (*before)?)))
    }

    /// What to put in, sorted.
    pub fn additions(&self) -> impl Iterator<Item = (Key, Value)> {
        self.real().filter_map(|(key, (_, after))| Some((*key, (*after)?)))
    }

    fn real(&self) -> impl Iterator<Item = (&Key, &(Option<Value>, Option<Value>))> {
        self.0.iter().filter(|(_, (before, after))| before != after)
    }

    fn change(&mut self, key: Key, before: Option<Value>, after: Option<Value>) {
        if before != after {
            self.0.entry(key).or_insert((before, before)).1 = after;
        }
    }
}

/// What the kernel should hold, by Service port number.
#[derive(Debug, Default)]
pub struct Ruleset {
    parts: HashMap<u32, Elements>,
    claims: HashMap<Key, Vec<(u32, Value)>>,
}

impl Ruleset {
    /// The elements that Service port `id` wants.
    pub fn part(&self, id: u32) -> &[(Key, Value)] {
        self.parts.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Puts `elements` (sorted by key, each key once) in the place of what `id` wanted, and adds to `changes` what
    /// that changes.
    pub fn replace(&mut self, id: u32, elements: Elements, changes: &mut Changes) {
        let before = self.parts.remove(&id).unwrap_or_default();
        let (mut old, mut new) = (before.iter().peekable(), elements.iter().peekable());
        loop {
            let key = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((key, _)), None) | (None, Some((key, _))) => *key,
            };
            let was = old.next_if(|(k, _)| *k == key).map(|(_, value)| *value);
            let is = new.next_if(|(k, _)| *k == key).map(|(_, value)| *value);
            if was != is {
                self.change(id, key, was, is, changes);
            }
        }
        if !elements.is_empty() {
            self.parts.insert(id, elements);
        }
    }

    fn change(&mut self, id: u32, key: Key, was: Option<Value>, is: Option<Value>, changes: &mut Changes) {
        if !shared(&key) {
            return changes.change(key, was, is);
        }
        let claims = self.claims.entry(key).or_default();
        let before = effective(claims);
        claims.retain(|(claimant, _)| *claimant != id);
        claims.extend(is.map(|value| (id, value)));
        let after = effective(claims);
        if claims.is_empty() {
            self.claims.remove(&key);
        }
        changes.change(key, before, after);
    }

    /// Every element that should be in the kernel.
    pub fn elements(&self) -> impl Iterator<Item = (Key, Value)> {
        let shared_ones = self.claims.iter().filter_map(|(key, claims)| Some((*key, effective(claims)?)));
        let own = self.parts.values().flatten().filter(|(key, _)| !shared(key)).copied();
        shared_ones.chain(own)
    }

    /// What makes `kernel` this ruleset.
    pub fn changes_from(&self, mut kernel: HashMap<Key, Value>) -> Changes {
        let mut changes = Changes::default();
        for (key, value) in self.elements() {
            let before = kernel.remove(&key);
            changes.change(key, before, Some(value));
        }
        for (key, value) in kernel {
            changes.change(key, Some(value), None);
        }
        changes
    }
}

fn effective(claims: &[(u32, Value)]) -> Option<Value> {
    claims.iter().min_by_key(|(id, _)| *id).map(|(_, value)| *value)
}

/// May several Service ports want it?
fn shared(key: &Key) -> bool {
    !matches!(key, Key::Endpoint { .. } | Key::Member { .. })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::element::Target;

    fn hairpin(last: u8) -> (Key, Value) {
        (Key::Hairpin(IpAddr::from([10, 0, 0, last])), Value::None)
    }

    fn endpoint(group: u32, index: u32, last: u8) -> (Key, Value) {
        let target = Target { address: IpAddr::from([10, 0, 0, last]), port: 80 };
        (Key::Endpoint { group, index }, Value::Target(target))
    }

    #[test]
    fn a_shared_element_stays_until_the_last_one_lets_go() {
        let mut ruleset = Ruleset::default();
        let mut changes = Changes::default();
        ruleset.replace(1, vec![hairpin(1)], &mut changes);
        ruleset.replace(2, vec![hairpin(1)], &mut changes);
        assert_eq!(changes.additions().collect::<Vec<_>>(), [hairpin(1)]);
        let mut changes = Changes::default();
        ruleset.replace(1, vec![], &mut changes);
        assert!(changes.is_empty());
        ruleset.replace(2, vec![], &mut changes);
        assert_eq!(changes.deletions().collect::<Vec<_>>(), [hairpin(1)]);
    }

    #[test]
    fn a_changed_value_is_one_deletion_and_one_addition() {
        let mut ruleset = Ruleset::default();
        let mut changes = Changes::default();
        ruleset.replace(1, vec![endpoint(2, 0, 1), endpoint(2, 1, 2)], &mut changes);
        let mut changes = Changes::default();
        ruleset.replace(1, vec![endpoint(2, 0, 1), endpoint(2, 1, 3)], &mut changes);
        assert_eq!(changes.deletions().collect::<Vec<_>>(), [endpoint(2, 1, 2)]);
        assert_eq!(changes.additions().collect::<Vec<_>>(), [endpoint(2, 1, 3)]);
    }

    fn parts() -> impl Strategy<Value = Vec<(u32, Elements)>> {
        let elements = prop::collection::btree_map(0u8..4, 0u8..3, 0..4);
        prop::collection::vec((0u32..3, elements), 0..12).prop_map(|steps| {
            let part = |id: u32, map: std::collections::BTreeMap<u8, u8>| {
                let mut elements: Elements =
                    map.iter().flat_map(|(a, b)| [hairpin(*a), endpoint(id * 2, u32::from(*a), *b)]).collect();
                elements.sort();
                elements
            };
            steps.into_iter().map(|(id, map)| (id, part(id, map))).collect()
        })
    }

    proptest! {
        #[test]
        fn applying_every_change_reaches_the_whole_state(steps in parts()) {
            let mut ruleset = Ruleset::default();
            let mut kernel: HashMap<Key, Value> = HashMap::new();
            for two_steps in steps.chunks(2) {
                let mut changes = Changes::default();
                for (id, elements) in two_steps {
                    ruleset.replace(*id, elements.clone(), &mut changes);
                }
                for (key, value) in changes.deletions() {
                    prop_assert_eq!(kernel.remove(&key), Some(value));
                }
                for (key, value) in changes.additions() {
                    prop_assert_eq!(kernel.insert(key, value), None);
                }
                prop_assert!(ruleset.changes_from(kernel.clone()).is_empty());
            }
        }
    }
}
