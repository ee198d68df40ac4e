//! containerd, our CNI plugin and real pulls together, in a network namespace of the test's own: a pod serves, the host
//! and another pod reach it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use pintle_cni::{conf, plugin};
use pintle_cri::v1::*;
use pintle_cri::{Runtime, connect};
use pintle_harness::{Registry, images};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn main() -> ExitCode {
    if let Some(code) = plugin::invoked() {
        return code;
    }
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    if asked("--list") {
        if !asked("--ignored") {
            println!("a_pod_serves_the_host_and_other_pods: test");
        }
        return ExitCode::SUCCESS;
    }
    let found = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let tools = ["containerd", "runc", "docker-registry"].into_iter().all(found);
    if !nix::unistd::geteuid().is_root() || !tools || unshare(CloneFlags::CLONE_NEWNET).is_err() {
        eprintln!("skipped: needs root, containerd, runc and docker-registry");
        return ExitCode::SUCCESS;
    }
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(tokio::task::LocalSet::new().run_until(story()));
    ExitCode::SUCCESS
}

async fn story() {
    let dir = tempfile::Builder::new().prefix("cri-").tempdir_in("/tmp").unwrap();
    let mut containerd = start(dir.path());
    let outcome = tokio::task::spawn_local(serve_and_reach(dir.path().to_path_buf())).await;
    remove_pods(dir.path()).await;
    containerd.kill().unwrap();
    containerd.wait().unwrap();
    remove_cgroups(dir.path());
    outcome.unwrap();
    let links = Command::new("ip").args(["-o", "link", "show", "type", "veth"]).output().unwrap();
    assert_eq!(String::from_utf8(links.stdout).unwrap(), "", "no pod's link is left");
}

async fn serve_and_reach(dir: std::path::PathBuf) {
    let registry = Registry::start().await.unwrap();
    let images = images::build_and_push(&registry).await.unwrap();
    let runtime = runtime(&dir).await;
    runtime.ensure_sandbox_image().await.unwrap();
    let web = run(&runtime, &dir, "web", &images.web1).await;
    let page = until(async || get(&web.address, 80).await).await;
    assert!(page.ends_with("web 1\n"), "{page}");
    // By its host port, which containerd passes on to the plugin as the configuration asks.
    let page = until(async || get("127.0.0.1", 8088).await).await;
    assert!(page.ends_with("web 1\n"), "{page}");
    let client = run(&runtime, &dir, "client", &images.client).await;
    assert_ne!(client.address, web.address);
    let cmd = ["wget", "-qO-", &format!("http://{}/", web.address)].map(str::to_owned).to_vec();
    let exec = ExecSyncRequest { container_id: client.container, cmd, timeout: 20 };
    let answer = runtime.runtime.clone().exec_sync(exec).await.unwrap().into_inner();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "web 1\n", "{}", String::from_utf8_lossy(&answer.stderr));
}

struct Pod {
    container: String,
    address: String,
}

async fn run(runtime: &Runtime, dir: &Path, name: &str, image: &str) -> Pod {
    let mut client = runtime.runtime.clone();
    let image = ImageSpec { image: image.into(), ..Default::default() };
    let pull = PullImageRequest { image: Some(image.clone()), ..Default::default() };
    runtime.images.clone().pull_image(pull).await.unwrap();
    let metadata = PodSandboxMetadata { name: name.into(), uid: name.into(), namespace: "default".into(), attempt: 0 };
    let cgroup_parent = format!("/{}", dir.file_name().unwrap().to_str().unwrap());
    let port =
        PortMapping { protocol: Protocol::Tcp.into(), container_port: 80, host_port: 8088, ..Default::default() };
    let config = PodSandboxConfig {
        metadata: Some(metadata),
        hostname: name.into(),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent, ..Default::default() }),
        port_mappings: if name == "web" { vec![port] } else { Vec::new() },
        ..Default::default()
    };
    let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
    let sandbox = client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
        image: Some(image),
        linux: Some(LinuxContainerConfig::default()),
        ..Default::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    let container = client.create_container(request).await.unwrap().into_inner().container_id;
    client.start_container(StartContainerRequest { container_id: container.clone() }).await.unwrap();
    let asked = PodSandboxStatusRequest { pod_sandbox_id: sandbox, verbose: false };
    let status = client.pod_sandbox_status(asked).await.unwrap().into_inner().status.unwrap();
    Pod { container, address: status.network.unwrap().ip }
}

fn start(dir: &Path) -> Child {
    conf::install_plugin(&dir.join("bin"), &std::env::current_exe().unwrap()).unwrap();
    conf::install(&dir.join("net.d"), "10.98.0.0/24", &dir.join("leases")).unwrap();
    let place = dir.display();
    let configuration = format!(
        r#"version = 2
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{place}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "pintle.test/pause:1"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{place}/net.d"
  bin_dir = "{place}/bin"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"#
    );
    fs::write(dir.join("config.toml"), configuration).unwrap();
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new("containerd");
    command.arg("--config").arg(dir.join("config.toml")).stderr(log).stdout(Stdio::null()).spawn().unwrap()
}

async fn runtime(dir: &Path) -> Runtime {
    let socket = dir.join("c.sock");
    until(|| connect(socket.to_str().unwrap())).await
}

async fn remove_pods(dir: &Path) {
    let mut client = runtime(dir).await.runtime;
    for pod in client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items {
        let pod_sandbox_id = pod.id;
        client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await.unwrap();
        client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
    }
}

/// The pods' parent, in every hierarchy there is.
fn remove_cgroups(dir: &Path) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(dir.file_name().unwrap()));
    }
}

async fn get(address: &str, port: u16) -> std::io::Result<String> {
    let mut socket = TcpStream::connect((address, port)).await?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Tries until it works, for half a minute.
async fn until<T, E: std::fmt::Display>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    for _ in 0..600 {
        match attempt().await {
            Ok(done) => return done,
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    match attempt().await {
        Ok(done) => done,
        Err(error) => panic!("still failing: {error}"),
    }
}
