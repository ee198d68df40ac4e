//! Writes: to the store, and back when they are durable and visible here.
//!
//! Must not know: verbs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pintle_store::{Entry, Write, WriteError};

use super::{Cache, Stored};

/// How long a durable write may take to come back through the store's watch.
const VISIBLE: Duration = Duration::from_secs(30);

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("the object exists")]
    Exists,
    /// The object is at another revision: this is it.
    #[error("the object has been modified")]
    Conflict(Option<Arc<Stored>>),
    #[error("the object does not exist")]
    Gone,
    #[error(transparent)]
    Store(anyhow::Error),
}

impl Cache {
    /// Stores a new object: canonical JSON without resourceVersion.
    pub async fn create(&self, namespace: &str, name: &str, json: Bytes) -> Result<Arc<Stored>, CommitError> {
        let key = self.key(namespace, name).into();
        match self.store.write(Write::Create { key, value: json }).await {
            Ok(entry) => self.visible(entry).await,
            Err(WriteError::Conflict(_)) => Err(CommitError::Exists),
            Err(WriteError::Store(error)) => Err(CommitError::Store(error.into())),
        }
    }

    /// Replaces the object if it is at revision `expect`.
    pub async fn update(
        &self,
        namespace: &str,
        name: &str,
        expect: u64,
        json: Bytes,
    ) -> Result<Arc<Stored>, CommitError> {
        let key = self.key(namespace, name).into();
        let written = self.store.write(Write::Update { key, expect, value: json }).await;
        self.done(written).await
    }

    /// Removes the object if it is at revision `expect`; answers with what it was, at the deletion's revision.
    pub async fn delete(&self, namespace: &str, name: &str, expect: u64) -> Result<Arc<Stored>, CommitError> {
        let key = self.key(namespace, name).into();
        let written = self.store.write(Write::Delete { key, expect }).await;
        self.done(written).await
    }

    async fn done(&self, written: Result<Entry, WriteError>) -> Result<Arc<Stored>, CommitError> {
        match written {
            Ok(entry) => self.visible(entry).await,
            Err(WriteError::Conflict(None)) => Err(CommitError::Gone),
            Err(WriteError::Conflict(Some(current))) => {
                Err(CommitError::Conflict(Some(Arc::new(self.stored(&current)))))
            }
            Err(WriteError::Store(error)) => Err(CommitError::Store(error.into())),
        }
    }

    /// The object of a durable write, once every reader of this cache can see it.
    async fn visible(&self, entry: Entry) -> Result<Arc<Stored>, CommitError> {
        let waited = self.at_least(entry.mod_revision, VISIBLE).await;
        waited
            .map_err(|status| CommitError::Store(anyhow::anyhow!("the write is durable but not visible: {status}")))?;
        let shown = self.state.read().objects.get(&entry.key).cloned();
        let shown = shown.filter(|shown| shown.revision == entry.mod_revision);
        // a deletion, or overtaken by another write
        Ok(shown.unwrap_or_else(|| Arc::new(self.stored(&entry))))
    }

    pub(super) fn stored(&self, entry: &Entry) -> Stored {
        Stored::new(entry.key.clone(), entry.mod_revision, &entry.value, self.kind)
    }
}
