//! What stays and what goes: names, holds, pins, collection, two processes.
//!
//! Must not know: the crate's inside.

use std::fs;

use pintle_images::{Config, ErrorKind, Store, Usage};

use crate::images::{Image, Layer, architecture};
use crate::pulling::{files, flushed, layer, pull, store};
use crate::server::Server;

fn image(texts: &[&str], mark: &str) -> Image {
    Image::of(texts.iter().map(|text| Layer::gzip(layer(text))).collect(), architecture(), mark)
}

#[tokio::test]
async fn shared_layers_stay_until_the_last_image_goes() {
    let server = Server::start().await;
    let (_dir, store) = store();
    let first = pull(&store, &server.hold(&image(&["base", "one"], "1"))).await.unwrap();
    let second = pull(&store, &server.hold(&image(&["base", "two"], "2"))).await.unwrap();
    assert!(first.id != second.id && store.image("127.0.0.1/none").unwrap().is_none());
    flushed(&store).await;
    assert_eq!(files(&store, "layers").len(), 3);
    assert!(store.remove(first.id.as_str()).unwrap());
    assert_eq!(files(&store, "layers").len(), 2);
    assert!(!store.remove(first.id.as_str()).unwrap(), "removing what is not there is no error");
    store.remove(&second.tags[0]).unwrap();
    for folder in ["layers", "l", "blobs/sha256", "trash", "ingest"] {
        assert!(files(&store, folder).is_empty(), "{folder}");
    }
    assert_eq!(store.usage().unwrap(), Usage::default());
}

#[tokio::test]
async fn a_tag_that_moves_leaves_the_old_image_its_digest() {
    let server = Server::start().await;
    let (_dir, store) = store();
    let old = pull(&store, &server.hold(&image(&["a"], "1"))).await.unwrap();
    let new = pull(&store, &server.hold(&image(&["b"], "2"))).await.unwrap();
    assert_eq!(old.tags, new.tags);
    let left = store.image(old.id.as_str()).unwrap().unwrap();
    assert_eq!((left.tags, left.digests), (Vec::<String>::new(), old.digests));
    assert_eq!(store.prune(false).unwrap(), std::slice::from_ref(&old.id));
    assert_eq!(store.list().unwrap().len(), 1);
    store.untag(&new.tags[0]).unwrap();
    assert!(store.list().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_killed_process_had_begun_to_write_goes() {
    let (_dir, store) = store();
    let begun = ["holds/00.container-1.12345678.new", "images.json.12345678.new"].map(|name| store.root().join(name));
    for file in &begun {
        fs::write(file, "{").unwrap();
    }
    store.collect().unwrap();
    assert!(begun.iter().all(|file| !file.exists()));
}

#[tokio::test]
async fn what_is_held_keeps_its_files_over_removal_and_restart() {
    let server = Server::start().await;
    let (_dir, store) = store();
    let image = pull(&store, &server.hold(&image(&["a", "b"], "1"))).await.unwrap();
    let id = image.id.as_str();
    store.hold(id, "container-1").unwrap();
    store.hold(id, "container-2").unwrap();
    assert_eq!(store.prune(true).unwrap(), []);
    let layers = store.layers(id).await.unwrap();
    store.remove(id).unwrap();
    let again = Store::open(store.root(), Config::default()).unwrap();
    again.collect().unwrap();
    assert!(layers.iter().all(|it| it.join("etc/text").exists()) && again.list().unwrap().is_empty());
    assert_eq!(again.holds().unwrap().len(), 2);
    again.release(&image.id, "container-1").unwrap();
    again.collect().unwrap();
    assert!(layers[0].exists());
    again.release(&image.id, "container-2").unwrap();
    again.release(&image.id, "container-2").unwrap();
    again.collect().unwrap();
    assert!(!layers[0].exists());
    assert_eq!(store.hold(id, "container-3").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(store.hold(id, "../evil").is_err());
}

#[tokio::test]
async fn pinned_images_are_not_pruned() {
    let server = Server::start().await;
    let (_dir, store) = store();
    let name = server.hold(&image(&["a"], "1"));
    pull(&store, &name).await.unwrap();
    store.pin(&name, true).unwrap();
    assert!(pull(&store, &name).await.unwrap().pinned, "a pull does not change it");
    assert_eq!(store.prune(true).unwrap(), []);
    store.pin(&name, false).unwrap();
    assert_eq!(store.prune(true).unwrap().len(), 1);
    assert_eq!(store.pin(&name, true).unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_layer_that_a_power_failure_took_is_unpacked_again() {
    let server = Server::start().await;
    let (_dir, store) = store();
    let image = pull(&store, &server.hold(&image(&["a"], "1"))).await.unwrap();
    let root = store.layers(image.id.as_str()).await.unwrap().remove(0);
    let record = root.canonicalize().unwrap().with_file_name("layer.json");
    flushed(&store).await;
    fs::write(&record, r#"{"bytes":1,"entries":1,"boot":"of-another-time"}"#).unwrap();
    fs::write(root.join("etc/text"), "").unwrap();
    let root = store.layers(image.id.as_str()).await.unwrap().remove(0);
    assert_eq!(fs::read_to_string(root.join("etc/text")).unwrap(), "a");
}

#[tokio::test]
async fn two_stores_on_one_folder_pull_remove_and_collect_at_once() {
    let server = Server::start().await;
    let (_dir, ours) = store();
    let theirs = Store::open(ours.root(), Config::default()).unwrap();
    let name = server.hold(&image(&["a", "b", "c"], "1"));
    for _ in 0..15 {
        let (pulled, also, _) = tokio::join!(pull(&ours, &name), pull(&theirs, &name), async {
            theirs.collect().unwrap();
            theirs.remove(&name).unwrap();
        });
        // whoever comes last wins; whatever is listed is whole
        drop((pulled, also));
        for image in ours.list().unwrap() {
            for layer in theirs.layers(image.id.as_str()).await.unwrap() {
                assert!(layer.join("etc/text").exists());
            }
        }
        ours.collect().unwrap();
    }
}
