//! Keeps one container's events in order while those of different containers go their own pace.
//!
//! Must not know: what is done with an event between its start and its end.

use std::collections::{HashMap, VecDeque};

/// Events that may wait in all; beyond it the reader must list instead.
const MOST_WAITING: usize = 8192;

/// At most one event per key is in hand; the rest of that key wait behind it.
#[derive(Debug)]
pub struct Order<T> {
    waiting: HashMap<String, VecDeque<T>>,
    count: usize,
}

/// Too many events wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl<T> Order<T> {
    pub fn new() -> Self {
        Self { waiting: HashMap::new(), count: 0 }
    }

    /// Takes an event in: hands it back when it may be worked on now, keeps it when an earlier one of its key is in hand.
    pub fn arrive(&mut self, key: &str, event: T) -> Result<Option<T>, Full> {
        let Some(queue) = self.waiting.get_mut(key) else {
            self.waiting.insert(key.to_owned(), VecDeque::new());
            return Ok(Some(event));
        };
        if self.count >= MOST_WAITING {
            return Err(Full);
        }
        queue.push_back(event);
        self.count += 1;
        Ok(None)
    }

    /// The event in hand is done: the next of its key, if one waits.
    pub fn done(&mut self, key: &str) -> Option<T> {
        let next = self.waiting.get_mut(key).and_then(VecDeque::pop_front);
        match next {
            Some(_) => self.count -= 1,
            None => drop(self.waiting.remove(key)),
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_key_wait_for_each_other_and_those_of_another_do_not() {
        let mut order = Order::new();
        assert_eq!(order.arrive("a", 1), Ok(Some(1)));
        assert_eq!(order.arrive("a", 2), Ok(None));
        assert_eq!(order.arrive("b", 3), Ok(Some(3)));
        assert_eq!(order.done("a"), Some(2));
        assert_eq!(order.done("a"), None);
        assert_eq!(order.arrive("a", 4), Ok(Some(4)));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut order = Order::new();
        assert_eq!(order.arrive("a", 0), Ok(Some(0)));
        for event in 0..MOST_WAITING {
            assert_eq!(order.arrive("a", event), Ok(None));
        }
        assert_eq!(order.arrive("a", 1), Err(Full));
        order.done("a");
        assert_eq!(order.arrive("a", 1), Ok(None));
    }
}
