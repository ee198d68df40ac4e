//! Cluster role aggregation: a ClusterRole with an aggregation rule has the rules of all roles that the rule selects.
//!
//! Must not know: who is bound to a role.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use pintle_client::{Change, ObjectKey, Reflector};

use crate::api;
use crate::context::Context;
use crate::owner;
use crate::work::Outcome;

struct Controller {
    client: Client,
    roles: Reflector<ClusterRole>,
}

/// Keys are the roles' names.
pub async fn run(context: Context) {
    let client = context.client("clusterrole-aggregation-controller");
    let roles: Reflector<ClusterRole> =
        Reflector::start(Api::all(client.clone()), watcher::Config::default(), context.cancel.clone());
    roles.synced().await;
    let queue = context.queue("ClusterRoleAggregator");
    let all = roles.clone();
    context.feed(&roles, &queue, move |change: &Change<ClusterRole>| {
        let changed = change.object();
        let concerned =
            all.list().into_iter().filter(|role| role.name_any() == changed.name_any() || selects(role, changed));
        concerned.filter(|role| role.aggregation_rule.is_some()).map(|role| ObjectKey::of(role.as_ref()).name).collect()
    });
    let controller = Arc::new(Controller { client, roles });
    queue.run(1, context.cancel.clone(), |name| controller.clone().sync(name)).await;
}

fn selects(aggregate: &ClusterRole, role: &ClusterRole) -> bool {
    let selectors = aggregate.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let mut selectors = selectors.filter_map(|selector| owner::selector(Some(selector)));
    selectors.any(|selector| owner::matches(&selector, role.metadata.labels.as_ref()))
}

impl Controller {
    async fn sync(self: Arc<Self>, name: String) -> Outcome {
        let Some(role) = self.roles.get("", &name).filter(|role| role.aggregation_rule.is_some()) else {
            return Ok(None);
        };
        let Some(rules) = plan(&role, &self.roles.list()) else { return Ok(None) };
        let new = ClusterRole { rules: Some(rules).filter(|rules| !rules.is_empty()), ..role.as_ref().clone() };
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        let written = roles.replace(&name, &PostParams::default(), &new).await;
        api::ignore_not_found(written).context("writing aggregated rules")?;
        Ok(None)
    }
}

/// The rules of all roles selected, each once, by the roles' names; None: they are there already, in whatever order.
fn plan(aggregate: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let mut parts: Vec<&Arc<ClusterRole>> = all.iter().filter(|role| selects(aggregate, role)).collect();
    parts.retain(|role| role.metadata.name != aggregate.metadata.name);
    parts.sort_by_key(|role| role.name_any());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in parts.into_iter().flat_map(|role| role.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    let present = aggregate.rules.as_deref().unwrap_or_default();
    let same = present.len() == rules.len() && present.iter().all(|rule| rules.contains(rule));
    (!same).then_some(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_aggregate_has_each_rule_of_its_parts_once() {
        let rule = json!({"verbs": ["get"], "resources": ["pods"], "apiGroups": [""]});
        let part = |name: &str| -> Arc<ClusterRole> {
            let meta = json!({"name": name, "labels": {"to": "view"}});
            Arc::new(serde_json::from_value(json!({"metadata": meta, "rules": [rule]})).unwrap())
        };
        let selectors = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]});
        let mut view: ClusterRole =
            serde_json::from_value(json!({"metadata": {"name": "view"}, "aggregationRule": selectors})).unwrap();
        let all = [part("b"), part("a")];
        let rules = plan(&view, &all).unwrap();
        assert_eq!(rules.len(), 1);
        view.rules = Some(rules);
        assert_eq!(plan(&view, &all), None);
        assert_eq!(plan(&view, &[]), Some(Vec::new()));
    }
}
