//! Pulls from a registry that misbehaves, and pulls that die.
//!
//! Must not know: the crate's inside.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pintle_images::{Auth, Config, ErrorKind, Limits, Progress, Registry, Store};

use crate::images::{Blob, Image, Layer, MANIFEST, Tar, noise};
use crate::pulling::{files, flushed, layer, pull, store};
use crate::server::{Fault, Gate, Server};

/// One layer that does not compress, so that its blob is as long as it looks.
fn big() -> Image {
    Image::new(vec![Layer::plain(Tar::new().file("noise", &noise(1 << 20, 3)).end())])
}

fn assert_nothing_left(store: &Store) {
    assert!(store.list().unwrap().is_empty());
    for folder in ["blobs/sha256", "layers", "trash", "leases"] {
        assert_eq!(files(store, folder), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let server = Server::start().await;
    let image = big();
    let name = server.hold(&image);
    server.fail(&image.config, [Fault::Status(503)]);
    server.fail(&image.layers[0].blob, [Fault::Cut(300 << 10), Fault::Status(500), Fault::Cut(200 << 10)]);
    let (_dir, store) = store();
    let pulled = pull(&store, &name).await.unwrap();
    let ranges = server.ranges(&image.layers[0].blob);
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[0].as_deref(), Some("bytes=0-"));
    assert!(ranges[1] == ranges[2] && ranges[1] != ranges[0], "{ranges:?}");
    let root = store.layers(pulled.id.as_str()).await.unwrap().remove(0);
    assert_eq!(std::fs::read(root.join("noise")).unwrap(), noise(1 << 20, 3));
}

#[tokio::test]
async fn a_pull_that_was_given_up_is_resumed_by_the_next() {
    let server = Server::start().await;
    let image = big();
    let name = server.hold(&image);
    let (dir, _) = store();
    let limits = Limits { retries: 0, ..Limits::default() };
    let store = Store::open(&dir.path().join("images"), Config { limits, ..Config::default() }).unwrap();
    server.fail(&image.layers[0].blob, [Fault::Cut(600 << 10)]);
    let error = pull(&store, &name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(store.list().unwrap().is_empty() && files(&store, "layers").is_empty());
    pull(&store, &name).await.unwrap();
    let ranges = server.ranges(&image.layers[0].blob);
    assert!(ranges.len() == 2 && ranges[1].as_deref().is_some_and(|it| it != "bytes=0-"), "{ranges:?}");
}

#[tokio::test]
async fn wrong_bytes_are_never_kept_resumed_streams_included() {
    let server = Server::start().await;
    let image = big();
    let name = server.hold(&image);
    let (_dir, first) = store();
    server.fail(&image.layers[0].blob, [Fault::Cut(100 << 10), Fault::Wrong]);
    let pulled = pull(&first, &name).await.unwrap();
    assert_eq!(server.ranges(&image.layers[0].blob).last().unwrap().as_deref(), Some("bytes=0-"));
    let root = first.layers(pulled.id.as_str()).await.unwrap().remove(0);
    assert_eq!(std::fs::read(root.join("noise")).unwrap(), noise(1 << 20, 3));

    for fault in [Fault::Wrong, Fault::Longer(10)] {
        let (_dir, store) = store();
        server.fail(&image.layers[0].blob, vec![fault.clone(); 3]);
        let error = pull(&store, &name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(image.layers[0].blob.digest().as_str()), "{error}");
        assert_nothing_left(&store);
        pull(&store, &name).await.unwrap();
    }
}

#[tokio::test]
async fn manifests_that_lie_are_refused() {
    let server = Server::start().await;
    let image = big();
    server.hold(&image);
    let digest = image.manifest.digest();
    server.hold_manifest(digest.as_str(), Blob::new(MANIFEST, "{}"));
    let (_dir, store) = store();
    let error = pull(&store, &format!("{}/app@{digest}", server.address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");

    let mut wrong = image.clone();
    wrong.layers[0].diff_id = pintle_images::Digest::of(b"other");
    let wrong = Image::new(wrong.layers);
    let error = pull(&store, &server.hold(&wrong)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("wrong diff id"), "{error}");
    assert_nothing_left(&store);

    let old = Blob::new("application/vnd.docker.distribution.manifest.v1+json", r#"{"schemaVersion":1,"fsLayers":[]}"#);
    server.hold_manifest("old", old);
    let error = pull(&store, &format!("{}/app:old", server.address)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("manifest.v1"), "{error}");
    server.hold_manifest("html", Blob::new("text/html", "<html>"));
    let error = pull(&store, &format!("{}/app:html", server.address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn credentials_are_given_as_the_registry_asks() {
    let server = Server::start().await;
    let name = server.hold(&big());
    let auth = |password: &str| Auth::Basic { username: "me".into(), password: password.into() };
    for gate in [Gate::Basic, Gate::Token] {
        server.close(gate.clone());
        let (dir, store) = store();
        for wrong in [None, Some(auth("guess"))] {
            let error = store.pull(&name, wrong.as_ref(), Progress::none()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthorized, "{gate:?}: {error}");
            assert!(error.to_string().contains("pull access denied"), "{error}");
        }
        store.pull(&name, Some(&auth("secret")), Progress::none()).await.unwrap();
        let error = store.pull(&name, None, Progress::none()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "what is there is no way round the registry");
        let text =
            format!(r#"{{"registries":{{"{}":{{"auth":{{"username":"me","password":"secret"}}}}}}}}"#, server.address);
        let config: Config = serde_json::from_str(&text).unwrap();
        pull(&Store::open(&dir.path().join("other"), config).unwrap(), &name).await.unwrap();
    }
    server.close(Gate::Token);
    let (_dir, store) = store();
    store.pull(&name, Some(&Auth::Token("opaque".into())), Progress::none()).await.unwrap();
}

#[tokio::test]
async fn tokens_that_no_header_takes_are_refused() {
    let server = Server::start().await;
    let name = server.hold(&big());
    server.close(Gate::Token);
    server.hand_out(r"two\nlines");
    let handed = Auth::Basic { username: "me".into(), password: "secret".into() };
    for auth in [handed, Auth::Token("two\nlines".into()), Auth::Token("\u{fc}".into())] {
        let (_dir, store) = store();
        let error = store.pull(&name, Some(&auth), Progress::none()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains("no text that a header may have"), "{error}");
    }
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_dead_passed_over() {
    let (mirror, other) = (Server::start().await, Server::start().await);
    let image = big();
    other.hold(&image);
    let dir = tempfile::tempdir().unwrap();
    let mirrors = ["127.0.0.1:1", &mirror.address, &other.address].map(|it| format!("http://{it}")).to_vec();
    let settings = Registry { mirrors, ..Registry::default() };
    let limits = Limits { retries: 1, ..Limits::default() };
    let config = Config { registries: [("example.org".to_owned(), settings)].into(), limits };
    let store = Store::open(dir.path(), config).unwrap();
    let pulled = pull(&store, "example.org/app:1").await.unwrap();
    assert_eq!(pulled.tags, ["example.org/app:1"]);
    assert!(other.asked().iter().any(|it| it == "/v2/app/manifests/1?ns=example.org"), "{:?}", other.asked());
    assert_eq!(mirror.ranges(&image.layers[0].blob).len(), 0);
}

#[tokio::test]
async fn tls_is_verified_unless_told_otherwise() {
    let (server, pem) = Server::start_tls().await;
    let name = server.hold(&big());
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let open = |settings: Registry, folder: &str| {
        let limits = Limits { retries: 0, ..Limits::default() };
        let registries = [(server.address.clone(), Registry { plain_http: Some(false), ..settings })].into();
        Store::open(&dir.path().join(folder), Config { registries, limits }).unwrap()
    };
    let error = pull(&open(Registry::default(), "a"), &name).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("certificate"), "{error}");
    pull(&open(Registry { ca_file: Some(ca_file), ..Registry::default() }, "b"), &name).await.unwrap();
    pull(&open(Registry { skip_verify: true, ..Registry::default() }, "c"), &name).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let (dir, _) = store();
    let limits = Limits { retries: 1, ..Limits::default() };
    let store = Store::open(dir.path(), Config { limits, ..Config::default() }).unwrap();
    let error = pull(&store, "127.0.0.1:1/app").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("refused"), "{error}");
}

const STORE: &str = "PINTLE_TEST_STORE";
const NAME: &str = "PINTLE_TEST_NAME";

/// Only reached as the process that [`a_process_killed_in_a_pull_leaves_nothing_and_the_next_resumes`] kills.
#[tokio::test]
#[ignore = "the child of another test"]
async fn child_that_pulls() {
    let (Ok(root), Ok(name)) = (std::env::var(STORE), std::env::var(NAME)) else { return };
    let store = Store::open(Path::new(&root), Config::default()).unwrap();
    let said = Progress::to(|event| println!("{event:?}"));
    store.pull(&name, None, said).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_in_a_pull_leaves_nothing_and_the_next_resumes() {
    let server = Server::start().await;
    let mut layers = big().layers;
    layers.push(Layer::gzip(layer("small")));
    let image = Image::new(layers);
    let name = server.hold(&image);
    let (_dir, store) = store();
    server.fail(&image.layers[0].blob, [Fault::Stall(512 << 10)]);
    server.fail(&image.layers[1].blob, [Fault::Stall(1)]);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::child_that_pulls", "--ignored", "--nocapture"])
        .env(STORE, store.root())
        .env(NAME, &name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let partial = store.root().join("ingest").join(image.layers[0].blob.digest().hex());
    let small = &image.layers[1].blob;
    while !std::fs::metadata(&partial).is_ok_and(|it| it.len() >= 512 << 10) || server.ranges(small).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.list().unwrap().is_empty());
    assert!(files(&store, "layers").iter().all(|it| it.display().to_string().ends_with(".new")));
    store.collect().unwrap();
    assert!(files(&store, "layers").is_empty() && files(&store, "leases").is_empty());
    assert!(partial.exists(), "what can be resumed stays");
    let pulled = pull(&store, &name).await.unwrap();
    let ranges = server.ranges(&image.layers[0].blob);
    assert_eq!(ranges.last().unwrap().as_deref(), Some("bytes=524288-"), "{ranges:?}");
    assert_eq!(store.layers(pulled.id.as_str()).await.unwrap().len(), 2);
    assert!(files(&store, "ingest").is_empty());
}

/// In a mount namespace of its own, on a file system of 3 MiB.
#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    use nix::mount::{MsFlags, mount};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let pulled = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("size=3m")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start().await;
            let small = server.hold(&Image::new(vec![Layer::gzip(layer("small"))]));
            let store = Store::open(&root, Config::default()).unwrap();
            pull(&store, &small).await.unwrap();
            flushed(&store).await;
            let bombs = [Layer::gzip(Tar::new().file("zeros", &vec![0; 8 << 20]).end())];
            let blobs = [Layer::plain(Tar::new().file("noise", &noise(4 << 20, 9)).end())];
            for layers in [bombs, blobs] {
                let name = server.hold(&Image::new(layers.to_vec()));
                let error = pull(&store, &name).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                assert!(error.to_string().contains("No space left on device"), "{error}");
                assert_eq!(store.list().unwrap().len(), 1);
                assert!(files(&store, "ingest").is_empty(), "a full disk is given back");
                assert_eq!((files(&store, "layers").len(), files(&store, "trash").len()), (1, 0));
            }
            pull(&store, &server.hold(&Image::new(vec![Layer::gzip(layer("another"))]))).await.unwrap();
        });
    });
    pulled.join().unwrap();
}
