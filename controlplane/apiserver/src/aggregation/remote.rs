//! Another server, as its APIService names it: how it is spoken to, and what is known of it.
//!
//! Must not know: what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintle_api::aggregation::{Registration, Service, availability};
use pintle_api::object;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::documents::Documents;
use crate::config::FrontProxy;
use crate::relay::proxied;
use crate::relay::target::{Target, Transport};
use crate::server::ApiServer;

pub(crate) struct Remote {
    pub registration: Registration,
    pub service: Service,
    /// Of the APIService.
    pub uid: String,
    /// What TLS needs; the words of what is wrong with the APIService otherwise.
    pub tls: Result<(Arc<ClientConfig>, ServerName<'static>), String>,
    /// As was found out last; at first, as the APIService says.
    available: AtomicBool,
    /// None until it was asked once.
    pub documents: ArcSwapOption<Documents>,
    /// Its documents are to be read anew.
    pub reread: Notify,
    pub stop: CancellationToken,
}

impl Remote {
    pub fn new(server: &ApiServer, registration: Registration, object: &Value) -> Arc<Self> {
        let service = registration.service.clone().unwrap_or(Service {
            namespace: String::new(),
            name: String::new(),
            port: 443,
        });
        let tls = tls(&registration, &service, server.config.front_proxy.as_deref());
        Arc::new(Self {
            tls: tls.map_err(|error| format!("{error:#}")),
            uid: object::uid(object).to_owned(),
            available: AtomicBool::new(availability::is_available(object)),
            documents: ArcSwapOption::empty(),
            reread: Notify::new(),
            stop: server.cancel.child_token(),
            registration,
            service,
        })
    }

    /// Says what was found out, before anybody reads it in the APIService: whoever does may count on it.
    pub fn set_available(&self, available: bool) {
        if self.available.swap(available, Ordering::AcqRel) != available {
            self.reread.notify_one();
        }
    }

    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// One of the endpoints behind its Service; what to ask there is `path`, with its query.
    ///
    /// # Errors
    /// Why there is none.
    pub fn target(&self, server: &ApiServer, path: String) -> anyhow::Result<Target> {
        let Service { namespace, name, port } = &self.service;
        let (host, port) = proxied::endpoint(server, namespace, name, *port)?;
        Ok(Target { host, port: Some(port), transport: Transport::Unverified, path })
    }
}

fn tls(
    registration: &Registration,
    service: &Service,
    front_proxy: Option<&FrontProxy>,
) -> anyhow::Result<(Arc<ClientConfig>, ServerName<'static>)> {
    let name = ServerName::try_from(service.server_name()).context("the Service's name is no host's name")?;
    let bundle = STANDARD.decode(&registration.ca_bundle).context("the bundle of certificates is no base64")?;
    let shown = front_proxy.map(|it| &it.certificate);
    let config = match (registration.skips_verification, shown) {
        (true, None) => pintle_pki::unverified()?,
        (true, Some(shown)) => pintle_pki::unverified_as(shown)?,
        (false, None) => pintle_pki::trusting(&bundle)?,
        (false, Some(shown)) => pintle_pki::trusting_as(&bundle, shown)?,
    };
    Ok((config, name))
}
