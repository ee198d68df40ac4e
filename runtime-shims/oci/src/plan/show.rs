//! Records as CRI shows them.
//!
//! Must not know: who asks.

use pintle_cri::v1;

use crate::state::{Container, Sandbox};

pub fn sandbox_state(sandbox: &Sandbox) -> v1::PodSandboxState {
    if sandbox.is_ready() { v1::PodSandboxState::SandboxReady } else { v1::PodSandboxState::SandboxNotready }
}

/// A line of `ListPodSandbox`.
pub fn sandbox(sandbox: &Sandbox) -> v1::PodSandbox {
    v1::PodSandbox {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox_state(sandbox).into(),
        created_at: sandbox.created_at,
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.handler.clone(),
    }
}

pub fn sandbox_status(sandbox: &Sandbox) -> v1::PodSandboxStatus {
    let mut ips = sandbox.ips.iter().cloned();
    v1::PodSandboxStatus {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox_state(sandbox).into(),
        created_at: sandbox.created_at,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options: Some(sandbox.namespaces()) }),
        }),
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.handler.clone(),
    }
}

pub fn sandbox_attributes(sandbox: &Sandbox) -> v1::PodSandboxAttributes {
    v1::PodSandboxAttributes {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
    }
}

/// A line of `ListContainers`.
pub fn container(container: &Container) -> v1::Container {
    v1::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox_id.clone(),
        metadata: container.config.metadata.clone(),
        image: container.config.image.clone(),
        image_ref: container.image_ref.clone(),
        state: container.state,
        created_at: container.created_at,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        image_id: container.image_id.clone(),
    }
}

pub fn container_status(container: &Container) -> v1::ContainerStatus {
    let resources = container.config.linux.as_ref().and_then(|linux| linux.resources.clone());
    v1::ContainerStatus {
        id: container.id.clone(),
        metadata: container.config.metadata.clone(),
        state: container.state,
        created_at: container.created_at,
        started_at: container.started_at,
        finished_at: container.finished_at,
        exit_code: container.exit_code,
        image: Some(named_image(container)),
        image_ref: container.image_ref.clone(),
        reason: container.reason.clone(),
        message: container.message.clone(),
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        mounts: container.config.mounts.clone(),
        log_path: container.log_path.clone(),
        resources: resources.map(|linux| v1::ContainerResources { linux: Some(linux), windows: None }),
        image_id: container.image_id.clone(),
        user: container.user.clone().map(|linux| v1::ContainerUser { linux: Some(linux) }),
        stop_signal: stop_signal(container.stop_signal).into(),
    }
}

/// Puts the limits that an update set over those a container has.
pub fn merge_resources(config: &mut v1::ContainerConfig, asked: &v1::LinuxContainerResources) {
    let linux = config.linux.get_or_insert_default();
    let now = linux.resources.get_or_insert_default();
    let numbers = [
        (&mut now.cpu_period, asked.cpu_period),
        (&mut now.cpu_quota, asked.cpu_quota),
        (&mut now.cpu_shares, asked.cpu_shares),
        (&mut now.memory_limit_in_bytes, asked.memory_limit_in_bytes),
        (&mut now.memory_swap_limit_in_bytes, asked.memory_swap_limit_in_bytes),
        (&mut now.oom_score_adj, asked.oom_score_adj),
    ];
    for (number, asked) in numbers {
        if asked != 0 {
            *number = asked;
        }
    }
    for (text, asked) in [(&mut now.cpuset_cpus, &asked.cpuset_cpus), (&mut now.cpuset_mems, &asked.cpuset_mems)] {
        if !asked.is_empty() {
            text.clone_from(asked);
        }
    }
    if !asked.hugepage_limits.is_empty() {
        now.hugepage_limits.clone_from(&asked.hugepage_limits);
    }
    now.unified.extend(asked.unified.clone());
}

/// The image by the name that its user wrote, where the kubelet says it.
fn named_image(container: &Container) -> v1::ImageSpec {
    let mut image = container.config.image.clone().unwrap_or_default();
    if !image.user_specified_image.is_empty() {
        image.image.clone_from(&image.user_specified_image);
    }
    image
}

pub fn container_attributes(container: &Container) -> v1::ContainerAttributes {
    v1::ContainerAttributes {
        id: container.id.clone(),
        metadata: container.config.metadata.clone(),
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
    }
}

/// A signal's number as CRI names it; of two names for one number, the common one.
fn stop_signal(number: i32) -> v1::Signal {
    use v1::Signal as S;
    const BY_NUMBER: [S; 31] = [
        S::Sighup,
        S::Sigint,
        S::Sigquit,
        S::Sigill,
        S::Sigtrap,
        S::Sigabrt,
        S::Sigbus,
        S::Sigfpe,
        S::Sigkill,
        S::Sigusr1,
        S::Sigsegv,
        S::Sigusr2,
        S::Sigpipe,
        S::Sigalrm,
        S::Sigterm,
        S::Sigstkflt,
        S::Sigchld,
        S::Sigcont,
        S::Sigstop,
        S::Sigtstp,
        S::Sigttin,
        S::Sigttou,
        S::Sigurg,
        S::Sigxcpu,
        S::Sigxfsz,
        S::Sigvtalrm,
        S::Sigprof,
        S::Sigwinch,
        S::Sigio,
        S::Sigpwr,
        S::Sigsys,
    ];
    // glibc's range; CRI counts its names from the first to the last of them
    const FIRST_REAL_TIME: i32 = 34;
    const LAST_REAL_TIME: i32 = 64;
    if (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number) {
        return S::try_from(number - FIRST_REAL_TIME + i32::from(S::Sigrtmin)).unwrap_or(S::RuntimeDefault);
    }
    let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
    BY_NUMBER.get(index).copied().unwrap_or(S::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_shown_by_name() {
        for (number, name) in
            [(15, "SIGTERM"), (10, "SIGUSR1"), (34, "SIGRTMIN"), (37, "SIGRTMINPLUS3"), (64, "SIGRTMAX")]
        {
            assert_eq!(stop_signal(number).as_str_name(), name);
        }
        assert_eq!(stop_signal(0), v1::Signal::RuntimeDefault);
        assert_eq!(stop_signal(99), v1::Signal::RuntimeDefault);
    }

    #[test]
    fn a_sandbox_is_ready_from_its_making_to_its_end() {
        let mut it = Sandbox::default();
        assert_eq!(sandbox_state(&it), v1::PodSandboxState::SandboxNotready);
        it.made = true;
        assert_eq!(sandbox_state(&it), v1::PodSandboxState::SandboxReady);
        it.stopping = true;
        assert_eq!(sandbox_state(&it), v1::PodSandboxState::SandboxNotready);
    }

    #[test]
    fn the_first_address_is_the_pods_and_the_others_are_additional() {
        let it = Sandbox { ips: vec!["10.0.0.2".into(), "fd00::2".into()], ..Sandbox::default() };
        let network = sandbox_status(&it).network.unwrap();
        assert_eq!(network.ip, "10.0.0.2");
        assert_eq!(network.additional_ips, [v1::PodIp { ip: "fd00::2".into() }]);
    }
}
