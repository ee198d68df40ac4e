//! Pods that live side by side while the runtime may be killed: what was asked, and what was acknowledged.
//!
//! Must not know: when anybody is killed, how facts are checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pintle_cri::{ImageClient, RuntimeClient, v1};
use tokio::sync::Mutex;

use crate::dice::Dice;
use crate::pods::{on_host_network, pod_config, security, shell_config};

/// How far a call got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Call {
    #[default]
    Never,
    /// The answer did not come: both outcomes are right.
    Asked,
    Done,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Exits with this code soon.
    Exits(i32),
    Stays,
    /// Its program is not there.
    CannotStart,
}

#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub kind: Kind,
    pub started: Call,
    pub stopped: Call,
    pub removed: Call,
}

#[derive(Debug, Clone)]
pub struct Life {
    pub pod: String,
    pub stopped: Call,
    pub removed: Call,
    pub containers: Vec<Container>,
}

/// What all lives know together.
#[derive(Debug, Default)]
pub struct Facts {
    pub lives: Mutex<Vec<Life>>,
    /// Set before the runtime is killed: from here on calls may fail.
    pub killed: AtomicBool,
    /// Calls that failed before that, or otherwise than by the end of the runtime.
    pub complaints: Mutex<Vec<String>>,
    pub calls: std::sync::atomic::AtomicU64,
}

/// A failed call ends a life.
struct Ended;

/// One kubelet's worker: life after life until a call fails.
pub struct Worker {
    pub cri: RuntimeClient,
    pub images: ImageClient,
    pub shell: String,
    /// Pulled and removed again.
    pub pulled: Vec<String>,
    pub facts: Arc<Facts>,
    pub dice: Dice,
}

impl Worker {
    pub async fn run(mut self) {
        while self.live().await.is_ok() {}
    }

    /// Pulls and removes images until a call fails.
    pub async fn pull(mut self) {
        while self.pull_one().await.is_ok() {}
    }

    async fn pull_one(&mut self) -> Result<(), Ended> {
        let at = usize::try_from(self.dice.below(self.pulled.len() as u64)).unwrap_or_default();
        let image = Some(v1::ImageSpec { image: self.pulled[at].clone(), ..Default::default() });
        let pulled = self.images.pull_image(v1::PullImageRequest { image: image.clone(), ..Default::default() }).await;
        self.told("pull", pulled).await?;
        if self.dice.percent(60) {
            let removed = self.images.remove_image(v1::RemoveImageRequest { image }).await;
            self.told("remove image", removed).await?;
        }
        Ok(())
    }

