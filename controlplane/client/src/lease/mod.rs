//! Leader election over a Lease, with upstream's fields and durations: of several candidates one leads at a time, and
//! it stops leading before another may start.
//!
//! Must not know: what leading means.

mod plan;

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use plan::Terms;
use plan::{Decision, Observed};

use crate::error::chain;

/// A candidate for one Lease.
pub struct LeaderElection {
    api: Api<Lease>,
    name: String,
    terms: Terms,
    /// Give up leading when renewing has failed for this long; shorter than the lease.
    renew_deadline: Duration,
    retry_period: Duration,
    observed: Option<Observed>,
}

impl LeaderElection {
    /// Upstream's durations: a lease of 15 s, renewed within 10 s, tried every 2 s. `identity` must be another for every
    /// process (host name and something random).
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            terms: Terms { identity: identity.to_owned(), lease_duration: Duration::from_secs(15) },
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            observed: None,
        }
    }

    /// Waits to become leader, then runs `lead`. The token that `lead` gets is cancelled when the lead is lost or
    /// `cancel` fires; `lead` must end soon after. Gives the lease up at the end, so that the next leader need not wait.
    pub async fn run<F: Future<Output = T>, T>(
        mut self,
        cancel: CancellationToken,
        lead: impl FnOnce(CancellationToken) -> F,
    ) -> Option<T> {
        cancel.run_until_cancelled(self.acquire()).await?;
        tracing::info!(lease = %self.name, identity = %self.terms.identity, "leading");
        let leading = cancel.child_token();
        let work = lead(leading.clone());
        tokio::pin!(work);
        let result = tokio::select! {
            result = &mut work => result,
            () = self.renew(&leading) => {
                leading.cancel();
                work.await
            }
        };
        self.release().await;
        Some(result)
    }

    async fn acquire(&mut self) {
        loop {
            match self.try_once().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(lease = %self.name, error = chain(error.as_ref()), "lease not acquired"),
            }
            // jitter keeps candidates from trying in step
            let jitter = 1.0 + 0.2 * f64::from(Timestamp::now().subsec_nanosecond()) / 1e9;
            tokio::time::sleep(self.retry_period.mul_f64(jitter)).await;
        }
    }

    /// Returns when the lead is lost or given up.
    async fn renew(&mut self, leading: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            if leading.run_until_cancelled(tokio::time::sleep(self.retry_period)).await.is_none() {
                return;
            }
            let attempt = tokio::time::timeout_at(renewed + self.renew_deadline, self.try_once()).await;
            match attempt {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return tracing::error!(lease = %self.name, "somebody else leads"),
                Ok(Err(error)) => tracing::warn!(error = chain(error.as_ref()), "lease not renewed"),
                Err(_) => return tracing::error!(lease = %self.name, "lease not renewed in time"),
            }
        }
    }

    /// One try to get or keep the lease: whether it is ours now.
    async fn try_once(&mut self) -> anyhow::Result<bool> {
        let lease = self.api.get_opt(&self.name).await.context("reading the lease")?;
        let (wall, now) = (Timestamp::now(), Instant::now().into_std());
        self.observed = plan::observe(self.observed.take(), lease.as_ref(), now);
        match plan::decide(&self.terms, lease, self.observed.as_ref(), wall, now) {
            Decision::Wait => Ok(false),
            Decision::Create(mut lease) => {
                lease.metadata.name = Some(self.name.clone());
                self.api.create(&PostParams::default(), &lease).await.context("creating the lease")?;
                Ok(true)
            }
            Decision::Update(lease) => {
                self.api.replace(&self.name, &PostParams::default(), &lease).await.context("updating the lease")?;
                Ok(true)
            }
        }
    }

    async fn release(&self) {
        let release = async {
            let lease = self.api.get(&self.name).await?;
            match plan::release(&self.terms, lease, Timestamp::now()) {
                Some(lease) => self.api.replace(&self.name, &PostParams::default(), &lease).await.map(drop),
                None => Ok(()),
            }
        };
        match tokio::time::timeout(self.retry_period, release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "lease not released; it will expire"),
            Err(_) => tracing::debug!("lease not released in time; it will expire"),
        }
    }
}
