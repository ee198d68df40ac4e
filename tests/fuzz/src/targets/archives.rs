//! Archives of images, as `docker save` and OCI write them: an import makes images or nothing, and leaves the rest alone.
//!
//! Must not know: how they are read.

use std::io::Cursor;

use pintle_cri::archive::tar::{Content, Entry, layer};
use pintle_images::{Config, Progress, Store};
use serde_json::{Value, json};

use super::blobs::{Blobs, Image};
use super::cage::{Cage, limits};
use super::ended;
use crate::{Dice, json, mutate, tar};

const NAMES: &[&str] = &["example.com/some/image:1", "image:2", "latest", "", "../../x", "UPPER/a@sha256:0", "a:b:c"];
const PLACES: &[&str] =
    &["index.json", "manifest.json", "../index.json", "blobs/sha256/x", "a/layer.tar", "./oci-layout"];

enum Member {
    File(Vec<u8>),
    Link(String),
}

fn named(mut entry: Value, dice: &mut Dice) -> Value {
    if !dice.one_in(4) {
        let key = *dice.choose(&["io.containerd.image.name", "org.opencontainers.image.ref.name"]);
        entry["annotations"] = json!({ key: dice.choose(NAMES) });
    }
    entry
}

/// `docker save`'s table of one image; a layer may be a link to its blob, or to nothing, or to itself.
fn table(image: &Image, members: &mut Vec<(String, Member)>, dice: &mut Dice) -> Value {
    let mut paths: Vec<String> = image.layers.iter().map(|it| format!("blobs/sha256/{}", it.hex())).collect();
    if let Some(path) = paths.first_mut().filter(|_| dice.one_in(3)) {
        let target = if dice.one_in(4) { "../a/layer.tar".to_owned() } else { format!("../{path}") };
        members.push(("a/layer.tar".into(), Member::Link(target)));
        *path = "a/layer.tar".into();
    }
    json!({ "Config": format!("blobs/sha256/{}", image.config.hex()), "RepoTags": [dice.choose(NAMES)], "Layers": paths })
}

fn members(dice: &mut Dice) -> Vec<(String, Member)> {
    let (mut blobs, mut members, mut entries, mut tables) = (Blobs::default(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=dice.below(2) {
        let image = blobs.image(dice);
        tables.push(table(&image, &mut members, dice));
        let entry = if dice.one_in(4) { blobs.index(vec![image.manifest], dice) } else { image.manifest };
        entries.push(named(entry, dice));
    }
    let mut index = json!({ "schemaVersion": 2, "manifests": entries });
    let mut tables = Value::Array(tables);
    for document in [&mut index, &mut tables] {
        if dice.one_in(5) {
            json::mutate(document, dice, 2);
        }
    }
    let kept =
        blobs.0.into_iter().map(|(digest, bytes)| (format!("blobs/sha256/{}", digest.hex()), Member::File(bytes)));
    members.extend(kept);
    let file = |name: &str, bytes: String| (name.to_owned(), Member::File(bytes.into_bytes()));
    let which = dice.below(3);
    if which != 0 {
        members.push(file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.into()));
        members.push(file("index.json", index.to_string()));
    }
    if which != 1 {
        members.push(file("manifest.json", tables.to_string()));
    }
    members
}

/// Some members lost, doubled, moved, renamed or damaged.
fn shake(members: &mut Vec<(String, Member)>, dice: &mut Dice) {
    for _ in 0..dice.below(3) {
        let (at, to) = (dice.below(members.len()), dice.below(members.len()));
        match (dice.below(5), members.get_mut(at)) {
            (0, Some(_)) => drop(members.remove(at)),
            (1, Some((name, _))) => *name = (*dice.choose(PLACES)).to_owned(),
            (2, Some((_, Member::File(bytes)))) => mutate(bytes, dice, 3),
            (_, Some(_)) => members.swap(at, to),
            (_, None) => {}
        }
    }
}

fn archive(dice: &mut Dice) -> Vec<u8> {
    let mut members = members(dice);
    if dice.one_in(2) {
        shake(&mut members, dice);
    }
    let entries = members.iter().map(|(path, member)| match member {
        Member::File(bytes) => Entry { path, mode: 0o644, content: Content::File(bytes) },
        Member::Link(target) => Entry::link(path, target),
    });
    let mut archive = layer(&entries.collect::<Vec<_>>());
    if dice.one_in(8) {
        mutate(&mut archive, dice, 3);
    }
    tar::packed(archive, dice)
}

pub(super) fn are_images_or_errors(dice: &mut Dice) {
    let cage = Cage::new();
    let archive = archive(dice);
    let store = Store::open(&cage.root().join("store"), Config { limits: limits(), ..Config::default() }).unwrap();
    let name = dice.one_in(2).then_some("example.com/named:1");
    let imported = ended("an import", store.import(Cursor::new(archive), name, Progress::none()));
    let listed = store.list().unwrap();
    match imported {
        Ok(images) => assert!(listed.len() <= images.len(), "{listed:?}"),
        Err(_) => assert!(listed.is_empty(), "{listed:?}"),
    }
    for image in listed {
        ended("a look at layers", store.layers(&image.id.to_string())).unwrap();
    }
    cage.assert_untouched();
}
