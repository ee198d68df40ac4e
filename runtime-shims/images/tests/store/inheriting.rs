//! Layers that have members in folders which they do not describe.
//!
//! Must not know: the crate's inside.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use pintle_images::Store;

use crate::images::{Image, Layer, Tar};
use crate::pulling::{files, flushed, pull, store};
use crate::server::Server;

fn folder(path: &str, mode: u32, owner: u64) -> Tar {
    add(Tar::new(), path, mode, owner)
}

fn add(tar: Tar, path: &str, mode: u32, owner: u64) -> Tar {
    let describe = |header: &mut tar::Header| {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner + 1);
        header.set_path(path).expect("a short path");
    };
    tar.header(describe, b"")
}

/// Mode, owner and group as overlayfs would show a folder: as the topmost layer has it.
async fn shown(store: &Store, image: &str, path: &str) -> (u32, u32, u32) {
    let layers = store.layers(image).await.unwrap();
    let found = |layer: &PathBuf| fs::symlink_metadata(layer.join(path)).ok();
    let of = |it: Metadata| (it.mode() & 0o7777, it.uid(), it.gid());
    layers.iter().find_map(found).map(of).unwrap()
}

async fn pulled(store: &Store, registry: &Server, layers: Vec<Tar>) -> String {
    let image = Image::new(layers.into_iter().map(|layer| Layer::gzip(layer.end())).collect());
    pull(store, &registry.hold(&image)).await.unwrap().id.to_string()
}

#[tokio::test]
async fn a_folder_that_a_layer_does_not_describe_is_as_the_layers_below_have_it() {
    let (_dir, store) = store();
    let registry = Server::start().await;
    let base = || add(add(folder("tmp", 0o1777, 33), "home", 0o711, 0), "home/me", 0o700, 1000);
    let upper = || Tar::new().file("tmp/x", b"x").file("home/me/deep/y", b"y").file("new/z", b"z");
    let image = pulled(&store, &registry, vec![base(), upper(), Tar::new().file("tmp/w", b"w")]).await;
    assert_eq!(shown(&store, &image, "tmp").await, (0o1777, 33, 34));
    assert_eq!(shown(&store, &image, "home").await, (0o711, 0, 1));
    assert_eq!(shown(&store, &image, "home/me").await, (0o700, 1000, 1001));
    assert_eq!(shown(&store, &image, "home/me/deep").await, (0o755, 0, 0));
    assert_eq!(shown(&store, &image, "new").await, (0o755, 0, 0));
    // the same layer elsewhere
    let other = pulled(&store, &registry, vec![folder("tmp", 0o750, 7), upper()]).await;
    assert_eq!(shown(&store, &other, "tmp").await, (0o750, 7, 8));
    assert_eq!(shown(&store, &image, "tmp").await, (0o1777, 33, 34));
}

#[tokio::test]
async fn what_a_layer_says_or_hides_counts() {
    let (_dir, store) = store();
    let registry = Server::start().await;
    let says = add(Tar::new().file("tmp/x", b"x"), "tmp", 0o700, 5);
    let image = pulled(&store, &registry, vec![folder("tmp", 0o1777, 33), says]).await;
    assert_eq!(shown(&store, &image, "tmp").await, (0o700, 5, 6));
    let layers = vec![folder("tmp", 0o1777, 33), Tar::new().file(".wh.tmp", b""), Tar::new().file("tmp/x", b"x")];
    let image = pulled(&store, &registry, layers).await;
    assert_eq!(shown(&store, &image, "tmp").await, (0o755, 0, 0));
}

#[tokio::test]
async fn folders_deeper_than_paths_can_be_are_no_hindrance() {
    let (_dir, store) = store();
    let registry = Server::start().await;
    let deep = format!("tmp/{}x", format!("{}/", "d".repeat(200)).repeat(20));
    let upper = Tar::new().pax(&[("path", deep.as_bytes())]).file("x", b"x");
    let image = pulled(&store, &registry, vec![folder("tmp", 0o1777, 33), upper]).await;
    assert_eq!(shown(&store, &image, "tmp").await, (0o1777, 33, 34));
}

#[tokio::test]
async fn it_goes_with_its_layer() {
    let (_dir, store) = store();
    let registry = Server::start().await;
    let image = pulled(&store, &registry, vec![folder("tmp", 0o1777, 33), Tar::new().file("tmp/x", b"x")]).await;
    assert_eq!(store.layers(&image).await.unwrap().len(), 3);
    flushed(&store).await;
    store.remove(&image).unwrap();
    assert!(files(&store, "layers").is_empty() && files(&store, "l").is_empty());
}
