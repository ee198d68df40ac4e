//! Tokens of streaming URLs: each is good once, and not for long.
//!
//! Must not know: HTTP.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::distr::Alphanumeric;

/// Upstream's limits.
const LIFE: Duration = Duration::from_secs(60);
const MOST: usize = 1000;
const LENGTH: usize = 22;

/// Requests that wait for their client to connect, the oldest first.
#[derive(Debug)]
pub struct Tokens<T>(Mutex<VecDeque<(String, Instant, T)>>);

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Tokens<T> {
    /// A token for a request; `None` while too many wait.
    pub fn issue(&self, request: T, now: Instant) -> Option<String> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.front().is_some_and(|(_, at, _)| now.duration_since(*at) > LIFE) {
            waiting.pop_front();
        }
        if waiting.len() >= MOST {
            return None;
        }
        let token: String = rand::rng().sample_iter(Alphanumeric).take(LENGTH).map(char::from).collect();
        waiting.push_back((token.clone(), now, request));
        Some(token)
    }

    /// The request that a token was issued for, once.
    pub fn redeem(&self, token: &str, now: Instant) -> Option<T> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = waiting.iter().position(|(known, ..)| known == token)?;
        let (_, at, request) = waiting.remove(index)?;
        (now.duration_since(at) <= LIFE).then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let (first, late) = (tokens.issue(1, now).unwrap(), tokens.issue(2, now).unwrap());
        assert_ne!(first, late);
        assert_eq!(tokens.redeem(&first, now + LIFE), Some(1));
        assert_eq!(tokens.redeem(&first, now), None);
        assert_eq!(tokens.redeem(&late, now + LIFE + Duration::from_secs(1)), None);
    }

    #[test]
    fn no_more_than_a_thousand_wait() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        assert_eq!((0..1001).filter_map(|request| tokens.issue(request, now)).count(), MOST);
        assert!(tokens.issue(0, now + LIFE + Duration::from_secs(1)).is_some());
    }
}
