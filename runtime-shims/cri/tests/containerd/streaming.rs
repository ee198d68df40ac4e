//! exec, attach, cp and port-forward with a real kubectl, over WebSocket and over SPDY.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::cluster::{kubectl, serve};
use crate::machine::{Machine, possible};

/// A container that answers what it is told.
const SCRIPT: &str = "while read line; do echo heard $line; done; sleep 1000";

/// Echoes on a port of the host's, which is the pod's network here.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    port
}

struct Scene {
    _machine: Machine,
    address: SocketAddr,
    home: tempfile::TempDir,
    websocket: bool,
}

impl Scene {
    async fn set(websocket: bool) -> Option<Self> {
        let kubectl = std::process::Command::new("kubectl").arg("version").arg("--client").output();
        if !possible() || kubectl.is_err() {
            eprintln!("skipped: needs containerd and kubectl");
            return None;
        }
        let machine = Machine::start().await;
        let sandbox = machine.sandbox("web").await;
        let container = machine.container(&sandbox, SCRIPT).await;
        let address = serve(machine.runtime.clone(), sandbox.0, container).await;
        Some(Self { _machine: machine, address, home: tempfile::tempdir().unwrap(), websocket })
    }

    fn kubectl(&self) -> Command {
        let mut command = kubectl(self.address, self.home.path());
        let chosen = if self.websocket { "true" } else { "false" };
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", chosen).env("KUBECTL_PORT_FORWARD_WEBSOCKETS", chosen);
        command
    }

    async fn exec(&self, stdin: &[u8], args: &[&str]) -> Output {
        let mut running = self.kubectl().args(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = running.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        let feed = tokio::spawn(async move {
            // A command that does not read closes its stdin.
            let _ = pipe.write_all(&stdin).await;
        });
        let output = running.wait_with_output().await.unwrap();
        feed.await.unwrap();
        output
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn story(websocket: bool) {
    let Some(scene) = Scene::set(websocket).await else { return };
    outputs_and_exit_codes(&scene).await;
    half_close(&scene).await;
    terminal(&scene).await;
    copy(&scene).await;
    attach(&scene).await;
    port_forward(&scene).await;
}

#[tokio::test]
async fn kubectl_over_websocket() {
    story(true).await;
}

#[tokio::test]
async fn kubectl_over_spdy() {
    story(false).await;
}

async fn outputs_and_exit_codes(scene: &Scene) {
    let output = scene.exec(b"", &["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!(text(&output.stdout), "out\n");
    assert!(text(&output.stderr).starts_with("err\n"), "{output:?}");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let missing = scene.exec(b"", &["exec", "web", "--", "/no/such/program"]).await;
    assert!(!missing.status.success());
    assert!(text(&missing.stderr).contains("no such file or directory"), "{missing:?}");
}

async fn half_close(scene: &Scene) {
    let input: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let output = scene.exec(&input, &["exec", "-i", "web", "--", "cat"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout == input, "{} bytes came back of {}", output.stdout.len(), input.len());
}

async fn terminal(scene: &Scene) {
    let inner = "until stty size | grep -v '^0 0'; do sleep 0.1; done";
    let outer =
        format!("stty rows 33 cols 101; kubectl --server http://{} exec -it web -- sh -c \"{inner}\"", scene.address);
    let chosen = if scene.websocket { "true" } else { "false" };
    let output = Command::new("script")
        .args(["-qec", &outer, "/dev/null"])
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", chosen)
        .env("HOME", scene.home.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(text(&output.stdout).contains("33 101"), "{output:?}");
}

async fn copy(scene: &Scene) {
    let local = scene.home.path().join("local");
    let back = scene.home.path().join("back");
    let content: Vec<u8> = (0..1_500_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&local, &content).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let up = scene.exec(b"", &["cp", &path(&local), "web:/tmp/copied"]).await;
    assert!(up.status.success(), "{}", text(&up.stderr));
    let down = scene.exec(b"", &["cp", "web:/tmp/copied", &path(&back)]).await;
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(std::fs::read(&back).unwrap() == content);
}

async fn attach(scene: &Scene) {
    let mut running = scene.kubectl().args(["attach", "-i", "web"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(b"you\n").await.unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().expect("an answer before the end") != "heard you" {}
    running.kill().await.unwrap();
}

async fn port_forward(scene: &Scene) {
    let ports = format!(":{}", echo_server().await);
    let mut running = scene.kubectl().args(["port-forward", "web", &ports]).spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().expect("kubectl says where it listens");
    let local: SocketAddr = first.split_whitespace().nth(2).unwrap().parse().unwrap();
    for round in 0..3 {
        let mut connection = TcpStream::connect(local).await.unwrap();
        let sent = vec![round; 200_000];
        let (mut read, mut write) = connection.split();
        let mut heard = vec![0; sent.len()];
        let (wrote, got) = tokio::join!(write.write_all(&sent), read.read_exact(&mut heard));
        wrote.unwrap();
        got.unwrap();
        assert!(heard == sent, "round {round}");
    }
    running.kill().await.unwrap();
}
