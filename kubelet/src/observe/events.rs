//! Container events wake the worker whose sandbox they name.
//!
//! Must not know: what the worker does.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures::StreamExt as _;
use parking_lot::Mutex;
use pintle_cri::{Event, Runtime};
use tokio::sync::Notify;

/// Who is woken by which sandbox. Clones share the table; ends of workers clear it.
#[derive(Clone, Default)]
pub struct Wakes(Arc<Mutex<HashMap<String, Weak<Notify>>>>);

impl Wakes {
    /// From now on, events of these sandboxes wake `wake`.
    pub fn follow<'a>(&self, sandboxes: impl Iterator<Item = &'a str>, wake: &Arc<Notify>) {
        let mut all = self.0.lock();
        for id in sandboxes {
            if !all.contains_key(id) {
                all.insert(id.to_string(), Arc::downgrade(wake));
            }
        }
    }

    fn wake(&self, sandbox: Option<&str>) {
        let mut all = self.0.lock();
        match sandbox.map(|id| all.get(id)) {
            Some(Some(one)) => drop(one.upgrade().map(|one| one.notify_one())),
            // a sandbox that no worker has seen yet: the worker that makes it looks by itself
            Some(None) => {}
            None => {
                all.retain(|_, one| one.strong_count() > 0);
                all.values().filter_map(Weak::upgrade).for_each(|one| one.notify_one());
            }
        }
    }
}

/// Follows the runtime's events until dropped.
pub async fn run(runtime: Runtime, wakes: Wakes) {
    let mut events = runtime.events();
    while let Some(event) = events.next().await {
        match event {
            Event::Container(event) => wakes.wake(event.pod_sandbox_id.as_deref()),
            Event::Resync => wakes.wake(None),
        }
    }
}
