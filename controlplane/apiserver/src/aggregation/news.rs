//! Changes of one Service and of its EndpointSlices, from a moment on.
//!
//! Must not know: what they mean.

use std::sync::Arc;

use pintle_api::aggregation::Service;
use pintle_api::status::Status;

use super::QUEUE;
use crate::cache::{Cache, Change, Since, Watcher};
use crate::server::ApiServer;

const LABEL: &str = "kubernetes.io/service-name";

pub struct News {
    service: String,
    services: Watcher,
    slices: Watcher,
}

impl News {
    /// Everything after this call is news.
    pub fn of(server: &ApiServer, service: &Service) -> Result<Self, Status> {
        let (services, slices) =
            (server.cache_of("", "services")?, server.cache_of("discovery.k8s.io", "endpointslices")?);
        Ok(Self {
            service: service.name.clone(),
            services: from_now_on(&services, &service.namespace)?,
            slices: from_now_on(&slices, &service.namespace)?,
        })
    }

    /// Waits for the first; what was missed, because there was too much of it, may be one.
    pub async fn heard(mut self) {
        let named = |change: &Change| *change.object.name == *self.service;
        let labelled = |change: &Change| {
            let before = change.prev.as_ref().and_then(|it| it.label(LABEL));
            change.object.label(LABEL) == Some(&self.service) || before == Some(&self.service)
        };
        tokio::select! {
            () = next(&mut self.services, named) => {}
            () = next(&mut self.slices, labelled) => {}
        }
    }
}

/// Changes in a namespace, without what is there already.
pub fn from_now_on(cache: &Arc<Cache>, namespace: &str) -> Result<Watcher, Status> {
    let revision = cache.list(Some(namespace)).revision;
    Ok(cache.watch(Some(namespace), Since::Revision(revision), QUEUE)?)
}

async fn next(watcher: &mut Watcher, concerns: impl Fn(&Change) -> bool) {
    while let Some(change) = watcher.next().await {
        if concerns(&change) {
            return;
        }
    }
}
