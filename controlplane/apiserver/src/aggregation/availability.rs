//! Looks after one aggregated API's condition `Available`: whenever its Service or its endpoints change, every half a
//! minute, and soon again after a failure. Source: `kube-aggregator/pkg/controllers/status/remote`.
//!
//! Must not know: what the conditions' words are.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use pintle_api::aggregation::availability::{self, Verdict};
use pintle_daemon::backoff::Backoff;

use super::news::News;
use super::{Remote, ask, documents, register};
use crate::relay::proxied;
use crate::server::ApiServer;

/// How often it is asked while all is well.
const REGULARLY: Duration = Duration::from_secs(30);
/// How soon and how late it is asked again after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(30));
/// Any of so many answers will do: one of several endpoints may be on its way out.
const ATTEMPTS: usize = 5;

pub async fn mind(server: Weak<ApiServer>, remote: Arc<Remote>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let Some(up) = server.upgrade() else { return };
        // from before the look: what changes meanwhile is looked at again
        let news = News::of(&up, &remote.service);
        let settled = settle(&up, &remote).await;
        drop(up);
        let wait = match &settled {
            Ok(()) => {
                backoff.reset();
                REGULARLY
            }
            Err(error) => {
                tracing::debug!(api_service = remote.registration.name, "not available: {error:#}");
                backoff.next_delay()
            }
        };
        match news {
            Ok(news) => drop(tokio::time::timeout(wait, news.heard()).await),
            Err(_) => tokio::time::sleep(wait).await,
        }
    }
}

/// Looks and writes down what was seen. An error is worth another look soon.
async fn settle(server: &Arc<ApiServer>, remote: &Remote) -> anyhow::Result<()> {
    let verdict = match ruled_out(server, remote)? {
        Some(verdict) => verdict,
        None => match answers(server, remote).await {
            Ok(()) => {
                // whoever waits for it to be available wants to find it in discovery then
                if !remote.is_available() {
                    describe(server, remote).await;
                }
                Verdict::passed()
            }
            Err(error) => Verdict::failed(format!("{error:#}")),
        },
    };
    let name = &remote.registration.name;
    remote.set_available(verdict.available);
    server.aggregation.metrics.is(name, verdict.available);
    let written = register::write_verdict(server, name, &verdict).await;
    written.map_err(anyhow::Error::new).context("writing the status")?;
    anyhow::ensure!(verdict.reason != "FailedDiscoveryCheck", verdict.message);
    Ok(())
}

async fn describe(server: &ApiServer, remote: &Remote) {
    if let Err(error) = documents::read(server, remote).await {
        tracing::debug!(api_service = remote.registration.name, "its discovery was not read: {error:#}");
    }
}

fn ruled_out(server: &ApiServer, remote: &Remote) -> anyhow::Result<Option<Verdict>> {
    let wanted = &remote.service;
    let service = server.cache_of("", "services").map_err(anyhow::Error::new)?.get(&wanted.namespace, &wanted.name);
    let slices = proxied::slices(server, &wanted.namespace, &wanted.name).map_err(anyhow::Error::new)?;
    Ok(availability::ruled_out(wanted, service.map(|it| it.value()).as_ref(), &slices))
}

/// Whether any of a few requests is answered.
async fn answers(server: &ApiServer, remote: &Remote) -> anyhow::Result<()> {
    let mut asked: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| answer(server, remote)).collect();
    let mut last = Ok(());
    while let Some(answer) = asked.next().await {
        last = answer;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn answer(server: &ApiServer, remote: &Remote) -> anyhow::Result<()> {
    let target = remote.target(server, remote.registration.path())?;
    let url = ask::url(&target);
    let response = ask::get(remote, &target, "*/*", "").await;
    let status = response.and_then(|response| {
        let code = response.status().as_u16();
        anyhow::ensure!((200..300).contains(&code), "bad status from {url}: {code}");
        Ok(())
    });
    status.with_context(|| format!("failing or missing response from {url}"))
}
