//! What was made of objects that configure admission: compiled expressions, selectors, TLS. Made once per revision.
//!
//! Must not know: what is made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::policies::{Binding, Policy};
use super::webhooks::Hooks;
use crate::cache::Stored;

#[derive(Default)]
pub struct Configured {
    mutating: Side,
    validating: Side,
}

/// Of admission that changes objects, or of admission that refuses them.
#[derive(Default)]
pub struct Side {
    pub hooks: Made<Hooks>,
    pub policies: Made<Policy>,
    pub bindings: Made<Binding>,
}

impl Configured {
    pub fn side(&self, mutating: bool) -> &Side {
        if mutating { &self.mutating } else { &self.validating }
    }
}

/// By the objects' keys, with the revisions they were made of.
pub struct Made<T> {
    known: Mutex<Known<T>>,
}

type Known<T> = HashMap<Arc<str>, (u64, Arc<T>)>;

impl<T> Default for Made<T> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<T> Made<T> {
    /// What `make` makes of `stored`, one of `live` objects. Not many more are kept than live.
    pub fn of(&self, stored: &Stored, live: usize, make: impl FnOnce(Value) -> T) -> Arc<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, made)) = known.get(&stored.key)
            && *revision == stored.revision
        {
            return made.clone();
        }
        if known.len() > 2 * live + 16 {
            known.clear();
        }
        let made = Arc::new(make(stored.value()));
        known.insert(stored.key.clone(), (stored.revision, made.clone()));
        made
    }
}
