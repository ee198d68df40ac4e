//! Going back to a past revision.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::cache::CommitError;

fn shown(listing: &Listing) -> BTreeMap<String, u64> {
    listing.items.iter().map(|object| (object.name.to_string(), object.revision)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_shows_the_revision_of_the_first() {
    let world = World::new().await;
    let pods = world.of("pods");
    for name in ["a", "b", "c", "d"] {
        pods.create("ns", name, json(name)).await.unwrap();
    }
    let first = pods.list(Some("ns"));
    let b = &first.items[1];
    pods.delete("ns", "c", first.items[2].revision).await.unwrap();
    pods.update("ns", "d", first.items[3].revision, json("new")).await.unwrap();
    pods.create("ns", "bb", json("")).await.unwrap();
    let rest = pods.list_from(Some("ns"), first.revision, &b.key).await.unwrap();
    let expected: Vec<_> = first.items[2..].iter().map(|object| &object.json).collect();
    assert_eq!(rest.items.iter().map(|object| &object.json).collect::<Vec<_>>(), expected);
    assert_eq!(rest.revision, first.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_before_the_window_is_expired() {
    let world = World::new().await;
    let created = world.of("pods").create("ns", "a", json("")).await.unwrap();
    let later = Caches::open(world.store.clone(), kinds::all(), CancellationToken::new()).await.unwrap();
    let pods = later.of("", "pods").unwrap();
    let expired = Expired(format!("too old resource version: 1 ({})", created.revision));
    assert_eq!(pods.list_from(None, 1, "").await.err(), Some(expired.clone()));
    assert_eq!(pods.watch(None, Since::Revision(1), 10).err(), Some(expired));
    assert!(pods.watch(None, Since::Revision(created.revision), 10).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Every past list can be had again, exactly.
    #[test]
    fn every_revision_can_be_gone_back_to(steps in prop::collection::vec((0u8..6, 0u8..3), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let pods = world.of("pods");
            let mut then = vec![pods.list(None)];
            for (name, step) in steps {
                let name = format!("pod-{name}");
                let _: Result<_, CommitError> = match (pods.get("ns", &name), step) {
                    (None, _) => pods.create("ns", &name, json("")).await,
                    (Some(now), 0) => pods.delete("ns", &name, now.revision).await,
                    (Some(now), _) => pods.update("ns", &name, now.revision, json("x")).await,
                };
                then.push(pods.list(None));
            }
            for listing in then {
                let again = pods.list_from(None, listing.revision, "").await.unwrap();
                assert_eq!(shown(&again), shown(&listing));
            }
        });
    }
}
