//! The API server alone, over plain HTTP on loopback, everybody an administrator: for `kubectl -s` while developing.
//!
//! Must not know: anything but the server's public interface.

use std::sync::Arc;

use pintle_apiserver::auth::{Tokens, UserInfo};
use pintle_apiserver::{ApiServer, Config};
use pintle_daemon::metrics::Metrics;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    pintle_daemon::telemetry::install("info", false)?;
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:22000".to_owned());
    let cancel = CancellationToken::new();
    let directory = arguments.next().unwrap_or_else(|| "/tmp/pintle-apiserver-dev".to_owned());
    let store = pintle_store::open(directory.as_ref(), Default::default())?;
    let key = pintle_pki::tokens::generate()?;
    let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
    let tokens = Tokens::new(pintle_pki::TokenKey::load(&key)?, issuer);
    let server =
        ApiServer::start(Config::default(), Arc::new(store), tokens, &Metrics::default(), cancel.clone()).await?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    tracing::info!(address, "serving");
    let user = UserInfo::new("dev", &["system:masters"]);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(server.clone().serve_stream(stream, user.clone(), cancel.clone()));
    }
}
