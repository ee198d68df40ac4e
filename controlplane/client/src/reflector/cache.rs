//! What the watch has shown so far, and whom to tell. Every method is one step under the caller's lock.
//!
//! Must not know: watches, tasks, waiting.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use kube::Resource;

use super::ObjectKey;
use super::queue::Queue;

pub(super) struct Cache<K> {
    /// namespace → name → object
    objects: HashMap<String, HashMap<String, Arc<K>>>,
    len: usize,
    /// The newest resource version of anything shown, deletes included.
    revision: u64,
    subscribers: Vec<Weak<Queue<K>>>,
    closed: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), len: 0, revision: 0, subscribers: Vec::new(), closed: false }
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

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

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

    /// The watch is over: subscribers get what is pending, then the end.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.subscribers.iter().filter_map(Weak::upgrade).for_each(|queue| queue.close());
    }

    fn tell(&mut self, key: ObjectKey, old: Option<Arc<K>>, new: Option<Arc<K>>) {
        for queue in self.subscribers.iter().filter_map(Weak::upgrade) {
            queue.push(key.clone(), old.clone(), new.clone());
        }
    }
}

impl<K: Resource> Cache<K> {
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
        self.tell(key, Some(old), None);
    }
}

fn same_revision<K: Resource>(left: &K, right: &K) -> bool {
    let (left, right) = (left.meta(), right.meta());
    left.uid == right.uid && left.resource_version.is_some() && left.resource_version == right.resource_version
}
