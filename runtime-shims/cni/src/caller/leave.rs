//! Detaching behind the caller's back, where all there is to wait for is the kernel: it takes some 10 ms to be sure that
//! nobody uses a link any more, and a pod whose processes are gone needs it no longer.
//!
//! Must not know: plugins.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use super::{CallError, Network};
use crate::conf::PLUGIN_NAME;

/// Pods that may be on their way out behind everybody's back; whoever comes then waits, so that addresses do come back.
const LEAVING: u32 = 32;
/// What fails is tried again so often, each time after twice as long; then the next collection has it.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(250);

/// Room for those who leave.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(LEAVING as usize))
}

impl Network {
    /// As [`Network::del`], but what can only be late and not fail, this does not wait for: our own plugin is the whole
    /// chain, and the pod has no host ports, which the next pod may want at once. Its address is nobody else's before
    /// its link is gone. What is kept says until then that the pod is attached: after a kill, [`Network::gc`] ends it.
    ///
    /// # Errors
    /// As [`Network::del`].
    pub async fn leave(&self, id: &str) -> Result<(), CallError> {
        let Some(place) = self.place(id) else { return self.del(id).await };
        let (network, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            let _place = place;
            network.del_in_the_end(&id).await;
        });
        Ok(())
    }

    /// Waits until nobody is on the way out any more: before what this process does is undone in other ways.
    pub async fn settled(&self) {
        // it is never closed
        let _all = self.inner.leaving.acquire_many(LEAVING).await;
    }

    fn place(&self, id: &str) -> Option<OwnedSemaphorePermit> {
        let kept = self.inner.records.read(id).ok().flatten()?;
        let list = kept.list().ok()?;
        let simple = matches!(list.plugins.as_slice(), [only] if only.kind == PLUGIN_NAME);
        let alone = simple && kept.pod.capabilities.port_mappings.is_empty();
        alone.then(|| self.inner.leaving.clone().try_acquire_owned().ok()).flatten()
    }

    async fn del_in_the_end(&self, id: &str) {
        for attempt in 0..TRIES {
            match self.del(id).await {
                Ok(()) => return,
                Err(error) => warn!("pod {id} is not detached yet: {error}"),
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
        }
    }
}
