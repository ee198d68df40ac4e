//! Writes: revisions, compare-and-swap, refusals.

use futures::future::join_all;
use pintle_store::{Error, MAX_VALUE, Write, WriteError};

use super::{Shared, bytes, create, delete, update};

pub async fn every_write_has_the_next_revision(store: Shared) {
    let start = store.revision().await.unwrap();
    let a = create(&store, "/r/a", "1").await;
    assert_eq!((a.create_revision, a.mod_revision), (start + 1, start + 1));
    let a2 = update(&store, &a, "2").await.unwrap();
    assert_eq!((a2.create_revision, a2.mod_revision), (start + 1, start + 2));
    assert_eq!(store.get("/r/a").await.unwrap(), Some(a2.clone()));
    let gone = delete(&store, &a2).await.unwrap();
    assert_eq!((gone.mod_revision, gone.value), (start + 3, bytes("2")));
    assert_eq!(store.get("/r/a").await.unwrap(), None);
    let again = create(&store, "/r/a", "3").await;
    assert_eq!(again.create_revision, start + 4);
    assert_eq!(store.revision().await.unwrap(), start + 4);
}

pub async fn a_key_that_is_not_as_expected_is_left_alone(store: Shared) {
    let first = create(&store, "/r/a", "1").await;
    let second = update(&store, &first, "2").await.unwrap();
    let found = |result: Result<_, WriteError>| match result {
        Err(WriteError::Conflict(current)) => current,
        other => panic!("no conflict: {other:?}"),
    };
    let again = Write::Create { key: "/r/a".into(), value: bytes("x") };
    assert_eq!(found(store.write(again).await), Some(second.clone()));
    assert_eq!(found(update(&store, &first, "x").await), Some(second.clone()));
    assert_eq!(found(delete(&store, &first).await), Some(second.clone()));
    let mut absent = first.clone();
    absent.key = "/r/b".into();
    assert_eq!(found(update(&store, &absent, "x").await), None);
    assert_eq!(found(delete(&store, &absent).await), None);
    assert_eq!(store.revision().await.unwrap(), second.mod_revision);
}

/// Sixteen writers count one number up, each retrying what another overtook: no increment is lost.
pub async fn concurrent_writers_of_one_key_take_turns(store: Shared) {
    create(&store, "/r/counter", "0").await;
    let count_up = async |store: Shared| {
        for _ in 0..20 {
            let mut current = store.get("/r/counter").await.unwrap().unwrap();
            loop {
                let value: u64 = str::from_utf8(&current.value).unwrap().parse().unwrap();
                match update(&store, &current, &(value + 1).to_string()).await {
                    Ok(_) => break,
                    Err(WriteError::Conflict(Some(newer))) => current = newer,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    join_all((0..16).map(|_| count_up(store.clone()))).await;
    assert_eq!(store.get("/r/counter").await.unwrap().unwrap().value, bytes("320"));
}

pub async fn what_no_store_can_keep_is_refused(store: Shared) {
    for key in ["", "/r/\0"] {
        let refused = store.write(Write::Create { key: key.into(), value: bytes("x") }).await;
        assert!(matches!(refused, Err(WriteError::Store(Error::InvalidKey(_)))), "{refused:?}");
    }
    let value = vec![b'x'; MAX_VALUE + 1].into();
    let refused = store.write(Write::Create { key: "/r/large".into(), value }).await;
    assert!(matches!(refused, Err(WriteError::Store(Error::TooLarge(_)))), "{refused:?}");
    let value = vec![b'x'; MAX_VALUE].into();
    store.write(Write::Create { key: "/r/large".into(), value }).await.unwrap();
}
