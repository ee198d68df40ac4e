//! The images are in the registry, under the names that tests use.

use pintle_harness::{Registry, images};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn every_image_can_be_pulled() {
    if std::process::Command::new("docker-registry").arg("--version").output().is_err() {
        eprintln!("skipped: needs docker-registry");
        return;
    }
    let registry = Registry::start().await.unwrap();
    let images = images::build_and_push(&registry).await.unwrap();
    assert_eq!(images.web1, format!("{}/web:1", registry.address));
    for reference in images.all() {
        let (name, tag) = reference.split_once('/').unwrap().1.split_once(':').unwrap();
        let mut socket = TcpStream::connect(&registry.address).await.unwrap();
        let request = format!(
            "GET /v2/{name}/manifests/{tag} HTTP/1.0\r\nAccept: application/vnd.oci.image.manifest.v1+json\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{reference}: {answer}");
    }
}
