//! A server of a test's own, in a directory of its own.
//!
//! Must not know: what is tested.

use std::sync::Arc;

use pintle_apiserver::auth::{Tokens, UserInfo};
use pintle_apiserver::config::FrontProxy;
use pintle_apiserver::{ApiServer, Config};
use pintle_daemon::metrics::Metrics;
use pintle_pki::{Authority, Leaf};
use tokio_util::sync::{CancellationToken, DropGuard};

pub struct Running {
    pub server: Arc<ApiServer>,
    _stop: DropGuard,
    _directory: tempfile::TempDir,
}

impl Running {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = pintle_store::open(directory.path(), Default::default()).unwrap();
        let cancel = CancellationToken::new();
        let metrics = Metrics::default();
        let key = pintle_pki::tokens::generate().unwrap();
        let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
        let tokens = Tokens::new(pintle_pki::TokenKey::load(&key).unwrap(), issuer);
        let server = ApiServer::start(
            Config {
                advertise: Some(([192, 0, 2, 1].into(), 6443)),
                front_proxy: Some(Arc::new(front_proxy())),
                ..Config::default()
            },
            Arc::new(store),
            tokens,
            &metrics,
            cancel.clone(),
        )
        .await
        .unwrap();
        Self { server, _stop: cancel.drop_guard(), _directory: directory }
    }

    pub fn admin(&self) -> kube::Client {
        self.server.client(UserInfo::new("admin", &["system:masters"]))
    }
}

fn front_proxy() -> FrontProxy {
    let authority = Authority::create("front-proxy-ca").unwrap();
    FrontProxy {
        client_authority: Authority::create("kubernetes").unwrap().certificate_pem().to_owned(),
        name: "front-proxy-client".to_owned(),
        certificate: authority.issue(&Leaf::client("front-proxy-client", None)).unwrap(),
        authority: authority.certificate_pem().to_owned(),
    }
}
