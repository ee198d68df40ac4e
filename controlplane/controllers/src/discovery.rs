//! What kinds the API serves, in their preferred versions.
//!
//! Must not know: what is done with them.

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::core::ApiResource;

/// A kind as the API serves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    pub resource: ApiResource,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }
}

/// What could be found out, and which groups could not be asked (an aggregated API server may be down).
#[derive(Debug, Default)]
pub struct Discovered {
    pub kinds: Vec<Served>,
    pub failed: Vec<String>,
}

pub async fn discover(client: &Client) -> anyhow::Result<Discovered> {
    let core = client.list_core_api_resources("v1").await.context("asking for the core resources")?;
    let mut found = Discovered { kinds: kinds(core), failed: Vec::new() };
    let groups = client.list_api_groups().await.context("asking for the API groups")?;
    for group in groups.groups {
        let preferred = group.preferred_version.as_ref().or(group.versions.first());
        let Some(version) = preferred.map(|version| version.group_version.clone()) else { continue };
        match client.list_api_group_resources(&version).await {
            Ok(list) => found.kinds.extend(kinds(list)),
            Err(error) => {
                tracing::debug!(version, %error, "resources not discovered");
                found.failed.push(version);
            }
        }
    }
    Ok(found)
}

/// The kinds of a list, without subresources.
fn kinds(list: APIResourceList) -> Vec<Served> {
    let group_version = list.group_version;
    let (group, version) = group_version.split_once('/').unwrap_or(("", &group_version));
    let own = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
    let served = own.map(|resource| Served {
        resource: ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: group_version.clone(),
            kind: resource.kind,
            plural: resource.name,
        },
        namespaced: resource.namespaced,
        verbs: resource.verbs,
    });
    served.collect()
}
