//! The cluster that the stories share: the images and their registry, the running `pintle up`, and a shell with kubectl.
//!
//! Must not know: any story.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_harness::Registry;
use pintle_harness::images::{Images, build_and_push, push_program};

use crate::isolation::SCRATCH;
use crate::traces::Traces;

const KUBECONFIG: &str = "/etc/pintle/admin.kubeconfig";
/// Our first argument as the program in the image `$HEALTH`, and the port where it answers gRPC probes.
pub const HEALTH: &str = "--grpc-health";
pub const HEALTH_PORT: u16 = 50051;
/// Logs small enough that a story sees them rotated; all else is as shipped.
const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerLogMaxSize: 64Ki
containerLogMonitorInterval: 3s
";
/// Bounds, not expectations: the machine may be slow.
const READY_LIMIT: Duration = Duration::from_secs(120);
const REACH_LIMIT: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub registry: Registry,
    pub images: Images,
    /// Answers gRPC probes.
    pub health: String,
    /// The machine as it was before the first start.
    pub before: Traces,
    pintle: Option<Child>,
    tokio: tokio::runtime::Runtime,
}

impl Cluster {
    /// The registry with its images; Pintle is not started yet.
    pub fn prepare() -> Self {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
        let program = std::env::current_exe().expect("this program");
        let (registry, images, health) = tokio.block_on(async {
            let registry = Registry::start().await.expect("a registry");
            let images = build_and_push(&registry).await.expect("the images");
            let health = push_program(&registry, "health", &program, &[HEALTH]).await.expect("one more image");
            (registry, images, health)
        });
        fs::create_dir_all(Path::new(SCRATCH).join("home")).expect("a home");
        fs::write(Path::new(SCRATCH).join("kubelet.yaml"), KUBELET).expect("a file");
        Self { registry, images, health, before: Traces::look(), pintle: None, tokio }
    }

    /// Runs `pintle up` and waits until it says that it is ready.
    pub fn up(&mut self) {
        let log = File::options().create(true).append(true).open(log_file()).expect("a log");
        let mut command = self.pintle("up");
        command.args(["--kubelet-config".into(), Path::new(SCRATCH).join("kubelet.yaml")]);
        let mut pintle = command.stdout(Stdio::piped()).stderr(log).spawn().expect("pintle");
        let (tell, told) = mpsc::channel();
        let lines = BufReader::new(pintle.stdout.take().expect("its output")).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
        self.pintle = Some(pintle);
        let started = Instant::now();
        loop {
            match told.recv_timeout(READY_LIMIT.saturating_sub(started.elapsed())) {
                Ok(line) if line.starts_with("Ready in") => return,
                Ok(_step) => {}
                Err(end) => panic!("pintle up: {end}; its log:\n{}", last_lines(&log_file(), 20)),
            }
        }
    }

    /// Runs a program of kube-rs against the cluster, bounded as a line of shell is.
    #[track_caller]
    pub fn program<T>(&self, act: impl AsyncFnOnce(kube::Client) -> anyhow::Result<T>) -> T {
        let run = async {
            let config = kube::config::Kubeconfig::read_from(KUBECONFIG)?;
            let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
            act(kube::Client::try_from(config)?).await
        };
        let told = self.tokio.block_on(async { tokio::time::timeout(READY_LIMIT, run).await });
        told.expect("an end in time").unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// kill -9, and no other goodbye.
    pub fn kill_pintle(&mut self) {
        let mut pintle = self.pintle.take().expect("a running pintle");
        pintle.kill().expect("kill");
        pintle.wait().expect("its end");
    }

    /// SIGTERM, as an init system would.
    pub fn stop_pintle(&mut self) {
        let mut pintle = self.pintle.take().expect("a running pintle");
        kill(Pid::from_raw(pintle.id().cast_signed()), Signal::SIGTERM).expect("a signal");
        let status = pintle.wait().expect("its end");
        assert!(status.success(), "pintle ended with {status}");
    }

    /// Pintle itself, with a subcommand.
    pub fn pintle(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pintle"));
        command.arg(subcommand).stdin(Stdio::null());
        command
    }

    /// A line of shell, in which `$WEB1`, `$WEB2`, `$SHELL_IMAGE`, `$CLIENT` and `$HEALTH` are the images. Bounded.
    pub fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("a shell")
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = crate::shell(line);
        command.env("KUBECONFIG", KUBECONFIG).env("HOME", Path::new(SCRATCH).join("home")).current_dir(SCRATCH);
        command.env("WEB1", &self.images.web1).env("WEB2", &self.images.web2);
        command.env("SHELL_IMAGE", &self.images.shell).env("CLIENT", &self.images.client);
        command.env("HEALTH", &self.health).env("REGISTRY", &self.registry.address).stdin(Stdio::null());
        command
    }

    /// What the line prints; it must succeed.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "$ {line}\n{}({})", text(&output), output.status);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// What the line says while it fails, as it must.
    #[track_caller]
    pub fn fails(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(!output.status.success(), "$ {line}\n{}(it should have failed)", text(&output));
        text(&output).trim_end().to_owned()
    }

    /// Tries a request until it is answered as expected, or half a minute is over: what the kernel was told has no event
    /// that a client could await.
    #[track_caller]
    pub fn reaches(&self, line: &str, expected: &str) {
        let started = Instant::now();
        loop {
            let output = self.run(line);
            if output.status.success() && String::from_utf8_lossy(&output.stdout).contains(expected) {
                return;
            }
            let late = started.elapsed() > REACH_LIMIT;
            assert!(!late, "$ {line}\n{}({}; expected {expected:?})", text(&output), output.status);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Tells what the cluster looks like, for whoever reads of a failure.
    pub fn look_around(&self) {
        let seen = self.run("test ! -e $KUBECONFIG || kubectl --request-timeout=10s get pods -A -o wide");
        println!("{}its log:\n{}", text(&seen), last_lines(&log_file(), 15));
    }

    /// Copies the log to where it outlives this machine.
    pub fn keep_log(&self) -> PathBuf {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-pintle.log");
        let _ = fs::copy(log_file(), &kept);
        kept
    }
}

fn log_file() -> PathBuf {
    Path::new(SCRATCH).join("pintle.log")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
