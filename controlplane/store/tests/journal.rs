//! The journal: what was not finished is as if it had never been; what was acknowledged is there, or its loss is told.

#[allow(dead_code)] // other tests use the rest of it
mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pintle_store::{Error, Options, Range, open};
use suite::{Shared, create};

const BLOCK: usize = 4096;

fn opened(dir: &Path, journal: u64) -> Result<Shared, Error> {
    Ok(Arc::new(open(dir, Options { journal, ..Options::default() })?))
}

/// A store of five entries, each in a batch of its own; and the one file of its journal.
async fn five(dir: &Path) -> PathBuf {
    let store = opened(dir, 1 << 20).unwrap();
    for name in 0..5 {
        create(&store, &format!("/r/{name}"), &"x".repeat(500)).await;
    }
    drop(store);
    dir.join("journal.0")
}

async fn names(store: &Shared) -> Vec<String> {
    let page = store.range(Range { prefix: "/", ..Range::default() }).await.unwrap();
    page.entries.iter().map(|entry| entry.key.to_string()).collect()
}

fn copied(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_not_finished_is_as_if_it_had_never_been() {
    let whole = tempfile::tempdir().unwrap();
    let journal = five(whole.path()).await;
    let bytes = fs::read(&journal).unwrap();
    for torn in [0, 1, 30, 100, 500, 560] {
        let dir = tempfile::tempdir().unwrap();
        copied(whole.path(), dir.path());
        let mut torn_bytes = bytes.clone();
        torn_bytes[4 * BLOCK + torn..5 * BLOCK].fill(0);
        fs::write(dir.path().join("journal.0"), &torn_bytes).unwrap();
        let store = opened(dir.path(), 1 << 20).unwrap();
        assert_eq!(names(&store).await, ["/r/0", "/r/1", "/r/2", "/r/3"], "torn after {torn} bytes");
        // its revision is given again
        assert_eq!(create(&store, "/r/new", "").await.mod_revision, 6);
        drop(store);
        let store = opened(dir.path(), 1 << 20).unwrap();
        assert_eq!(names(&store).await, ["/r/0", "/r/1", "/r/2", "/r/3", "/r/new"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_before_the_end_is_told_and_touches_nothing() {
    let whole = tempfile::tempdir().unwrap();
    let journal = five(whole.path()).await;
    let bytes = fs::read(&journal).unwrap();
    for at in [0, 10, 60, BLOCK + 20, 2 * BLOCK + 300, 3 * BLOCK + 1] {
        let dir = tempfile::tempdir().unwrap();
        copied(whole.path(), dir.path());
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let journal = dir.path().join("journal.0");
        fs::write(&journal, &damaged).unwrap();
        let error = opened(dir.path(), 1 << 20).err().expect("it opened").to_string();
        assert!(error.contains(journal.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&journal).unwrap(), damaged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_another_store_and_one_with_a_gap_before_it_are_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (journal, foreign) = (five(one.path()).await, five(other.path()).await);
    let ours = fs::read(&journal).unwrap();
    fs::copy(&foreign, &journal).unwrap();
    let error = opened(one.path(), 1 << 20).err().expect("it opened").to_string();
    assert!(error.contains("journal.0") && error.contains("of another store"), "{error}");
    // as if the first part had been removed
    fs::write(&journal, &ours[2 * BLOCK..]).unwrap();
    let error = opened(one.path(), 1 << 20).err().expect("it opened").to_string();
    assert!(error.contains("journal.0") && error.contains("revisions 2 to 3 are missing"), "{error}");
    fs::write(&journal, &ours).unwrap();
    assert_eq!(names(&opened(one.path(), 1 << 20).unwrap()).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_turns_over_often_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = opened(dir.path(), 128 << 10).unwrap();
        assert_eq!(names(&store).await.len(), round * 800);
        let tasks = (0..8).map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    create(&store, &format!("/r/{round}/{n}/{task}"), &"x".repeat(1500)).await;
                }
            })
        });
        futures::future::join_all(tasks).await;
        assert_eq!(store.revision().await.unwrap(), 1 + (round as u64 + 1) * 800);
        assert_eq!(names(&store).await.len(), (round + 1) * 800);
    }
    let files = fs::read_dir(dir.path()).unwrap().flatten().map(|file| file.file_name());
    assert!(files.filter(|name| name.to_string_lossy().starts_with("journal")).count() <= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_larger_than_the_journals_file_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path(), 64 << 10).unwrap();
    for n in 0..4 {
        create(&store, &format!("/r/{n}"), &"x".repeat(1_000_000)).await;
    }
    drop(store);
    let store = opened(dir.path(), 64 << 10).unwrap();
    assert_eq!(names(&store).await.len(), 4);
}
