//! Images in and out as archives.
//!
//! Must not know: the crate's inside.

use std::fs::{self, File};
use std::io::Write;

use pintle_images::{Compression, ErrorKind, Progress};
use serde_json::json;

use crate::images::{Blob, Image, Layer, Tar, architecture, index};
use crate::pulling::{files, layer, pull, store};
use crate::registry::Registry;

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    files.iter().fold(Tar::new(), |tar, (path, bytes)| tar.file(path, bytes)).end()
}

fn blob_path(blob: &Blob) -> String {
    format!("blobs/sha256/{}", blob.digest().hex())
}

/// As BuildKit writes them: an index without Docker's table.
fn oci_archive(image: &Image, name: &str) -> Vec<u8> {
    let mut entry = image.manifest.descriptor();
    entry["annotations"] = json!({ "io.containerd.image.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    let blobs: Vec<&Blob> = image.layers.iter().map(|it| &it.blob).chain([&image.config, &image.manifest]).collect();
    let paths: Vec<String> = blobs.iter().map(|it| blob_path(it)).collect();
    let mut files: Vec<(&str, &[u8])> = vec![("oci-layout", b"{}"), ("index.json", index.as_bytes())];
    files.extend(paths.iter().zip(&blobs).map(|(path, blob)| (path.as_str(), blob.bytes.as_slice())));
    tar_of(&files)
}

/// As `docker save` wrote them before it knew OCI: folders by layer, one a link to another's.
fn docker_archive(image: &Image, name: &str) -> Vec<u8> {
    let config = format!("{}.json", image.id().hex());
    let table = json!([{ "Config": config, "RepoTags": [name], "Layers": ["a/layer.tar", "b/layer.tar"] }]);
    Tar::new()
        .dir("a/", 0o755)
        .file("a/layer.tar", &image.layers[0].blob.bytes)
        .symlink("b/layer.tar", "../a/layer.tar")
        .member(&config, tar::EntryType::Regular, 0o644, "", &image.config.bytes)
        .file("manifest.json", table.to_string().as_bytes())
        .end()
}

#[tokio::test]
async fn a_pulled_image_survives_export_and_import_in_every_compression() {
    let registry = Registry::start().await;
    let image = Image::new(vec![Layer::gzip(layer("one")), Layer::zstd(layer("two"))]);
    let name = registry.push("app", "1", &image).await;
    let (dir, from) = store();
    let pulled = pull(&from, &name).await.unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let path = dir.path().join(format!("{compression:?}.tar"));
        from.export(vec![name.clone()], File::create(&path).unwrap(), compression).await.unwrap();
        let (_dir, into) = store();
        let imported = into.import(File::open(&path).unwrap(), None, Progress::none()).await.unwrap().remove(0);
        assert_eq!((&imported.id, &imported.tags, imported.size), (&pulled.id, &pulled.tags, pulled.size));
        assert_eq!(imported.digests, pulled.digests);
        let top = into.layers(&name).await.unwrap().remove(0);
        assert_eq!(fs::read_to_string(top.join("etc/text")).unwrap(), "two");
    }
}

#[tokio::test]
async fn an_image_keeps_the_digest_of_its_index() {
    let registry = Registry::start().await;
    let ours = Image::of(vec![Layer::gzip(layer("ours"))], architecture(), "");
    let other = Image::of(vec![Layer::gzip(layer("other"))], "s390x", "");
    registry.push("app", "a", &ours).await;
    registry.push("app", "b", &other).await;
    let name = registry.push_manifest("app", "all", &index(&[("s390x", &other), (architecture(), &ours)])).await;
    let (dir, from) = store();
    let pulled = pull(&from, &name).await.unwrap();
    for asked in [&name, &pulled.digests[0]] {
        let path = dir.path().join("image.tar");
        from.export(vec![asked.clone()], File::create(&path).unwrap(), Compression::None).await.unwrap();
        let (_dir, into) = store();
        into.import(File::open(&path).unwrap(), None, Progress::none()).await.unwrap();
        let found = into.image(&pulled.digests[0]).unwrap().unwrap();
        assert_eq!(found.digests, pulled.digests, "{asked}");
    }
}

#[tokio::test]
async fn an_archive_does_not_choose_its_digest() {
    let (_dir, store) = store();
    let image = Image::new(vec![Layer::plain(layer("a")), Layer::plain(layer("a"))]);
    let claimed = format!("a.io/b@sha256:{}", "f".repeat(64));
    for archive in [oci_archive(&image, &claimed), docker_archive(&image, &claimed)] {
        store.import(std::io::Cursor::new(archive), None, Progress::none()).await.unwrap();
        assert!(store.image(&claimed).unwrap().is_none());
    }
}

#[tokio::test]
async fn archives_of_old_docker_and_of_oci_builders_are_imported() {
    let (_dir, store) = store();
    let image = Image::new(vec![Layer::plain(layer("a")), Layer::plain(layer("a"))]);
    let archive = std::io::Cursor::new(docker_archive(&image, "app:old"));
    let imported = store.import(archive, None, Progress::none()).await.unwrap();
    assert_eq!((&imported[0].id, imported[0].tags[0].as_str()), (&image.id(), "docker.io/library/app:old"));
    let other = Image::new(vec![Layer::gzip(layer("b"))]);
    let archive = std::io::Cursor::new(oci_archive(&other, "docker.io/library/app:new"));
    let imported = store.import(archive, None, Progress::none()).await.unwrap();
    assert_eq!(imported[0].digests, [format!("docker.io/library/app@{}", other.manifest.digest())]);
    assert_eq!(store.list().unwrap().len(), 2);
}

#[tokio::test]
async fn an_archive_that_is_none_or_lies_leaves_nothing() {
    let (_dir, store) = store();
    let image = Image::new(vec![Layer::gzip(layer("b"))]);
    let mut lying = image.clone();
    lying.layers[0].blob.bytes.push(0);
    let path = blob_path(&image.layers[0].blob);
    let lie = tar_of(&[(path.as_str(), lying.layers[0].blob.bytes.as_slice())]);
    let missing = oci_archive(&Image { layers: Vec::new(), ..image.clone() }, "a");
    let cut = oci_archive(&image, "a")[..3000].to_vec();
    for (archive, kind) in [
        (lie, ErrorKind::Corrupt),
        (b"nothing".to_vec(), ErrorKind::Corrupt),
        (Tar::new().end(), ErrorKind::Corrupt),
        (cut, ErrorKind::Corrupt),
        (missing, ErrorKind::Internal),
    ] {
        let error = store.import(std::io::Cursor::new(archive), None, Progress::none()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(store.list().unwrap().is_empty());
        for folder in ["blobs/sha256", "ingest", "layers", "trash", "leases"] {
            assert_eq!(files(&store, folder), Vec::<std::path::PathBuf>::new(), "{error}");
        }
    }
}

#[tokio::test]
async fn a_folder_of_archives_is_imported_once_and_pinned() {
    let (dir, store) = store();
    let folder = dir.path().join("archives");
    assert!(store.import_folder(&folder).await.unwrap().is_empty());
    fs::create_dir(&folder).unwrap();
    let image = Image::new(vec![Layer::gzip(layer("b"))]);
    let mut writer = flate2::write::GzEncoder::new(File::create(folder.join("a.tar.gz")).unwrap(), Default::default());
    writer.write_all(&oci_archive(&image, "example.org/app:1")).unwrap();
    writer.finish().unwrap();
    fs::write(folder.join("broken.tar"), b"x").unwrap();
    fs::write(folder.join("README"), b"x").unwrap();
    let done = store.import_folder(&folder).await.unwrap();
    assert_eq!(done[0].1.as_ref().unwrap(), &[image.id()]);
    assert!(done[1].1.is_err() && done.len() == 2);
    assert!(store.image("example.org/app:1").unwrap().unwrap().pinned);
    fs::remove_file(folder.join("broken.tar")).unwrap();
    assert!(store.import_folder(&folder).await.unwrap().is_empty());
    store.remove("example.org/app:1").unwrap();
    assert_eq!(store.import_folder(&folder).await.unwrap().len(), 1);
}
