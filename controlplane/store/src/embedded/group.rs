//! Deciding a group of writes: what each comes to, given what stands and what the ones before it in the group do.
//!
//! Must not know: how the group becomes durable.

use std::collections::HashMap;
use std::sync::Arc;

use super::recent::Change;
use super::tables::Checked;
use super::view::View;
use crate::{Entry, Error, Event, Write};

/// What a group comes to once it is durable.
pub struct Group<'a> {
    view: &'a View<'a>,
    pub revision: u64,
    pub compacted: u64,
    pub changes: Vec<Arc<Change>>,
    pub events: Vec<Event>,
    /// The newest change of a key in this group.
    newest: HashMap<Arc<str>, Arc<Change>>,
}

impl<'a> Group<'a> {
    pub fn new(view: &'a View<'a>, revision: u64, compacted: u64) -> Self {
        Self { view, revision, compacted, changes: Vec::new(), events: Vec::new(), newest: HashMap::new() }
    }

    /// The new entry, or what the key holds instead of what was expected.
    pub fn write(&mut self, write: Write) -> Checked<Result<Entry, Option<Entry>>> {
        let current = match self.newest.get(write.key()) {
            Some(change) => change.entry(),
            None => self.view.get(write.key())?,
        };
        let revision = self.revision + 1;
        Ok(match (write, current) {
            (Write::Create { key, value }, None) => {
                Ok(self.put(Entry { key, create_revision: revision, mod_revision: revision, value }, None))
            }
            (Write::Update { key, expect, value }, Some(current)) if current.mod_revision == expect => {
                let create_revision = current.create_revision;
                Ok(self.put(Entry { key, create_revision, mod_revision: revision, value }, Some(current)))
            }
            (Write::Delete { expect, .. }, Some(current)) if current.mod_revision == expect => Ok(self.delete(current)),
            (_, current) => Err(current),
        })
    }

    fn put(&mut self, entry: Entry, prev: Option<Entry>) -> Entry {
        self.push(Change {
            deleted: false,
            revision: entry.mod_revision,
            create_revision: entry.create_revision,
            prev: prev.as_ref().map_or(0, |prev| prev.mod_revision),
            key: entry.key.clone(),
            value: entry.value.clone(),
        });
        self.events.push(Event::Put { entry: entry.clone(), prev });
        entry
    }

    fn delete(&mut self, current: Entry) -> Entry {
        let revision = self.revision + 1;
        self.push(Change {
            deleted: true,
            revision,
            create_revision: current.create_revision,
            prev: current.mod_revision,
            key: current.key.clone(),
            value: Default::default(),
        });
        self.events.push(Event::Delete { revision, prev: current.clone() });
        Entry { mod_revision: revision, ..current }
    }

    fn push(&mut self, change: Change) {
        self.revision = change.revision;
        let change = Arc::new(change);
        self.newest.insert(change.key.clone(), change.clone());
        self.changes.push(change);
    }

    pub fn compact(&mut self, revision: u64) -> Result<(), Error> {
        if revision > self.revision {
            return Err(Error::Future { asked: revision, revision: self.revision });
        }
        if revision <= self.compacted {
            return Err(Error::Compacted { asked: revision, compacted: self.compacted });
        }
        self.compacted = revision;
        Ok(())
    }
}
