//! Who owns whom, from the metadata of every object, and which objects a change makes worth looking at.
//!
//! Must not know: the API, tasks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::discovery::Served;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";
/// UIDs of objects known to be gone that are remembered.
const ABSENT: usize = 500;

/// Where an object is found.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Served(Arc<Served>),
    /// Only named so far, by a dependent.
    Named {
        api_version: String,
        kind: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub uid: String,
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    pub owners: Vec<OwnerReference>,
    pub dependents: HashSet<String>,
    pub deleting: bool,
    pub foreground: bool,
    pub orphan: bool,
}

impl Node {
    /// An object as its watch shows it.
    pub fn seen(kind: Arc<Served>, meta: &ObjectMeta) -> Self {
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            kind: Kind::Served(kind),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            dependents: HashSet::new(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        }
    }

    /// An owner that no watch has shown.
    fn named(reference: &OwnerReference, namespace: &str) -> Self {
        Self {
            uid: reference.uid.clone(),
            kind: Kind::Named { api_version: reference.api_version.clone(), kind: reference.kind.clone() },
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
            owners: Vec::new(),
            dependents: HashSet::new(),
            deleting: false,
            foreground: false,
            orphan: false,
        }
    }

    pub fn is_virtual(&self) -> bool {
        matches!(self.kind, Kind::Named { .. })
    }

    /// Whether it waits for its dependents to go first.
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|reference| reference.uid == owner && reference.block_owner_deletion == Some(true))
    }
}

