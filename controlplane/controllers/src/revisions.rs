//! Writing down what `history` decided.
//!
//! Must not know: what a revision is for.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use pintle_client::Reflector;

use crate::history::{self, Change};
use crate::{api, owner};

/// The revisions that `meta`'s object controls, oldest first.
pub fn of(cache: &Reflector<ControllerRevision>, meta: &ObjectMeta) -> Vec<Arc<ControllerRevision>> {
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let mut all = cache.list_owned(namespace, name);
    all.retain(|revision| owner::is_controlled_by(&revision.metadata, meta));
    history::sorted(all)
}

/// What became of a change.
pub enum Written {
    Done,
    /// The hash belongs to another template: the owner's collision count has to go up.
    Collision,
}

pub async fn write(client: &Client, change: Change, owner_meta: &ObjectMeta) -> anyhow::Result<Written> {
    let revisions: Api<ControllerRevision> =
        api::namespaced(client, owner_meta.namespace.as_deref().unwrap_or_default());
    match change {
        Change::None => {}
        Change::Renumber(revision) => {
            let name = revision.name_any();
            revisions.replace(&name, &PostParams::default(), &revision).await.context("renumbering a revision")?;
        }
        Change::Create(revision) => match revisions.create(&PostParams::default(), &revision).await {
            Err(error) if api::is_already_exists(&error) => {
                let present = revisions.get(&revision.name_any()).await.context("looking at a revision")?;
                let same = present.data == revision.data && owner::is_controlled_by(&present.metadata, owner_meta);
                return Ok(if same { Written::Done } else { Written::Collision });
            }
            created => drop(created.context("creating a revision")?),
        },
    }
    Ok(Written::Done)
}

pub async fn delete(client: &Client, surplus: Vec<Arc<ControllerRevision>>) -> anyhow::Result<()> {
    for revision in surplus {
        let revisions: Api<ControllerRevision> = api::namespaced(client, &revision.namespace().unwrap_or_default());
        let params = api::delete_uid(revision.metadata.uid.as_ref());
        api::ignore_not_found(revisions.delete(&revision.name_any(), &params).await).context("deleting a revision")?;
    }
    Ok(())
}
