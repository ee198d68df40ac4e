//! The table of nodes: what each offers, and the pods on it, assumed ones included.
//!
//! Must not know: where the facts come from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as ApiNode, Taint};

use super::pod::{PodInfo, Resources, add, amounts, subtract};
use super::selector::Labels;

#[derive(Debug, Clone, Default)]
pub struct Node {
    pub name: String,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    /// Bytes by image name.
    pub images: BTreeMap<String, i64>,
    /// By UID.
    pub pods: BTreeMap<String, Arc<PodInfo>>,
    /// The pods' requests together.
    pub requested: Resources,
    /// The pods' `counted` together.
    pub counted: (i64, i64),
}

impl Node {
    /// Without pods.
    pub fn of(node: &ApiNode) -> Self {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        let sized = images.flat_map(|image| {
            let size = image.size_bytes.unwrap_or_default();
            image.names.iter().flatten().map(move |name| (name.clone(), size))
        });
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            unschedulable: node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default(),
            allocatable: allocatable.map(|list| amounts(list.iter())).unwrap_or_default(),
            images: sized.collect(),
            ..Self::default()
        }
    }

    /// Whether a pod that did not fit one does not fit the other either.
    pub fn offers_the_same(&self, other: &Self) -> bool {
        self.labels == other.labels
            && self.taints == other.taints
            && self.unschedulable == other.unschedulable
            && self.allocatable == other.allocatable
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.remove(&pod.uid);
        add(&mut self.requested, &pod.requests);
        self.counted = (self.counted.0 + pod.counted.0, self.counted.1 + pod.counted.1);
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            subtract(&mut self.requested, &pod.requests);
            self.counted = (self.counted.0 - pod.counted.0, self.counted.1 - pod.counted.1);
        }
    }
}

/// Every node, and the labels of every namespace.
#[derive(Debug, Clone, Default)]
pub struct Table {
    nodes: Vec<Node>,
    by_name: HashMap<String, usize>,
    /// Pods by UID: the node each is on, known or not yet.
    places: HashMap<String, Arc<PodInfo>>,
    /// Pods with required anti-affinity or any preference for or against others: the only ones of those on nodes
    /// whose own terms matter to others.
    pub with_terms: usize,
    pub namespaces: BTreeMap<String, Labels>,
    /// How many nodes have each image.
    spread_of_images: HashMap<String, usize>,
}

fn has_terms(pod: &PodInfo) -> bool {
    !(pod.affinity.is_empty() && pod.anti_affinity.is_empty() && pod.preferred_pods.is_empty())
}

impl Table {
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(*self.by_name.get(name)?)
    }

    pub fn nodes_with(&self, image: &str) -> usize {
        self.spread_of_images.get(image).copied().unwrap_or_default()
    }

    /// Adds a node, or takes its new facts; pods that are known to be on it are.
    pub fn put_node(&mut self, mut node: Node) {
        let known = self.by_name.get(&node.name).copied();
        match known.and_then(|at| self.nodes.get_mut(at)) {
            Some(old) => {
                node.pods = std::mem::take(&mut old.pods);
                node.requested = std::mem::take(&mut old.requested);
                node.counted = old.counted;
                let images = std::mem::take(&mut old.images);
                self.count_images(node.images.keys().cloned().collect(), images.into_keys().collect());
                if let Some(slot) = known.and_then(|at| self.nodes.get_mut(at)) {
                    *slot = node;
                }
            }
            None => {
                let here = self.places.values().filter(|pod| pod.node.as_ref() == Some(&node.name));
                here.cloned().collect::<Vec<_>>().into_iter().for_each(|pod| node.add(pod));
                self.count_images(node.images.keys().cloned().collect(), Vec::new());
                self.by_name.insert(node.name.clone(), self.nodes.len());
                self.nodes.push(node);
            }
        }
    }

    fn count_images(&mut self, more: Vec<String>, fewer: Vec<String>) {
        for image in more {
            *self.spread_of_images.entry(image).or_default() += 1;
        }
        for image in fewer {
            if let Some(count) = self.spread_of_images.get_mut(&image) {
                *count -= 1;
                if *count == 0 {
                    self.spread_of_images.remove(&image);
                }
            }
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.remove(name) else { return };
        let gone = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
        self.count_images(Vec::new(), gone.images.into_keys().collect());
    }

    /// Notes that the pod is on its node (`pod.node`), assumed or in fact.
    pub fn put_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.uid);
        let Some(name) = &pod.node else { return };
        if let Some(node) = self.by_name.get(name).and_then(|at| self.nodes.get_mut(*at)) {
            node.add(pod.clone());
        }
        self.with_terms += usize::from(has_terms(&pod));
        self.places.insert(pod.uid.clone(), pod);
    }

    /// Whether it was on a node.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(pod) = self.places.remove(uid) else { return false };
        self.with_terms -= usize::from(has_terms(&pod));
        let name = pod.node.as_deref().unwrap_or_default();
        if let Some(node) = self.by_name.get(name).and_then(|at| self.nodes.get_mut(*at)) {
            node.remove(uid);
        }
        true
    }

    /// The least priority of any pod on a node: nobody of no more can preempt.
    pub fn least_priority(&self) -> i32 {
        self.places.values().map(|pod| pod.priority).min().unwrap_or(i32::MAX)
    }

    /// The pod, if it is on a node.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.places.get(uid)
    }
}