    async fn told<T>(&self, what: &str, answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Ended> {
        self.facts.calls.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                if !self.facts.killed.load(Ordering::SeqCst) {
                    self.facts.complaints.lock().await.push(format!("{what}: {status:?}"));
                }
                Err(Ended)
            }
        }
    }

    async fn live(&mut self) -> Result<(), Ended> {
        let config = self.config();
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        let answer = self.cri.run_pod_sandbox(request).await;
        let pod = self.told("run pod", answer).await?.pod_sandbox_id;
        let life = Life { pod, stopped: Call::Never, removed: Call::Never, containers: Vec::new() };
        let at = {
            let mut lives = self.facts.lives.lock().await;
            lives.push(life.clone());
            lives.len() - 1
        };
        let mut life = life;
        for number in 0..=self.dice.below(2) {
            self.container(&mut life, at, &config, number).await?;
        }
        if self.dice.percent(15) {
            return Ok(());
        }
        life.stopped = Call::Asked;
        self.keep(at, &life).await;
        let answer = self.cri.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: life.pod.clone() }).await;
        self.told("stop pod", answer).await?;
        (life.stopped, life.removed) = (Call::Done, Call::Asked);
        self.keep(at, &life).await;
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: life.pod.clone() };
        let answer = self.cri.remove_pod_sandbox(request).await;
        self.told("remove pod", answer).await?;
        life.removed = Call::Done;
        self.keep(at, &life).await;
        Ok(())
    }

    async fn keep(&self, at: usize, life: &Life) {
        self.facts.lives.lock().await[at] = life.clone();
    }

    /// A pod of any kind there is.
    fn config(&mut self) -> v1::PodSandboxConfig {
        let mut config = pod_config("life");
        match self.dice.below(20) {
            0..2 => config = on_host_network(config),
            2..5 => security(&mut config).pid = v1::NamespaceMode::Pod.into(),
            5..7 => {
                let ids = vec![v1::IdMapping { host_id: 200_000, container_id: 0, length: 65_536 }];
                let mode = v1::NamespaceMode::Pod.into();
                let users = v1::UserNamespace { mode, uids: ids.clone(), gids: ids };
                security(&mut config).userns_options = Some(users);
            }
            7 => {
                let host_port = i32::try_from(20_000 + self.dice.below(10_000)).unwrap_or_default();
                config.port_mappings = vec![v1::PortMapping { host_port, container_port: 80, ..Default::default() }];
            }
            _ => {}
        }
        config
    }

    async fn container(
        &mut self,
        life: &mut Life,
        at: usize,
        pod: &v1::PodSandboxConfig,
        number: u64,
    ) -> Result<(), Ended> {
        let kind = match self.dice.below(10) {
            0..4 => Kind::Exits(i32::try_from(self.dice.below(120)).unwrap_or_default()),
            4 => Kind::CannotStart,
            _ => Kind::Stays,
        };
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: life.pod.clone(),
            config: Some(self.container_config(pod, kind, number)),
            sandbox_config: Some(pod.clone()),
        };
        let answer = self.cri.create_container(request).await;
        let id = self.told("create", answer).await?.container_id;
        let (started, stopped, removed) = (Call::Asked, Call::Never, Call::Never);
        life.containers.push(Container { id: id.clone(), kind, started, stopped, removed });
        self.keep(at, life).await;
        let answer = self.cri.start_container(v1::StartContainerRequest { container_id: id.clone() }).await;
        if kind == Kind::CannotStart {
            let refused = answer.is_err_and(|status| status.message().contains("no such file"));
            if !refused && !self.facts.killed.load(Ordering::SeqCst) {
                self.facts.complaints.lock().await.push("a program that is not there was started".into());
            }
            return if self.facts.killed.load(Ordering::SeqCst) { Err(Ended) } else { Ok(()) };
        }
        self.told("start", answer).await?;
        let one = life.containers.len() - 1;
        life.containers[one].started = Call::Done;
        self.keep(at, life).await;
        if kind == Kind::Stays {
            self.use_it(life, at, one).await?;
        }
        Ok(())
    }

    fn container_config(&mut self, pod: &v1::PodSandboxConfig, kind: Kind, number: u64) -> v1::ContainerConfig {
        let line = match kind {
            Kind::Exits(code) => format!("echo line; sleep 0.{}; exit {code}", self.dice.below(5)),
            Kind::Stays | Kind::CannotStart => "echo line; exec sleep 100000".into(),
        };
        let mut config = shell_config(&self.shell, pod, &format!("c{number}"), &line);
        if kind == Kind::CannotStart {
            config.command = vec!["/no/such/program".into()];
        }
        config.tty = self.dice.percent(10);
        config
    }

    /// Commands, then perhaps an end.
    async fn use_it(&mut self, life: &mut Life, at: usize, one: usize) -> Result<(), Ended> {
        let id = life.containers[one].id.clone();
        for _ in 0..self.dice.below(3) {
            let line = if self.dice.percent(30) { "sleep 0.7; exit 7" } else { "echo hello; exit 7" };
            let cmd = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
            let request = v1::ExecSyncRequest { container_id: id.clone(), cmd, timeout: 30 };
            let answer = self.cri.exec_sync(request).await;
            let code = self.told("exec", answer).await?.exit_code;
            if code != 7 {
                self.facts.complaints.lock().await.push(format!("exec exited with {code}"));
            }
        }
        if self.dice.percent(40) {
            life.containers[one].stopped = Call::Asked;
            self.keep(at, life).await;
            let timeout = i64::from(self.dice.percent(50));
            let answer = self.cri.stop_container(v1::StopContainerRequest { container_id: id.clone(), timeout }).await;
            self.told("stop", answer).await?;
            life.containers[one].stopped = Call::Done;
            self.keep(at, life).await;
        }
        if self.dice.percent(20) {
            life.containers[one].removed = Call::Asked;
            self.keep(at, life).await;
            let answer = self.cri.remove_container(v1::RemoveContainerRequest { container_id: id }).await;
            self.told("remove", answer).await?;
            life.containers[one].removed = Call::Done;
            self.keep(at, life).await;
        }
        Ok(())
    }
}
