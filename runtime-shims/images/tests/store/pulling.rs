//! Pulls from a real registry.
//!
//! Must not know: the crate's inside.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pintle_images::{Config, ErrorKind, Event, Progress, Store};

use crate::images::{Blob, Image, Layer, Tar, architecture, index, index_of, noise};
use crate::registry::Registry;

pub fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("images"), Config::default()).unwrap();
    (dir, store)
}

pub fn layer(text: &str) -> Vec<u8> {
    Tar::new().dir("etc", 0o755).file("etc/text", text.as_bytes()).end()
}

pub async fn pull(store: &Store, name: &str) -> pintle_images::Result<pintle_images::Image> {
    store.pull(name, None, Progress::none()).await
}

/// Waits for the flush that goes on behind a pull: it has folders of its own among the layers meanwhile.
pub async fn flushed(store: &Store) {
    let done = |layer: &PathBuf| {
        fs::read_to_string(layer.join("layer.json")).is_ok_and(|record| record.contains(r#""boot":null"#))
    };
    while !files(store, "layers").iter().all(done) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What of a store anybody could see or trip over: files below its folders, by name.
pub fn files(store: &Store, folder: &str) -> Vec<PathBuf> {
    fs::read_dir(store.root().join(folder)).unwrap().map(|it| it.unwrap().path()).collect()
}

fn read(layers: &[PathBuf], path: &str) -> String {
    let found = layers.iter().map(|it| it.join(path)).find(|it| it.exists()).unwrap();
    fs::read_to_string(found).unwrap()
}

#[tokio::test]
async fn an_image_of_plain_gzip_and_zstd_layers_is_pulled_by_tag_and_by_digest() {
    let registry = Registry::start().await;
    let layers = vec![Layer::plain(layer("one")), Layer::gzip(layer("two")), Layer::zstd(layer("three"))];
    let image = Image::new(layers);
    let name = registry.push("app", "1", &image).await;
    let (_dir, store) = store();
    let pulled = pull(&store, &name).await.unwrap();
    assert_eq!((&pulled.id, &pulled.tags), (&image.id(), &vec![name.clone()]));
    let by_digest = format!("{}/app@{}", registry.address, image.manifest.digest());
    assert_eq!(pulled.digests, std::slice::from_ref(&by_digest));
    let folders = store.layers(pulled.id.as_str()).await.unwrap();
    let texts: Vec<String> = folders.iter().map(|it| fs::read_to_string(it.join("etc/text")).unwrap()).collect();
    assert_eq!(texts, ["three", "two", "one"]);
    let again = pull(&store, &by_digest).await.unwrap();
    assert_eq!(again.id, pulled.id);
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(files(&store, "ingest").is_empty() && files(&store, "leases").is_empty());
    let expected = image.layers.iter().map(|it| it.blob.bytes.len()).sum::<usize>()
        + image.config.bytes.len()
        + image.manifest.bytes.len();
    assert_eq!(pulled.size, expected as u64);
}

#[tokio::test]
async fn the_platform_of_this_machine_is_taken_from_an_index() {
    let registry = Registry::start().await;
    let ours = Image::of(vec![Layer::gzip(layer("ours"))], architecture(), "");
    let other = Image::of(vec![Layer::gzip(layer("other"))], "s390x", "");
    registry.push("app", "a", &ours).await;
    registry.push("app", "b", &other).await;
    let both = index(&[("s390x", &other), (architecture(), &ours)]);
    let name = registry.push_manifest("app", "all", &both).await;
    let foreign = registry.push_manifest("app", "none", &index(&[("s390x", &other)])).await;
    let (_dir, store) = store();
    let pulled = pull(&store, &name).await.unwrap();
    assert_eq!(pulled.id, ours.id());
    assert_eq!(pulled.digests, [format!("{}/app@{}", registry.address, both.digest())]);
    let error = pull(&store, &foreign).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no match for platform"), "{error}");
}

#[tokio::test]
async fn entries_say_themselves_what_their_index_does_not_say_of_them() {
    let registry = Registry::start().await;
    let ours = Image::of(vec![Layer::gzip(layer("ours"))], architecture(), "");
    let other = Image::of(vec![Layer::gzip(layer("other"))], "s390x", "");
    registry.push("app", "a", &ours).await;
    registry.push("app", "b", &other).await;
    let inner = [index(&[("s390x", &other)]), index(&[(architecture(), &ours)])];
    registry.push_manifest("app", "inner-0", &inner[0]).await;
    registry.push_manifest("app", "inner-1", &inner[1]).await;
    let plain = index_of(vec![other.manifest.descriptor(), ours.manifest.descriptor()]);
    let nested = index_of(inner.iter().map(Blob::descriptor).collect());
    let none = index_of(vec![other.manifest.descriptor(), inner[0].descriptor()]);
    let (_dir, store) = store();
    for (tag, index) in [("plain", plain), ("nested", nested)] {
        let name = registry.push_manifest("app", tag, &index).await;
        assert_eq!(pull(&store, &name).await.unwrap().id, ours.id(), "{tag}");
    }
    let name = registry.push_manifest("app", "none", &none).await;
    let error = pull(&store, &name).await.unwrap_err();
    assert!(error.to_string().contains("no match for platform"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_said_in_containerds_words() {
    let registry = Registry::start().await;
    let (_dir, store) = store();
    let name = format!("{}/none:1", registry.address);
    let error = pull(&store, &name).await.unwrap_err();
    let text = format!(
        "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": {name}: not found"
    );
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::NotFound, text));
    assert_eq!(pull(&store, "a//b").await.unwrap_err().kind(), ErrorKind::InvalidReference);
}

#[tokio::test]
async fn whiteouts_take_overlays_form() {
    let registry = Registry::start().await;
    let tar = Tar::new()
        .dir("a", 0o750)
        .file("a/.wh.gone", b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"new")
        .file("c/kept", b"kept")
        .file(".wh.c", b"")
        .file(".wh.d", b"")
        .file("d/kept", b"kept");
    let name = registry.push("app", "1", &Image::new(vec![Layer::gzip(tar.end())])).await;
    let (_dir, store) = store();
    let root = store.layers(pull(&store, &name).await.unwrap().id.as_str()).await.unwrap().remove(0);
    let gone = fs::symlink_metadata(root.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(fs::metadata(root.join("a")).unwrap().mode() & 0o7777, 0o750);
    for folder in ["b", "c", "d"] {
        assert_eq!(xattr(&root.join(folder), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]), "{folder}");
    }
    assert_eq!(read(&[root], "c/kept"), "kept");
}

pub fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = std::ffi::CString::new(name).unwrap();
    let mut value = vec![0; 1024];
    // SAFETY: both strings end in NUL, the buffer has the length that is said.
    let length = unsafe { nix::libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    usize::try_from(length).ok().map(|length| value[..length].to_vec())
}

#[tokio::test]
async fn concurrent_pulls_of_one_image_fetch_it_once() {
    let registry = Registry::start().await;
    let tar = Tar::new().file("noise", &noise(4 << 20, 7)).end();
    let image = Image::new(vec![Layer::gzip(tar), Layer::gzip(layer("x"))]);
    let name = registry.push("app", "1", &image).await;
    let (_dir, store) = store();
    let fetched = Arc::new(Mutex::new(HashMap::new()));
    let pulls = (0..8).map(|number| {
        let (store, name, fetched) = (store.clone(), name.clone(), fetched.clone());
        let watch = Progress::to(move |event| {
            if let Event::Fetched { blob, .. } = event {
                fetched.lock().unwrap().entry(blob).or_insert_with(HashSet::new).insert(number);
            }
        });
        tokio::spawn(async move { store.pull(&name, None, watch).await.unwrap().id })
    });
    let ids = futures::future::join_all(pulls).await;
    assert!(ids.into_iter().all(|id| id.unwrap() == image.id()));
    assert_eq!(store.list().unwrap().len(), 1);
    let fetched = fetched.lock().unwrap();
    assert!(fetched.len() == 3 && fetched.values().all(|by| by.len() == 1), "{fetched:?}");
}

/// Mounts layers in a mount namespace of its own, and says which files are there.
fn mounted(layers: &[PathBuf]) -> Vec<String> {
    use nix::mount::{MsFlags, mount};
    let lower: Vec<String> = layers.iter().map(|it| it.display().to_string()).collect();
    let listed = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let at = tempfile::tempdir().unwrap();
        let options = format!("lowerdir={}", lower.join(":"));
        mount(Some("overlay"), at.path(), Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str())).unwrap();
        let files =
            std::process::Command::new("find").args([".", "-type", "f"]).current_dir(at.path()).output().unwrap();
        nix::mount::umount(at.path()).unwrap();
        String::from_utf8(files.stdout).unwrap()
    });
    let mut files: Vec<String> = listed.join().unwrap().lines().map(str::to_owned).collect();
    files.sort();
    files
}

#[tokio::test]
async fn mounted_layers_hide_what_their_whiteouts_say() {
    let registry = Registry::start().await;
    let base = Tar::new().file("a/1", b"").file("a/2", b"").file("b/1", b"").file("c/d/1", b"").file("e", b"").end();
    let middle = Tar::new().file("a/.wh.1", b"").file("b/.wh..wh..opq", b"").file("b/2", b"").file(".wh.c", b"").end();
    let top = Tar::new().file("c/2", b"").file(".wh.e", b"").file("e/f", b"").end();
    let image = Image::new([base, middle, top].map(Layer::gzip).to_vec());
    let name = registry.push("app", "1", &image).await;
    let (_dir, store) = store();
    let pulled = pull(&store, &name).await.unwrap();
    let layers = store.layers(pulled.id.as_str()).await.unwrap();
    assert_eq!(mounted(&layers), ["./a/2", "./b/2", "./c/2", "./e/f"]);
}
