//! The embedded store under the suite, and what is its own: reopening, bad files, history's bounds.

mod suite;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pintle_store::{Embedded, Error, Options, Range, Store, Write, open};
use suite::{Shared, create, delete, update};

macro_rules! run {
    ($($area:ident :: $case:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            let dir = tempfile::tempdir().unwrap();
            suite::$area::$case(Arc::new(open(dir.path(), Options::default()).unwrap())).await;
            // and where the journal turns over at nearly every write
            let dir = tempfile::tempdir().unwrap();
            let options = Options { journal: 4096, ..Options::default() };
            suite::$area::$case(Arc::new(open(dir.path(), options).unwrap())).await;
        }
    )*};
}

run!(
    writing::every_write_has_the_next_revision,
    writing::a_key_that_is_not_as_expected_is_left_alone,
    writing::concurrent_writers_of_one_key_take_turns,
    writing::what_no_store_can_keep_is_refused,
    history::pages_follow_one_another_at_one_revision,
    history::a_read_sees_its_revision,
    history::compaction_forgets_what_was_superseded_and_nothing_else,
    history::only_the_past_is_compacted_and_only_once,
    watching::a_watcher_sees_what_was_and_what_will_be,
    watching::a_watch_of_the_future_begins_there,
    watching::watchers_that_join_under_load_miss_repeat_and_reorder_nothing,
    watching::a_slow_watcher_is_closed_and_waited_for_by_nobody,
);

fn opened(dir: &Path) -> Shared {
    Arc::new(open(dir, Options::default()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    let a = create(&store, "/r/a", "1").await;
    let a2 = update(&store, &a, "2").await.unwrap();
    let b = create(&store, "/r/b", "").await;
    delete(&store, &b).await.unwrap();
    store.compact(a.mod_revision).await.unwrap();
    let revision = store.revision().await.unwrap();
    drop(store);
    let store = opened(dir.path());
    assert_eq!(store.revision().await.unwrap(), revision);
    let page = store.range(Range { prefix: "/", ..Range::default() }).await.unwrap();
    assert_eq!(page.entries, std::slice::from_ref(&a2));
    assert!(matches!(store.watch("/", 1).await, Err(Error::Compacted { .. })));
    let mut watch = store.watch("/", a2.mod_revision).await.unwrap();
    assert_eq!(suite::events(&mut watch, 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_beyond_its_bound_is_compacted_and_its_space_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store: Embedded = open(dir.path(), Options { max_history: 100, ..Options::default() }).unwrap();
    let store: Shared = Arc::new(store);
    let value = "x".repeat(100_000);
    let mut entry = create(&store, "/r/a", "").await;
    for _ in 0..1_500 {
        entry = update(&store, &entry, &value).await.unwrap();
    }
    assert!(matches!(store.watch("/", entry.mod_revision - 200).await, Err(Error::Compacted { .. })));
    store.watch("/", entry.mod_revision - 90).await.unwrap();
    let size = fs::metadata(dir.path().join("store.redb")).unwrap().len();
    // what is kept, what is on its way in, and the doubling by which the file grows
    assert!(size < 100_000_000, "150 MB were written, 10 MB are kept, the file has {size}");
}

#[tokio::test]
async fn a_file_that_is_none_of_ours_is_named_and_left_alone() {
    for content in [&b""[..], b"short", &[7; 100_000], b"redb\x1A\x0A\xA9\x0D\x0A and then nonsense"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        fs::write(&path, content).unwrap();
        let error = open(dir.path(), Options::default()).err().expect("it opened");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content, "{error}");
    }
}

#[tokio::test]
async fn a_file_in_use_is_not_opened_twice() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path(), Options::default()).unwrap();
    let error = open(dir.path(), Options::default()).err().expect("it opened twice");
    assert!(error.to_string().contains("store.redb"), "{error}");
}

/// Whatever damage a file has, opening and reading it end in an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_panics_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    for name in 0..200 {
        create(&store, &format!("/r/{name}"), &"x".repeat(500)).await;
    }
    drop(store);
    let whole = fs::read(dir.path().join("store.redb")).unwrap();
    for round in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = whole.clone();
        match round % 3 {
            0 => damaged.truncate(whole.len() * round / 30),
            1 => (0..200).for_each(|_| damaged[rand::random_range(0..whole.len())] ^= 0x55),
            _ => damaged[rand::random_range(0..4096)] ^= 0xff,
        }
        fs::write(dir.path().join("store.redb"), &damaged).unwrap();
        let Ok(store) = open(dir.path(), Options::default()) else {
            continue;
        };
        let _ = store.range(Range { prefix: "/", ..Range::default() }).await;
        let _ = store.write(Write::Create { key: "/r/new".into(), value: suite::bytes("x") }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_opens_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    let value = "x".repeat(1024);
    let writers = (0..500).map(|writer| {
        let (store, value) = (store.clone(), value.clone());
        async move {
            for n in 0..40 {
                create(&store, &format!("/r/{writer}/{n}"), &value).await;
            }
        }
    });
    futures::future::join_all(writers).await;
    drop(store);
    let size = fs::metadata(dir.path().join("store.redb")).unwrap().len();
    let begun = Instant::now();
    let store = opened(dir.path());
    println!("opened {} MiB in {:?}", size >> 20, begun.elapsed());
    assert_eq!(store.revision().await.unwrap(), 20_001);
}
