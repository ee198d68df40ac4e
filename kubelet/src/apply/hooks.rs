//! Lifecycle hooks: exec, HTTP, sleep. Source: upstream's lifecycle handlers.
//!
//! Must not know: which event a hook belongs to.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use pintle_cri::v1::ExecSyncRequest;

use super::Drivers;
use crate::probes::http;

/// An HTTP hook's own limit, upstream's default client timeout.
const HTTP_LIMIT: Duration = Duration::from_secs(30);

impl Drivers {
    /// Runs a hook to its end, for at most `limit`.
    ///
    /// # Errors
    /// What went wrong, for the event.
    pub async fn run_hook(
        &self,
        hook: &LifecycleHandler,
        container: &Container,
        id: &str,
        pod_ip: &str,
        limit: Option<Duration>,
    ) -> Result<(), String> {
        let run = self.hook(hook, container, id, pod_ip);
        match limit {
            None => run.await,
            Some(limit) => tokio::time::timeout(limit, run)
                .await
                .unwrap_or_else(|_| Err("the hook did not end in the grace period".into())),
        }
    }

    async fn hook(&self, hook: &LifecycleHandler, container: &Container, id: &str, pod_ip: &str) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            let cmd = exec.command.clone().unwrap_or_default();
            let request = ExecSyncRequest { container_id: id.into(), cmd: cmd.clone(), timeout: 0 };
            let answer =
                self.runtime.runtime.clone().exec_sync(request).await.map_err(|status| status.message().to_string())?;
            let answer = answer.into_inner();
            return match answer.exit_code {
                0 => Ok(()),
                code => Err(format!(
                    "Exec lifecycle hook ({cmd:?}) for Container \"{}\" failed - error: command exited with {code}, message: {:?}",
                    container.name,
                    String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat())
                )),
            };
        }
        if let Some(get) = &hook.http_get {
            let request = http::Request::of(get, container, pod_ip)?;
            return match http::send(&request, HTTP_LIMIT).await {
                Ok(answer) if answer.status < 400 => Ok(()),
                Ok(answer) => Err(format!(
                    "Http lifecycle hook for Container \"{}\" failed - HTTP status {}",
                    container.name, answer.status
                )),
                Err(error) => {
                    Err(format!("Http lifecycle hook for Container \"{}\" failed - error: {error}", container.name))
                }
            };
        }
        if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
            return Ok(());
        }
        Err("Invalid handler".into())
    }
}
