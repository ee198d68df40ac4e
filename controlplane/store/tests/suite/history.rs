//! Pages, reads at past revisions, compaction.

use pintle_store::{Error, Page, Range};

use super::{Shared, create, delete, update};

fn keys(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|entry| &*entry.key).collect()
}

pub async fn pages_follow_one_another_at_one_revision(store: Shared) {
    for name in ["c", "a", "e", "b", "d"] {
        create(&store, &format!("/r/{name}"), name).await;
    }
    create(&store, "/r-other/a", "").await;
    let first = store.range(Range { prefix: "/r/", limit: 2, count: true, ..Range::default() }).await.unwrap();
    assert_eq!((keys(&first), first.more, first.remaining), (vec!["/r/a", "/r/b"], true, Some(3)));

    // what happens between the pages is not seen
    let c = store.get("/r/c").await.unwrap().unwrap();
    delete(&store, &c).await.unwrap();
    create(&store, "/r/bb", "").await;
    let next = Range { prefix: "/r/", start_after: Some("/r/b"), revision: Some(first.revision), ..Range::default() };
    let rest = store.range(next).await.unwrap();
    assert_eq!((keys(&rest), rest.more, rest.remaining), (vec!["/r/c", "/r/d", "/r/e"], false, None));
    let now = store.range(Range { prefix: "/r/", ..Range::default() }).await.unwrap();
    assert_eq!(keys(&now), ["/r/a", "/r/b", "/r/bb", "/r/d", "/r/e"]);
}

pub async fn a_read_sees_its_revision(store: Shared) {
    let a = create(&store, "/r/a", "1").await;
    let a2 = update(&store, &a, "2").await.unwrap();
    let gone = delete(&store, &a2).await.unwrap();
    let at = async |revision| {
        let range = Range { prefix: "/r/", revision: Some(revision), ..Range::default() };
        store.range(range).await.map(|page| page.entries)
    };
    assert_eq!(at(a.mod_revision - 1).await.unwrap(), []);
    assert_eq!(at(a.mod_revision).await.unwrap(), [a]);
    assert_eq!(at(a2.mod_revision).await.unwrap(), [a2]);
    assert_eq!(at(gone.mod_revision).await.unwrap(), []);
    assert!(matches!(at(gone.mod_revision + 1).await, Err(Error::Future { .. })));
}

pub async fn compaction_forgets_what_was_superseded_and_nothing_else(store: Shared) {
    let mut entry = create(&store, "/r/a", "0").await;
    let kept = create(&store, "/r/kept", "kept").await;
    for value in 1..50 {
        entry = update(&store, &entry, &value.to_string()).await.unwrap();
    }
    let b = create(&store, "/r/b", "").await;
    let gone = delete(&store, &b).await.unwrap();
    let newer = update(&store, &entry, "newer").await.unwrap();
    store.compact(gone.mod_revision).await.unwrap();

    let range = |revision| Range { prefix: "/r/", revision: Some(revision), ..Range::default() };
    assert!(matches!(store.range(range(b.mod_revision)).await, Err(Error::Compacted { .. })));
    let then = store.range(range(gone.mod_revision)).await.unwrap();
    assert_eq!(then.entries, [entry.clone(), kept.clone()]);
    let now = store.range(Range { prefix: "/r/", ..Range::default() }).await.unwrap();
    assert_eq!(now.entries, [newer.clone(), kept]);
    assert!(matches!(store.watch("/r/", b.mod_revision).await, Err(Error::Compacted { .. })));
    // the event after the compacted revision still knows what it replaced
    let mut watch = store.watch("/r/", gone.mod_revision).await.unwrap();
    let seen = super::events(&mut watch, 1).await;
    assert_eq!(seen, [pintle_store::Event::Put { entry: newer, prev: Some(entry) }]);
}

pub async fn only_the_past_is_compacted_and_only_once(store: Shared) {
    let a = create(&store, "/r/a", "").await;
    assert!(matches!(store.compact(a.mod_revision + 1).await, Err(Error::Future { .. })));
    store.compact(a.mod_revision).await.unwrap();
    assert!(matches!(store.compact(a.mod_revision).await, Err(Error::Compacted { .. })));
    // a deletion that is compacted away does not take the revision back
    let gone = delete(&store, &a).await.unwrap();
    store.compact(gone.mod_revision).await.unwrap();
    assert_eq!(create(&store, "/r/a", "").await.mod_revision, gone.mod_revision + 1);
}
