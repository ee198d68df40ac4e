//! How many requests are served at once. Beyond that a client is told to come back, as upstream tells it.
//!
//! Must not know: what the requests are about.

use std::sync::Arc;

use pintle_api::status::Status;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;

pub struct InFlight {
    reading: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
}

impl InFlight {
    pub fn new(config: &Config) -> Self {
        Self {
            reading: Arc::new(Semaphore::new(config.max_in_flight)),
            mutating: Arc::new(Semaphore::new(config.max_mutating_in_flight)),
        }
    }

    /// A place among those in flight, given back when dropped; 429 where there is none.
    pub fn enter(&self, verb: &str) -> Result<OwnedSemaphorePermit, Status> {
        let reads = matches!(verb, "get" | "list" | "watch" | "head" | "options");
        let places = if reads { &self.reading } else { &self.mutating };
        places.clone().try_acquire_owned().map_err(|_| {
            let why = "the server has received too many requests and has asked us to try again later";
            let mut status = Status::new(429, "TooManyRequests", why);
            status.details = json!({ "retryAfterSeconds": 1 });
            status
        })
    }
}
