//! The newest changes, in memory until the store's file has them: at most two layers, the older of which is on its way
//! there.
//!
//! Must not know: files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::tables::Record;
use crate::{Entry, Range};

/// One change, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub deleted: bool,
    pub revision: u64,
    pub create_revision: u64,
    /// The revision this one superseded; 0 if the key did not exist.
    pub prev: u64,
    pub key: Arc<str>,
    pub value: Bytes,
}

impl Change {
    pub fn record(&self) -> Record<'_> {
        Record {
            deleted: self.deleted,
            create_revision: self.create_revision,
            prev: self.prev,
            key: &self.key,
            value: &self.value,
        }
    }

    /// What it makes of its key; `None` where it deletes it.
    pub fn entry(&self) -> Option<Entry> {
        (!self.deleted).then(|| Entry {
            key: self.key.clone(),
            create_revision: self.create_revision,
            mod_revision: self.revision,
            value: self.value.clone(),
        })
    }
}

/// Changes without a gap between their revisions.
#[derive(Debug, Default)]
pub struct Layer {
    changes: Vec<Arc<Change>>,
    /// Where the newest change of a key is.
    newest: HashMap<Arc<str>, usize>,
}

impl Layer {
    pub fn changes(&self) -> &[Arc<Change>] {
        &self.changes
    }

    fn push(&mut self, change: Arc<Change>) {
        self.newest.insert(change.key.clone(), self.changes.len());
        self.changes.push(change);
    }

    fn newest(&self, key: &str) -> Option<&Arc<Change>> {
        self.changes.get(*self.newest.get(key)?)
    }
}

/// Everything that the store's file may lack.
#[derive(Debug)]
pub struct Recent {
    older: Option<Arc<Layer>>,
    newer: Layer,
    /// The newest write, wherever it is.
    pub revision: u64,
    pub compacted: u64,
}

impl Recent {
    pub fn new(revision: u64, compacted: u64) -> Self {
        Self { older: None, newer: Layer::default(), revision, compacted }
    }

    pub fn extend(&mut self, changes: &[Arc<Change>], compacted: u64) {
        self.compacted = compacted;
        self.revision = changes.last().map_or(self.revision, |change| change.revision);
        changes.iter().for_each(|change| self.newer.push(change.clone()));
    }

    /// Begins a new layer; the one so far, which is to be brought into the file. `None` where there is nothing to bring.
    /// There is no older one at that time.
    pub fn freeze(&mut self) -> Option<Arc<Layer>> {
        self.older = (!self.newer.changes.is_empty()).then(|| Arc::new(std::mem::take(&mut self.newer)));
        self.older.clone()
    }

    /// The layer that is on its way into the file.
    pub fn older(&self) -> Option<Arc<Layer>> {
        self.older.clone()
    }

    /// The file has the older layer now.
    pub fn drop_older(&mut self) {
        self.older = None;
    }

    /// The newest change of a key.
    pub fn newest(&self, key: &str) -> Option<&Arc<Change>> {
        self.newer.newest(key).or_else(|| self.older.as_ref()?.newest(key))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Change>> {
        self.older.iter().flat_map(|older| older.changes.iter()).chain(&self.newer.changes)
    }

    /// The first revision in here; one more than the newest where nothing is.
    pub fn first(&self) -> u64 {
        self.all().next().map_or(self.revision + 1, |change| change.revision)
    }

    pub fn at(&self, revision: u64) -> Option<&Arc<Change>> {
        let position = |layer: &Layer| usize::try_from(revision.checked_sub(layer.changes.first()?.revision)?).ok();
        self.layers().find_map(|layer| layer.changes.get(position(layer)?))
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.newer).chain(self.older.as_deref())
    }

    /// The newest change of each key of `range` up to `revision`.
    pub fn within(&self, range: Range<'_>, revision: u64) -> BTreeMap<Arc<str>, Arc<Change>> {
        let wanted = |change: &&Arc<Change>| {
            change.revision <= revision
                && change.key.starts_with(range.prefix)
                && range.start_after.is_none_or(|after| *change.key > *after)
        };
        self.all().filter(wanted).map(|change| (change.key.clone(), change.clone())).collect()
    }

    /// Changes with revisions `after + 1 ..= until`.
    pub fn between(&self, after: u64, until: u64) -> impl Iterator<Item = &Arc<Change>> {
        self.all().filter(move |change| change.revision > after && change.revision <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, key: &str) -> Arc<Change> {
        let key = key.into();
        Arc::new(Change { deleted: false, revision, create_revision: 2, prev: 0, key, value: Bytes::new() })
    }

    #[test]
    fn the_newer_layer_hides_the_older() {
        let mut recent = Recent::new(1, 0);
        recent.extend(&[change(2, "/a"), change(3, "/b"), change(4, "/a")], 0);
        assert_eq!(recent.freeze().unwrap().changes().len(), 3);
        recent.extend(&[change(5, "/b")], 1);
        let newest = |key: &str| recent.newest(key).map(|change| change.revision);
        assert_eq!((newest("/a"), newest("/b"), newest("/c")), (Some(4), Some(5), None));
        assert_eq!((recent.first(), recent.revision, recent.compacted), (2, 5, 1));
        let at = |revision| recent.at(revision).map(|change| change.revision);
        assert_eq!((at(1), at(2), at(5), at(6)), (None, Some(2), Some(5), None));
        let seen = recent.within(Range { prefix: "/", start_after: Some("/a"), ..Range::default() }, 4);
        assert_eq!(seen.values().map(|change| change.revision).collect::<Vec<_>>(), [3]);
        recent.drop_older();
        assert_eq!((recent.first(), recent.revision), (5, 5));
    }
}