#[derive(Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    absent: HashSet<String>,
    absent_order: VecDeque<String>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<Node> {
        self.nodes.get(uid).cloned()
    }

    pub fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    pub fn note_absent(&mut self, uid: &str) {
        if self.absent.insert(uid.to_owned()) {
            self.absent_order.push_back(uid.to_owned());
        }
        while self.absent_order.len() > ABSENT
            && let Some(oldest) = self.absent_order.pop_front()
        {
            self.absent.remove(&oldest);
        }
    }

    /// The dependents of `uid` that block its deletion.
    pub fn blocking(&self, uid: &str) -> Vec<Node> {
        let dependents = self.nodes.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents.filter_map(|dependent| self.nodes.get(dependent)).filter(|node| node.blocks(uid)).cloned().collect()
    }

    /// An object was added or changed; the UIDs to look at.
    pub fn apply(&mut self, mut node: Node) -> Vec<String> {
        let uid = node.uid.clone();
        let old = self.nodes.remove(&uid);
        let (was_orphaning, was_waiting) =
            old.as_ref().map_or((false, false), |old| (old.deleting && old.orphan, old.waits_for_dependents()));
        node.dependents = old.as_ref().map(|old| old.dependents.clone()).unwrap_or_default();
        let mut look = self.relink(&node, old.as_ref().map_or(&[], |old| old.owners.as_slice()));
        if node.deleting && node.orphan && !was_orphaning {
            look.push(uid.clone());
        }
        if node.waits_for_dependents() && !was_waiting {
            look.extend(node.dependents.iter().cloned());
            look.push(uid.clone());
        }
        self.nodes.insert(uid, node);
        look
    }

    /// Updates the owners' sides of a node's references.
    fn relink(&mut self, node: &Node, old: &[OwnerReference]) -> Vec<String> {
        let mut look = Vec::new();
        for gone in old.iter().filter(|old| !node.owners.iter().any(|owner| owner.uid == old.uid)) {
            look.extend(self.unlink(&node.uid, &gone.uid));
        }
        for owner in &node.owners {
            let before = old.iter().find(|old| old.uid == owner.uid);
            let unblocked = before.is_some_and(|old| old.block_owner_deletion == Some(true))
                && owner.block_owner_deletion != Some(true);
            if unblocked {
                look.push(owner.uid.clone());
            }
            if before.is_none() && self.absent.contains(&owner.uid) {
                look.push(node.uid.clone());
            }
            look.extend(self.link(node, owner));
        }
        look
    }

    fn link(&mut self, node: &Node, owner: &OwnerReference) -> Option<String> {
        if let Some(known) = self.nodes.get_mut(&owner.uid) {
            let added = known.dependents.insert(node.uid.clone());
            let misplaced = !known.namespace.is_empty() && known.namespace != node.namespace;
            // the owner may already be going, and wait for this one too
            return (added && (misplaced || known.waits_for_dependents())).then(|| node.uid.clone());
        }
        let mut named = Node::named(owner, &node.namespace);
        named.dependents.insert(node.uid.clone());
        self.nodes.insert(owner.uid.clone(), named);
        Some(owner.uid.clone())
    }

    fn unlink(&mut self, dependent: &str, owner: &str) -> Option<String> {
        let known = self.nodes.get_mut(owner)?;
        known.dependents.remove(dependent);
        if known.is_virtual() && known.dependents.is_empty() {
            self.nodes.remove(owner);
            return None;
        }
        known.waits_for_dependents().then(|| owner.to_owned())
    }

    /// An object is gone; the UIDs to look at.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut look: Vec<String> = node.owners.iter().filter_map(|owner| self.unlink(uid, &owner.uid)).collect();
        if !node.dependents.is_empty() {
            self.note_absent(uid);
            look.extend(node.dependents);
        }
        look
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use kube::core::ApiResource;

    use super::*;

    fn node(uid: &str, owners: &[&str], deleting: bool, finalizers: &[&str]) -> Node {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
        let kind = Arc::new(Served { resource, namespaced: true, verbs: Vec::new() });
        let owner = |uid: &&str| OwnerReference {
            uid: (*uid).into(),
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: (*uid).into(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        };
        let meta = ObjectMeta {
            uid: Some(uid.into()),
            namespace: Some("default".into()),
            name: Some(uid.into()),
            owner_references: Some(owners.iter().map(owner).collect()),
            deletion_timestamp: deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
            finalizers: Some(finalizers.iter().map(|name| (*name).to_owned()).collect()),
            ..ObjectMeta::default()
        };
        Node::seen(kind, &meta)
    }

    #[test]
    fn an_owner_that_nobody_has_seen_is_looked_at() {
        let mut graph = Graph::default();
        assert_eq!(graph.apply(node("pod", &["set"], false, &[])), ["set"]);
        assert!(graph.get("set").unwrap().is_virtual());
        assert!(graph.apply(node("set", &[], false, &[])).is_empty());
        assert!(graph.get("set").unwrap().dependents.contains("pod"));
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_is_gone() {
        let mut graph = Graph::default();
        graph.apply(node("set", &[], false, &[]));
        graph.apply(node("pod", &["set"], false, &[]));
        assert_eq!(graph.remove("set"), ["pod"]);
        assert!(graph.is_absent("set"));
        assert_eq!(graph.apply(node("late", &["set"], false, &[]))[0], "late");
    }

    #[test]
    fn in_the_foreground_dependents_go_first_and_then_their_owner() {
        let mut graph = Graph::default();
        graph.apply(node("set", &[], false, &[]));
        graph.apply(node("pod", &["set"], false, &[]));
        assert_eq!(graph.apply(node("set", &[], true, &[FOREGROUND])), ["pod", "set"]);
        assert_eq!(graph.blocking("set").len(), 1);
        assert_eq!(graph.remove("pod"), ["set"]);
        assert!(graph.blocking("set").is_empty());
    }

    #[test]
    fn orphaning_looks_at_the_owner_once() {
        let mut graph = Graph::default();
        graph.apply(node("set", &[], false, &[]));
        assert_eq!(graph.apply(node("set", &[], true, &[ORPHAN])), ["set"]);
        assert!(graph.apply(node("set", &[], true, &[ORPHAN])).is_empty());
    }

    #[test]
    fn a_reference_that_was_removed_leaves_no_trace() {
        let mut graph = Graph::default();
        graph.apply(node("pod", &["set"], false, &[]));
        graph.apply(node("pod", &[], false, &[]));
        assert!(graph.get("set").is_none());
    }
}
