//! Watchers: nothing missed, repeated or reordered.

use std::collections::HashMap;

use futures::future::join_all;

use super::*;

const PLENTY: usize = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_what_happens_in_its_namespace() {
    let world = World::new().await;
    let pods = world.of("pods");
    let a = pods.create("ns", "a", json("1")).await.unwrap();
    let mut watcher = pods.watch(Some("ns"), Since::Revision(a.revision), PLENTY).unwrap();
    let other = pods.create("ns-other", "a", json("")).await.unwrap();
    let a2 = pods.update("ns", "a", a.revision, json("2")).await.unwrap();
    let gone = pods.delete("ns", "a", a2.revision).await.unwrap();
    let modified = next(&mut watcher).await;
    assert_eq!((modified.kind, modified.object.revision), (ChangeKind::Modified, a2.revision));
    assert!(Arc::ptr_eq(&modified.object, &a2) && Arc::ptr_eq(modified.prev.as_ref().unwrap(), &a));
    let deleted = next(&mut watcher).await;
    assert_eq!((deleted.kind, deleted.object.revision), (ChangeKind::Deleted, gone.revision));
    assert_eq!(deleted.object.json, gone.json);
    assert!(watcher.try_next().is_none());
    // what happens elsewhere moves it on, so that a bookmark can say so
    assert_eq!(watcher.revision(), gone.revision);
    let node = world.of("nodes").create("", "n", json("")).await.unwrap();
    assert_eq!(watcher.revision(), node.revision);
    assert!(other.revision < watcher.revision());
}

#[tokio::test(flavor = "multi_thread")]
async fn initial_events_come_first_and_end_with_a_bookmark() {
    let world = World::new().await;
    let pods = world.of("pods");
    for name in 0..300 {
        pods.create("ns", &format!("{name:03}"), json("")).await.unwrap();
    }
    let revision = pods.list(None).revision;
    let mut watcher = pods.watch(None, Since::InitialEvents, PLENTY).unwrap();
    let later = pods.create("ns", "000-later", json("")).await.unwrap();
    for name in 0..300 {
        let change = next(&mut watcher).await;
        assert_eq!((change.kind, &*change.object.name), (ChangeKind::Added, &*format!("{name:03}")));
    }
    let bookmark = next(&mut watcher).await;
    assert_eq!((bookmark.kind, bookmark.object.revision), (ChangeKind::Bookmark { initial: true }, revision));
    assert_eq!(next(&mut watcher).await.object.revision, later.revision);
    let mut now = pods.watch(None, Since::Now, PLENTY).unwrap();
    for _ in 0..301 {
        assert_eq!(next(&mut now).await.kind, ChangeKind::Added);
    }
    assert!(now.try_next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_too_far_behind_is_closed() {
    let world = World::new().await;
    let pods = world.of("pods");
    let mut slow = pods.watch(None, Since::Now, 5).unwrap();
    let mut fast = pods.watch(None, Since::Now, 5).unwrap();
    for name in 0..6 {
        pods.create("ns", &name.to_string(), json("")).await.unwrap();
        assert_eq!(&*next(&mut fast).await.object.name, name.to_string());
    }
    assert!(slow.next().await.is_none());
}

/// Writers share keys; watchers join at any moment in every way. Each must arrive, by what it is told alone, at
/// what is there in the end, never going back, every `prev` being what it held.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_under_load_arrive_at_what_is_there() {
    let world = World::new().await;
    let pods = world.of("pods");
    let writers = (0..6).map(|writer| tokio::spawn(write_about(pods.clone(), writer)));
    let writers: Vec<_> = writers.collect();
    let mut watchers = Vec::new();
    for n in 0..24 {
        let start = pods.list(None);
        let since = match n % 3 {
            0 => Since::Now,
            1 => Since::InitialEvents,
            _ => Since::Revision(start.revision),
        };
        let held = if n % 3 == 2 { start } else { Listing { revision: 0, items: Vec::new() } };
        watchers.push(tokio::spawn(follow(pods.watch(None, since, PLENTY).unwrap(), held)));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let last = pods.create("ns", "last", json("")).await.unwrap();
    let now = pods.list(None);
    assert_eq!(now.revision, last.revision);
    let there: HashMap<_, _> = now.items.iter().map(|object| (object.key.clone(), object.revision)).collect();
    for held in join_all(watchers).await {
        assert_eq!(held.unwrap(), there);
    }
}

async fn write_about(pods: Arc<Cache>, writer: usize) {
    for round in 0..100 {
        let name = format!("pod-{}", (writer * 5 + round * 3) % 7);
        // conflicts are others' success
        let _ = match pods.get("ns", &name) {
            None => pods.create("ns", &name, json("new")).await,
            Some(now) if round % 5 == 4 => pods.delete("ns", &name, now.revision).await,
            Some(now) => pods.update("ns", &name, now.revision, json(&round.to_string())).await,
        };
    }
}

async fn follow(mut watcher: Watcher, start: Listing) -> HashMap<Arc<str>, u64> {
    let mut held: HashMap<_, _> = start.items.iter().map(|object| (object.key.clone(), object.revision)).collect();
    let mut newest = start.revision;
    loop {
        let Change { kind, object, prev } = next(&mut watcher).await;
        if matches!(kind, ChangeKind::Bookmark { .. }) {
            newest = newest.max(object.revision);
            continue;
        }
        if let Some(prev) = &prev {
            assert!(object.revision > newest, "an event was repeated or reordered");
            assert_eq!(held.get(&object.key), Some(&prev.revision), "an event of {} was missed", object.key);
        }
        newest = newest.max(object.revision);
        match kind {
            ChangeKind::Deleted => held.remove(&object.key),
            _ => held.insert(object.key.clone(), object.revision),
        };
        if &*object.name == "last" {
            return held;
        }
    }
}

/// `at_least` holds a lock of the channel that publishing needs: taken twice, a writer between the two would stop all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiting_for_revisions_beside_many_writes_stops_nobody() {
    const WRITERS: usize = 8;
    const WAITERS: usize = 32;
    const WRITES: usize = 40;
    let world = World::new().await;
    let pods = world.of("pods");
    let writers = (0..WRITERS).map(|writer| {
        let pods = pods.clone();
        tokio::spawn(async move {
            for number in 0..WRITES {
                let made = pods.create("ns", &format!("{writer}-{number}"), json("")).await.unwrap();
                pods.at_least(made.revision, Duration::from_secs(60)).await.unwrap();
            }
        })
    });
    let waiters = (0..WAITERS).map(|_| {
        let pods = pods.clone();
        tokio::spawn(async move {
            let mut watcher = pods.watch(None, Since::Now, PLENTY).unwrap();
            for _ in 0..WRITERS * WRITES {
                let change = next(&mut watcher).await;
                pods.at_least(change.object.revision + 1, Duration::from_micros(50)).await.ok();
                pods.at_least(change.object.revision, Duration::from_secs(60)).await.unwrap();
            }
        })
    });
    for done in join_all(writers.chain(waiters).collect::<Vec<_>>()).await {
        done.unwrap();
    }
}
