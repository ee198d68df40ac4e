//! The node's room, as pods that are resized share it.
//!
//! Must not know: how a resize is carried out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Shown;
use crate::plan::admission::{self, Refusal, Room};
use crate::plan::pod;

/// Clones share it.
#[derive(Clone)]
pub struct Neighbours {
    pub room: Room,
    shown: Shown,
    /// One decides after the other.
    turn: Arc<Mutex<()>>,
    freed: watch::Sender<()>,
}

impl Neighbours {
    pub fn new(shown: Shown, room: Room) -> Self {
        Self { room, shown, turn: Arc::default(), freed: watch::Sender::new(()) }
    }

    /// Gives the pod what it asks for, where nobody else was allocated it; from then on `shown` has it.
    ///
    /// # Errors
    /// What there is too little of.
    pub fn make_room(&self, asking: &Pod, shown: &watch::Sender<Arc<Pod>>) -> Result<(), Refusal> {
        let _turn = self.turn.lock();
        let others = self.shown.list();
        let others: Vec<&Pod> =
            others.iter().map(AsRef::as_ref).filter(|other| pod::uid(other) != pod::uid(asking)).collect();
        admission::fits(asking, &others, self.room)?;
        shown.send_modify(|pod| Arc::make_mut(pod).spec.clone_from(&asking.spec));
        Ok(())
    }

    /// Somebody needs less, or is gone: who waits for room asks again.
    pub fn freed(&self) {
        self.freed.send_replace(());
    }

    pub fn changes(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }
}
