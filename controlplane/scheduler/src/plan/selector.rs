//! Selectors as pods name them, in the form the plan keeps them.
//!
//! Must not know: whose labels.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use pintle_api::selector::LabelSelector;
use pintle_api::selector::labels::{Operator, Requirement};

pub type Labels = BTreeMap<String, String>;

/// `selector`, which must also have the values that `labels` has of `same`, and must not have those of `other`.
/// One that validation would refuse matches nothing.
pub fn selector(
    selector: Option<&metav1::LabelSelector>,
    labels: &Labels,
    same: Option<&Vec<String>>,
    other: Option<&Vec<String>>,
) -> LabelSelector {
    let mut selector = selector.cloned();
    for (operator, keys) in [("In", same), ("NotIn", other)] {
        let of_labels = keys.into_iter().flatten().filter_map(|key| Some((key, labels.get(key)?)));
        let expressions = of_labels.map(|(key, value)| metav1::LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: Some(vec![value.clone()]),
        });
        if let Some(selector) = &mut selector {
            selector.match_expressions.get_or_insert_default().extend(expressions);
        }
    }
    LabelSelector::from_metav1(selector.as_ref()).unwrap_or(LabelSelector::NOTHING)
}

/// One term of a node selector: requirements on labels and on `metadata.name`. Without any, or with one that
/// validation would refuse, it matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    names: Vec<Requirement>,
}

impl NodeTerm {
    pub fn of(term: &NodeSelectorTerm) -> Self {
        let all = |list: &Option<Vec<NodeSelectorRequirement>>| {
            list.iter().flatten().map(requirement).collect::<Option<Vec<Requirement>>>()
        };
        match (all(&term.match_expressions), all(&term.match_fields)) {
            (Some(labels), Some(names)) => Self { labels, names },
            _ => Self { labels: Vec::new(), names: Vec::new() },
        }
    }

    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let label = |one: &Requirement| one.matches(labels.get(&one.key).map(String::as_str));
        let field = |one: &Requirement| one.key == "metadata.name" && one.matches(Some(name));
        !(self.labels.is_empty() && self.names.is_empty())
            && self.labels.iter().all(label)
            && self.names.iter().all(field)
    }
}

fn requirement(one: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match one.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    Requirement::new(&one.key, operator, one.values.clone().unwrap_or_default()).ok()
}
