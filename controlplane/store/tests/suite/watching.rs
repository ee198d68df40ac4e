//! Watches: order, no gap, no repeat, and who is closed.

use std::collections::HashMap;

use futures::future::join_all;
use pintle_store::{Event, WatchEnd, WriteError};

use super::{Shared, create, delete, events, update};

pub async fn a_watcher_sees_what_was_and_what_will_be(store: Shared) {
    let a = create(&store, "/r/a", "1").await;
    create(&store, "/other/a", "1").await;
    let a2 = update(&store, &a, "2").await.unwrap();
    let mut watch = store.watch("/r/", a.mod_revision).await.unwrap();
    let gone = delete(&store, &a2).await.unwrap();
    let expected =
        [Event::Put { entry: a2.clone(), prev: Some(a) }, Event::Delete { revision: gone.mod_revision, prev: a2 }];
    assert_eq!(events(&mut watch, 2).await, expected);
}

pub async fn a_watch_of_the_future_begins_there(store: Shared) {
    let a = create(&store, "/r/a", "1").await;
    let mut watch = store.watch("/r/", a.mod_revision + 1).await.unwrap();
    create(&store, "/r/b", "").await;
    let c = create(&store, "/r/c", "").await;
    assert_eq!(events(&mut watch, 1).await, [Event::Put { entry: c, prev: None }]);
}

const WRITERS: usize = 8;
const ROUNDS: usize = 60;

/// Writers work on shared keys while watchers join at any moment, from the past or now: each sees every revision
/// after its own exactly once, in order, and each `prev` is what its key held.
pub async fn watchers_that_join_under_load_miss_repeat_and_reorder_nothing(store: Shared) {
    let start = store.revision().await.unwrap();
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write_about(store.clone(), writer)));
    let watchers = (0..6u64).map(|watcher| {
        let store = store.clone();
        tokio::spawn(async move {
            while store.revision().await.unwrap() < start + watcher * 50 {
                tokio::task::yield_now().await;
            }
            let from = if watcher % 2 == 0 { start } else { store.revision().await.unwrap() };
            let last = start + (WRITERS * ROUNDS) as u64;
            check(store, from, last).await
        })
    });
    let (writers, watchers) = (writers.collect::<Vec<_>>(), watchers.collect::<Vec<_>>());
    for task in join_all(writers).await.into_iter().chain(join_all(watchers).await) {
        task.unwrap();
    }
}

/// Makes `ROUNDS` changes, of keys that others change too.
async fn write_about(store: Shared, writer: usize) {
    for round in 0..ROUNDS {
        loop {
            let key = format!("/r/{}", (writer * 7 + round * 3) % 5);
            let done = match store.get(&key).await.unwrap() {
                None => store.write(pintle_store::Write::Create { key: key.into(), value: super::bytes("new") }).await,
                Some(entry) if round % 4 == 3 => delete(&store, &entry).await,
                Some(entry) => update(&store, &entry, &format!("{writer}/{round}")).await,
            };
            match done {
                Ok(_) => break,
                Err(WriteError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn check(store: Shared, from: u64, last: u64) {
    let mut watch = store.watch("/r/", from).await.unwrap();
    let mut held = HashMap::new();
    let mut expected = from;
    for event in events(&mut watch, (last - from) as usize).await {
        expected += 1;
        assert_eq!(event.revision(), expected);
        let (key, now, prev) = match event {
            Event::Put { entry, prev } => (entry.key.clone(), Some(entry), prev),
            Event::Delete { prev, .. } => (prev.key.clone(), None, Some(prev)),
        };
        if let Some(before) = held.insert(key, now) {
            assert_eq!(prev, before, "at {expected}");
        }
    }
}

pub async fn a_slow_watcher_is_closed_and_waited_for_by_nobody(store: Shared) {
    let start = store.revision().await.unwrap();
    let mut slow = store.watch("/r/", start).await.unwrap();
    // one after the other: a commit each
    let mut entry = create(&store, "/r/a", "").await;
    for _ in 0..2000 {
        entry = update(&store, &entry, "x").await.unwrap();
    }
    let mut seen = start;
    let end = loop {
        match slow.next().await {
            Ok(batch) => {
                for event in &*batch.events {
                    assert_eq!(event.revision(), seen + 1);
                    seen += 1;
                }
            }
            Err(end) => break end,
        }
    };
    assert!(matches!(end, WatchEnd::Slow), "{end}");
    // and can go on where it was
    let mut again = store.watch("/r/", seen).await.unwrap();
    let rest = events(&mut again, (entry.mod_revision - seen) as usize).await;
    assert_eq!(rest.last().map(Event::revision), Some(entry.mod_revision));
}
