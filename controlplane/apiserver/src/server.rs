//! The API server as one value: what every request needs, put together once.
//!
//! Must not know: HTTP.

use std::sync::Arc;

use anyhow::Context as _;
use pintle_api::kinds::{self, Kind};
use pintle_api::status::Status;
use pintle_daemon::metrics::Metrics;
use pintle_store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::Configured;
use crate::admission::quota::Turns;
use crate::aggregation::{self, Aggregation};
use crate::auth::node::NodeAuthorizer;
use crate::auth::rbac::Rbac;
use crate::auth::{Authenticator, Authorizer, Tokens};
use crate::cache::{Cache, Caches};
use crate::config::Config;
use crate::conversion::Clients;
use crate::custom::{self, Custom};
use crate::handler::in_flight::InFlight;
use crate::services::Allocators;
use crate::telemetry::Telemetry;
use crate::{bootstrap, expiry, services};

pub struct ApiServer {
    pub config: Config,
    pub(crate) caches: Arc<Caches>,
    pub(crate) custom: Custom,
    pub(crate) aggregation: Aggregation,
    pub(crate) configured: Configured,
    pub(crate) conversions: Clients,
    pub(crate) services: Allocators,
    pub(crate) quota_turns: Turns,
    pub(crate) in_flight: InFlight,
    pub(crate) telemetry: Telemetry,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Authorizer,
    pub(crate) cancel: CancellationToken,
}

impl ApiServer {
    /// Fills the caches from `store`, allocates what is in use, and makes sure the objects every cluster has exist.
    /// Ready to answer when it returns. `tokens` signs and knows service accounts; `cancel` ends its tasks.
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        tokens: Tokens,
        metrics: &Metrics,
        cancel: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let caches = Caches::open(store, kinds::all(), cancel.clone()).await.context("filling the caches")?;
        let services = Allocators::new(&config).context("reading the ranges of Services")?;
        let rbac = Rbac::start(&caches, cancel.clone())?;
        let server = Arc::new(Self {
            authenticator: Authenticator { tokens: Arc::new(tokens), caches: caches.clone(), anonymous: true },
            authorizer: Authorizer { rbac, nodes: NodeAuthorizer::new(caches.clone()) },
            quota_turns: Turns::default(),
            in_flight: InFlight::new(&config),
            telemetry: Telemetry::new(metrics),
            config,
            custom: Custom::default(),
            aggregation: Aggregation::new(metrics),
            configured: Configured::default(),
            conversions: Clients::default(),
            caches,
            services,
            cancel,
        });
        services::rebuild(&server);
        custom::start(&server).await?;
        bootstrap::run(&server).await.context("creating the objects every cluster has")?;
        aggregation::start(&server).await.context("registering the groups of the API")?;
        let events = server.cache_of("", "events")?;
        tokio::spawn(expiry::run(events, server.config.event_ttl, server.cancel.clone()));
        Ok(server)
    }

    /// The cache of the objects behind `kind`.
    pub(crate) fn cache(&self, kind: &Kind) -> Result<Arc<Cache>, Status> {
        let (group, _, plural) = kind.storage;
        self.cache_of(group, plural)
    }

    pub(crate) fn cache_of(&self, group: &str, plural: &str) -> Result<Arc<Cache>, Status> {
        let found = self.caches.of(group, plural);
        found.ok_or_else(|| Status::internal(format!("{plural}.{group} is not stored")))
    }
}
