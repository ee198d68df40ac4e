//! What the watch has shown so far, and whom to tell. Every method is one step under the caller's lock.
//!
//! Must not know: watches, tasks, waiting.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use kube::Resource;

use super::ObjectKey;
use super::queue::Queue;

type Named<K> = HashMap<String, Arc<K>>;
type Owned<K> = HashMap<String, HashMap<String, Named<K>>>;

pub(super) struct Cache<K> {
    /// namespace → name → object
    objects: HashMap<String, Named<K>>,
    len: usize,
    /// namespace → name of the controller, empty without one → name → object. Kept where somebody asks for it.
    owned: Option<Owned<K>>,
    /// The newest resource version of anything shown, deletes included.
    revision: u64,
    subscribers: Vec<Weak<Queue<K>>>,
    closed: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), len: 0, owned: None, revision: 0, subscribers: Vec::new(), closed: false }
    }
}

impl<K> Cache<K> {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects.get(namespace)?.get(name).cloned()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values().flat_map(HashMap::values)
    }

    pub(super) fn iter_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.objects.get(namespace).into_iter().flat_map(HashMap::values)
    }

    /// Those whose controller has that name; with an empty one those that have none. All, without an index.
    pub(super) fn iter_owned(&self, namespace: &str, controller: &str) -> impl Iterator<Item = &Arc<K>> {
        let found = match &self.owned {
            Some(owned) => owned.get(namespace).and_then(|owners| owners.get(controller)),
            None => self.objects.get(namespace),
        };
        found.into_iter().flat_map(HashMap::values)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The watch is over: subscribers get what is pending, then the end.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.subscribers.iter().filter_map(Weak::upgrade).for_each(|queue| queue.close());
    }
}

impl<K: Resource> Cache<K> {
    pub(super) fn subscribe(&mut self) -> Arc<Queue<K>> {
        let queue = Arc::new(Queue::default());
        for (namespace, names) in &self.objects {
            for (name, object) in names {
                queue.push(ObjectKey::new(namespace, name), None, Some(object.clone()));
            }
        }
        if self.closed {
            queue.close();
        }
        self.subscribers.retain(|other| other.strong_count() > 0);
        self.subscribers.push(Arc::downgrade(&queue));
        queue
    }

    fn tell(&mut self, key: ObjectKey, old: Option<Arc<K>>, new: Option<Arc<K>>) {
        for queue in self.subscribers.iter().filter_map(Weak::upgrade) {
            queue.push(key.clone(), old.clone(), new.clone());
        }
    }

    pub(super) fn index_owners(&mut self) {
        self.owned = Some(HashMap::new());
        let all: Vec<Arc<K>> = self.iter().cloned().collect();
        all.into_iter().for_each(|object| self.note_owner(None, Some(&object)));
    }

    /// Keeps the index when an object takes another's place, comes or goes.
    fn note_owner(&mut self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        let Some(owned) = &mut self.owned else { return };
        if let Some(old) = old {
            let (key, owner) = (ObjectKey::of(old.as_ref()), controller(old.as_ref()));
            let owners = owned.entry(key.namespace.clone()).or_default();
            let emptied =
                owners.get_mut(owner).is_some_and(|names| names.remove(&key.name).is_some() && names.is_empty());
            if emptied {
                owners.remove(owner);
            }
            if owners.is_empty() {
                owned.remove(&key.namespace);
            }
        }
        if let Some(new) = new {
            let (key, owner) = (ObjectKey::of(new.as_ref()), controller(new.as_ref()));
            let owners = owned.entry(key.namespace).or_default();
            owners.entry(owner.to_owned()).or_default().insert(key.name, new.clone());
        }
    }

    pub(super) fn apply(&mut self, object: K) {
        let key = ObjectKey::of(&object);
        self.revision = self.revision.max(super::revision_of(&object));
        let names = self.objects.entry(key.namespace.clone()).or_default();
        if names.get(&key.name).is_some_and(|old| same_revision(old.as_ref(), &object)) {
            return;
        }
        let object = Arc::new(object);
        let old = names.insert(key.name.clone(), object.clone());
        self.len += usize::from(old.is_none());
        self.note_owner(old.as_ref(), Some(&object));
        self.tell(key, old, Some(object));
    }

    /// Removes the object, unless its name already belongs to another UID.
    pub(super) fn delete(&mut self, object: &K) {
        let key = ObjectKey::of(object);
        self.revision = self.revision.max(super::revision_of(object));
        let present = self.get(&key.namespace, &key.name);
        if present.is_some_and(|present| present.meta().uid == object.meta().uid) {
            self.remove(key);
        }
    }

    /// A complete list: what it does not name is gone.
    pub(super) fn replace(&mut self, listed: Vec<K>) {
        let names: HashSet<ObjectKey> = listed.iter().map(ObjectKey::of).collect();
        let gone: Vec<ObjectKey> = self.iter().map(|object| ObjectKey::of(object.as_ref())).collect();
        gone.into_iter().filter(|key| !names.contains(key)).for_each(|key| self.remove(key));
        listed.into_iter().for_each(|object| self.apply(object));
    }

    fn remove(&mut self, key: ObjectKey) {
        let Some(names) = self.objects.get_mut(&key.namespace) else { return };
        let Some(old) = names.remove(&key.name) else { return };
        if names.is_empty() {
            self.objects.remove(&key.namespace);
        }
        self.len -= 1;
        self.note_owner(Some(&old), None);
        self.tell(key, Some(old), None);
    }
}

/// The name of the one owner that manages the object; empty without one.
fn controller<K: Resource>(object: &K) -> &str {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map_or("", |owner| &owner.name)
}

fn same_revision<K: Resource>(left: &K, right: &K) -> bool {
    let (left, right) = (left.meta(), right.meta());
    left.uid == right.uid && left.resource_version.is_some() && left.resource_version == right.resource_version
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(name: &str, revision: u32, owner: Option<&str>) -> ConfigMap {
        let owners = owner
            .map(|name| json!([{ "apiVersion": "v1", "kind": "X", "name": name, "uid": name, "controller": true }]));
        let metadata = json!({ "namespace": "ns", "name": name, "uid": name, "resourceVersion": revision.to_string(),
            "ownerReferences": owners });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn owned(cache: &Cache<ConfigMap>, owner: &str) -> Vec<String> {
        let mut names: Vec<String> =
            cache.iter_owned("ns", owner).filter_map(|object| object.metadata.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_index_of_owners_follows_what_comes_goes_and_changes_hands() {
        let mut cache = Cache::default();
        cache.apply(object("a", 1, Some("o")));
        cache.index_owners();
        cache.apply(object("b", 2, Some("o")));
        cache.apply(object("c", 3, None));
        assert_eq!((owned(&cache, "o"), owned(&cache, "")), (vec!["a".into(), "b".into()], vec!["c".to_owned()]));
        cache.apply(object("a", 4, Some("p")));
        cache.apply(object("c", 5, Some("p")));
        cache.delete(&object("b", 6, Some("o")));
        assert_eq!((owned(&cache, "o"), owned(&cache, "")), (vec![], Vec::<String>::new()));
        assert_eq!(owned(&cache, "p"), ["a", "c"]);
        cache.replace(Vec::new());
        assert!(cache.owned.as_ref().is_some_and(HashMap::is_empty), "nothing is left behind");
    }
}
