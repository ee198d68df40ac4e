//! Layers and archives of images: whatever they hold, nothing outside their folder changes, and nothing panics.
//!
//! Must not know: how they are unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pintle_cri::archive::tar::{Content, Entry, files};
use pintle_cri::archive::{Image, ImageConfig, layer as sound_layer};
use pintle_fuzz::{Dice, json, mutate, run, tar};
use pintle_images::{Config, Limits, Progress, Store, unpack};

/// A folder to unpack into, and what lies around it.
struct Cage {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Cage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["root", "outside/deeper", "etc"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["outside/secret", "outside/deeper/a", "etc/passwd", "a", "link"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("../outside", dir.path().join("root/planted")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside/secret"), dir.path().join("root/link")).unwrap();
        let before = around(dir.path());
        Self { dir, before }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").display().to_string()
    }

    fn assert_untouched(&self) {
        assert_eq!(around(self.dir.path()), self.before);
    }
}

/// All that is beside the root: kind, owner, mode, links, times, content.
fn around(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, about) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let inside = path.file_name().is_some_and(|name| name == "root");
        let content = if about.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        let times = if inside { (0, 0) } else { (about.mtime_nsec(), about.ctime_nsec()) };
        let (links, times) = if inside { (0, (0, 0)) } else { (about.nlink(), times) };
        let owner = if inside { (0, 0) } else { (about.uid(), about.gid()) };
        let mode = if inside { 0 } else { about.mode() };
        found.insert(path.clone(), format!("{mode:o} {owner:?} {links} {times:?} {content}"));
        if about.is_dir() && !inside {
            found.extend(around(&path));
        }
    }
    found
}

fn limits() -> Limits {
    Limits { layer_bytes: 4 << 20, layer_entries: 500, ..Limits::default() }
}

#[test]
fn layers_stay_in_their_folder() {
    run("layers", |dice| {
        let cage = Cage::new();
        let mut layer = tar::layer(dice, 25, &cage.outside());
        if dice.one_in(3) {
            mutate(&mut layer, dice, 6);
        }
        let mut layer = tar::packed(layer, dice);
        if dice.one_in(6) {
            mutate(&mut layer, dice, 4);
        }
        let _ = unpack(Cursor::new(layer), &cage.root(), &limits());
        cage.assert_untouched();
    });
}

fn image(dice: &mut Dice) -> Image {
    let config = ImageConfig { env: vec!["A=b".into()], user: "1:2".into(), ..ImageConfig::default() };
    let hostile = tar::layer(dice, 4, "/etc");
    let sound = sound_layer(&[Entry::directory("d", 0o755), Entry::file("d/f", 0o644, b"text")]);
    Image::build(&config, if dice.one_in(2) { vec![sound] } else { vec![sound, hostile] })
}

/// The members of an archive, some documents of them changed, some members renamed, lost or doubled.
fn shaken(archive: &[u8], dice: &mut Dice) -> Vec<u8> {
    let members = files(archive).unwrap().into_iter();
    let mut members: Vec<_> = members.map(|(name, bytes)| (name, bytes.to_vec())).collect();
    for _ in 0..dice.below(3) {
        let at = dice.below(members.len());
        match dice.below(6) {
            0 => drop(members.remove(at)),
            1 => members.push(members[at].clone()),
            2 => {
                members[at].0 =
                    dice.choose(&["index.json", "../index.json", "blobs/sha256/x", "a/layer.tar"]).to_string()
            }
            3 => mutate(&mut members[at].1, dice, 3),
            _ => {}
        }
        if members.is_empty() {
            break;
        }
    }
    for (_, bytes) in &mut members {
        let document = serde_json::from_slice(bytes);
        if let Ok(mut document) = document
            && dice.one_in(2)
        {
            json::mutate(&mut document, dice, 3);
            *bytes = document.to_string().into_bytes();
        }
    }
    let entries = members.iter().map(|(name, bytes)| Entry { path: name, mode: 0o644, content: Content::File(bytes) });
    sound_layer(&entries.collect::<Vec<_>>())
}

#[test]
fn archives_are_images_or_errors() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    run("archives", |dice| {
        let cage = Cage::new();
        let sound = image(dice).archive("example.com/some/image:1");
        let sound = if dice.one_in(3) { without_index(&sound) } else { sound };
        let mut archive = shaken(&sound, dice);
        if dice.one_in(4) {
            mutate(&mut archive, dice, 3);
        }
        let archive = tar::packed(archive, dice);
        let store = Store::open(&cage.root().join("store"), Config { limits: limits(), ..Config::default() }).unwrap();
        let name = dice.one_in(2).then_some("example.com/named:1");
        let imported = tokio.block_on(store.import(Cursor::new(archive), name, Progress::none()));
        let listed = store.list().unwrap();
        match imported {
            Ok(images) => assert!(listed.len() <= images.len(), "{listed:?}"),
            Err(_) => assert!(listed.is_empty(), "{listed:?}"),
        }
        for image in listed {
            tokio.block_on(store.layers(&image.id.to_string())).unwrap();
        }
        cage.assert_untouched();
    });
}

/// As older `docker save` writes them: its own table alone.
fn without_index(archive: &[u8]) -> Vec<u8> {
    let members = files(archive).unwrap();
    let kept: Vec<_> = members.iter().filter(|(name, _)| name != "index.json" && name != "oci-layout").collect();
    let entries: Vec<_> = kept.iter().map(|(name, bytes)| Entry::file(name, 0o644, bytes)).collect();
    sound_layer(&entries)
}
