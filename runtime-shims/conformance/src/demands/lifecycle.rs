//! A container's life: created, started, exited, stopped, removed; and how that is told.
//!
//! Must not know: how a container is configured.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;
use pintle_cri::v1::ContainerState as State;
use tonic::Code;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, Skip, equal, holds, image, refused};
use crate::images::{STOP_SIGNAL, TOOLS};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "container/states",
        "a container is created, then running, then exited, each with its time",
        "runtime.v1 ContainerStatus.state, created_at, started_at, finished_at",
        states
    ),
    demand!(
        "container/exit-code",
        "the exit code is kept, with the reason Completed or Error",
        "runtime.v1 ContainerStatus.exit_code, reason",
        exit_code
    ),
    demand!(
        "container/status",
        "a container's status holds what it was asked for",
        "runtime.v1 ContainerStatus.metadata, labels, annotations, log_path, image_ref",
        status
    ),
    demand!(
        "container/list",
        "containers are found by id, by state, by sandbox and by labels",
        "runtime.v1 ListContainers.filter",
        list
    ),
    demand!(
        "container/stop",
        "a container is asked to end with SIGTERM, and can be stopped again",
        "runtime.v1 StopContainer: grace period, idempotent",
        stop
    ),
    demand!(
        "container/stop-kills",
        "a container that does not end within the grace period is killed: exit code 137",
        "runtime.v1 StopContainer.timeout",
        stop_kills
    ),
    demand!(
        "container/stop-signal",
        "a container is asked to end with the signal that it was given",
        "runtime.v1 ContainerConfig.stop_signal; KEP-4960",
        stop_signal
    ),
    demand!(
        "container/stop-signal-of-image",
        "without one of its own, a container is asked to end with the image's signal",
        "OCI image StopSignal",
        stop_signal_of_image
    ),
    demand!(
        "container/stop-twice",
        "a stop with less patience ends a container that another stop still waits for",
        "kubelet: kubectl delete --grace-period=0 during a termination",
        stop_twice
    ),
    demand!(
        "container/stop-created",
        "a container that never ran can be stopped, and removed",
        "runtime.v1 StopContainer, RemoveContainer; kubelet's killContainer",
        stop_created
    ),
    demand!(
        "container/stop-unknown",
        "stopping and removing what is not there is no error, or is NotFound",
        "kubelet's killContainer, removeContainer: crierror.IsNotFound",
        stop_unknown
    ),
    demand!(
        "container/crash",
        "a container that a signal ended has the exit code 128 and the signal's number",
        "runtime.v1 ContainerStatus.exit_code",
        crash
    ),
    demand!(
        "container/started-once",
        "a container is started once: a second start is refused, before and after its end",
        "runtime.v1 StartContainer",
        started_once
    ),
    demand!(
        "container/many",
        "ten containers of a pod are created, started and stopped at once",
        "kubelet: containers of a pod are ended at once",
        many
    ),
    demand!(
        "container/list-fields",
        "a list tells of each container what kubelets compare",
        "runtime.v1 Container: metadata, image, image_ref, labels, created_at, pod_sandbox_id",
        list_fields
    ),
    demand!(
        "container/images-told",
        "a status names the image as it was asked for, and the image that it is",
        "runtime.v1 ContainerStatus.image, image_id; Pod's containerStatuses",
        images_told
    ),
    demand!(
        "container/user-told",
        "a status tells the user and groups of the first process",
        "runtime.v1 ContainerStatus.user; KEP-3619",
        user_told
    ),
    demand!(
        "container/remove-running",
        "removing a container ends it; it is not found then, and can be removed again",
        "runtime.v1 RemoveContainer: forcible, idempotent",
        remove_running
    ),
    demand!(
        "container/unknown",
        "the status of a container that is not there is refused with NotFound",
        "kubelet's crierror.IsNotFound",
        unknown
    ),
    demand!(
        "container/missing-command",
        "a command that is not there is an error of the create or the start, and the pod goes on",
        "kubelet's RunContainerError, CreateContainerError",
        missing_command
    ),
    demand!(
        "container/restart",
        "after an exit another attempt runs in the same sandbox",
        "runtime.v1 ContainerMetadata.attempt",
        restart
    ),
];

async fn states(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.create(&pod, bench.container(&pod, &["wait"])).await?;
    let created = bench.status(&id).await?;
    equal("the state after CreateContainer", created.state(), State::ContainerCreated)?;
    ensure!(created.created_at > 0 && created.started_at == 0, "created at {}", created.created_at);
    bench.start(&id).await?;
    let running = bench.status(&id).await?;
    equal("the state after StartContainer", running.state(), State::ContainerRunning)?;
    ensure!(running.started_at >= running.created_at, "started before it was created");
    ensure!(running.finished_at == 0, "it runs and has finished");
    bench.stop(&id, 0).await?;
    let exited = bench.status(&id).await?;
    equal("the state after StopContainer", exited.state(), State::ContainerExited)?;
    ensure!(exited.finished_at >= exited.started_at, "finished before it started");
    Ok(())
}

async fn exit_code(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    for (attempt, (code, reason)) in [(0, "Completed"), (7, "Error")].into_iter().enumerate() {
        let mut config = bench.container(&pod, &["exit", &code.to_string()]);
        config.metadata = Some(v1::ContainerMetadata { name: "main".into(), attempt: attempt as u32 });
        let id = bench.run(&pod, config).await?;
        let status = bench.exited(&id).await?;
        equal("the exit code", status.exit_code, code)?;
        equal("the reason", status.reason.as_str(), reason)?;
    }
    Ok(())
}

async fn status(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.labels.insert("app".into(), "it".into());
    config.annotations.insert("a.b/c".into(), "a note".into());
    let id = bench.create(&pod, config.clone()).await?;
    let status = bench.status(&id).await?;
    equal("id", &status.id, &id)?;
    equal("metadata", &status.metadata, &config.metadata)?;
    holds("labels", &status.labels, &config.labels)?;
    equal("annotations", &status.annotations, &config.annotations)?;
    equal("log_path", &status.log_path, &format!("{}/main.log", pod.config.log_directory))?;
    ensure!(!status.image_ref.is_empty(), "image_ref is empty");
    let request = v1::ImageStatusRequest { image: Some(image(&status.image_ref)), verbose: false };
    let found = bench.image_service().image_status(request).await?.into_inner().image;
    let found = found.with_context(|| format!("image_ref {} names no image", status.image_ref))?;
    let tag = bench.shared.registry.tagged(TOOLS);
    ensure!(found.repo_tags.contains(&tag), "image_ref names an image with the tags {:?}", found.repo_tags);
    Ok(())
}

async fn listed(bench: &Bench, filter: v1::ContainerFilter) -> anyhow::Result<Vec<String>> {
    let request = v1::ListContainersRequest { filter: Some(filter) };
    let containers = bench.cri().list_containers(request).await?.into_inner().containers;
    Ok(containers.into_iter().map(|one| one.id).collect())
}

async fn list(bench: &Bench) -> anyhow::Result<()> {
    let (pod, other) = (bench.pod().await?, bench.pod().await?);
    let id = bench.run(&pod, bench.container(&pod, &["wait"])).await?;
    let elsewhere = bench.create(&other, bench.container(&other, &["wait"])).await?;
    let by_id = v1::ContainerFilter { id: id.clone(), ..Default::default() };
    equal("the list by id", listed(bench, by_id).await?, [id.clone()])?;
    let by_pod = v1::ContainerFilter { pod_sandbox_id: other.id.clone(), ..Default::default() };
    equal("the list by sandbox", listed(bench, by_pod).await?, [elsewhere.clone()])?;
    let of_test = v1::ContainerFilter { label_selector: pod.config.labels.clone(), ..Default::default() };
    equal("the length of the list by label", listed(bench, of_test.clone()).await?.len(), 2)?;
    for (state, demanded) in [(State::ContainerRunning, id), (State::ContainerCreated, elsewhere)] {
        let state = Some(v1::ContainerStateValue { state: state.into() });
        equal("the list by state", listed(bench, v1::ContainerFilter { state, ..of_test.clone() }).await?, [demanded])?;
    }
    Ok(())
}

async fn stop(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    bench.stop(&id, 30).await?;
    let status = bench.status(&id).await?;
    equal("the state", status.state(), State::ContainerExited)?;
    equal("the exit code", status.exit_code, 0)?;
    equal("what it printed", bench.log(&pod, "main.log").as_str(), "ready\nsignal 15\n")?;
    bench.stop(&id, 30).await.context("again")
}

async fn stop_kills(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.ready(&pod, bench.container(&pod, &["stubborn"])).await?;
    bench.stop(&id, 1).await?;
    let status = bench.status(&id).await?;
    equal("the state", status.state(), State::ContainerExited)?;
    equal("the exit code", status.exit_code, 137)
}

async fn stop_signal(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.stop_signal = v1::Signal::Sigusr1.into();
    let id = bench.run(&pod, config).await?;
    bench.until("it is ready", async || Ok(bench.log(&pod, "main.log").contains("ready"))).await?;
    if bench.status(&id).await?.stop_signal() == v1::Signal::RuntimeDefault {
        return Err(Skip("the runtime does not tell stop signals: it is older than they are".into()).into());
    }
    bench.stop(&id, 30).await?;
    equal("what it printed", bench.log(&pod, "main.log").as_str(), "ready\nsignal 10\n")
}

async fn remove_running(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    bench.remove(&id).await?;
    refused("its status", bench.status(&id).await, Code::NotFound)?;
    bench.remove(&id).await.context("again")
}

async fn unknown(bench: &Bench) -> anyhow::Result<()> {
    refused("its status", bench.status("no-such-container").await, Code::NotFound)
}

async fn missing_command(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { command: vec!["/no/such/program".into()], ..bench.container(&pod, &[]) };
    if let Ok(id) = bench.create(&pod, config).await {
        ensure!(bench.start(&id).await.is_err(), "it was started");
        ensure!(bench.status(&id).await?.state() != State::ContainerRunning, "it runs");
        bench.remove(&id).await?;
    }
    bench.waiting(&pod).await.map(drop).context("another container")
}

async fn restart(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    for attempt in 0..2 {
        let mut config = bench.container(&pod, &["args", "attempt", &attempt.to_string()]);
        config.metadata = Some(v1::ContainerMetadata { name: "main".into(), attempt });
        config.log_path = format!("{attempt}.log");
        let text = bench.printed(&pod, config).await?;
        equal("what it printed", text, format!("attempt\n{attempt}\n"))?;
    }
    Ok(())
}

async fn stop_signal_of_image(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.image = Some(image(&bench.shared.registry.tagged(STOP_SIGNAL)));
    let id = bench.ready(&pod, config).await?;
    bench.stop(&id, 30).await?;
    equal("what it printed", bench.log(&pod, "main.log").as_str(), "ready\nsignal 10\n")
}

async fn stop_twice(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.ready(&pod, bench.container(&pod, &["stubborn"])).await?;
    let started = std::time::Instant::now();
    let (patient, other) = tokio::join!(bench.stop(&id, 80), async {
        // the first is to be under way
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        bench.stop(&id, 1).await
    });
    patient.context("the patient one").and(other)?;
    ensure!(started.elapsed().as_secs() < 60, "it took {} s", started.elapsed().as_secs());
    equal("the exit code", bench.status(&id).await?.exit_code, 137)
}

async fn stop_created(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.create(&pod, bench.container(&pod, &["wait"])).await?;
    bench.stop(&id, 5).await?;
    ensure!(bench.status(&id).await?.state() != State::ContainerRunning, "it runs");
    bench.remove(&id).await?;
    refused("its status", bench.status(&id).await, Code::NotFound)
}

async fn stop_unknown(bench: &Bench) -> anyhow::Result<()> {
    let container_id = "no-such-container".to_owned();
    let stop = v1::StopContainerRequest { container_id: container_id.clone(), timeout: 0 };
    let stopped = bench.cri().stop_container(stop).await.map(drop);
    let removed = bench.cri().remove_container(v1::RemoveContainerRequest { container_id }).await.map(drop);
    for (what, answer) in [("the stop", stopped), ("the removal", removed)] {
        if answer.is_err() {
            refused(what, answer, Code::NotFound)?;
        }
    }
    Ok(())
}

async fn crash(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["crash"])).await?;
    let status = bench.exited(&id).await?;
    equal("the exit code", status.exit_code, 139)?;
    equal("the reason", status.reason.as_str(), "Error")
}

async fn started_once(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    ensure!(bench.start(&id).await.is_err(), "it was started while it ran");
    bench.stop(&id, 5).await?;
    ensure!(bench.start(&id).await.is_err(), "it was started after its end");
    equal("the state", bench.status(&id).await?.state(), State::ContainerExited)
}

async fn many(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let one = async |number: u32| {
        let config = Bench::named(bench.container(&pod, &["wait"]), &format!("number-{number}"));
        let id = bench.ready(&pod, config).await?;
        bench.stop(&id, 20).await?;
        equal("the exit code", bench.status(&id).await?.exit_code, 0)
    };
    futures::future::try_join_all((0..10).map(one)).await.map(drop)
}

async fn list_fields(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.annotations.insert("a.b/c".into(), "a note".into());
    let id = bench.create(&pod, config.clone()).await?;
    let filter = Some(v1::ContainerFilter { id: id.clone(), ..Default::default() });
    let listed = bench.cri().list_containers(v1::ListContainersRequest { filter }).await?.into_inner().containers;
    let found = listed.first().context("it is not listed")?;
    equal("pod_sandbox_id", &found.pod_sandbox_id, &pod.id)?;
    equal("metadata", &found.metadata, &config.metadata)?;
    holds("labels", &found.labels, &config.labels)?;
    equal("annotations", &found.annotations, &config.annotations)?;
    equal("state", found.state(), State::ContainerCreated)?;
    let image = found.image.as_ref().map_or("", |image| &image.image);
    ensure!(!image.is_empty() && !found.image_ref.is_empty(), "image is {image:?}, image_ref {:?}", found.image_ref);
    // a status may tell when it was complete, a list when it was begun: both order a pod's containers
    let created = bench.status(&id).await?.created_at;
    ensure!(
        0 < found.created_at && found.created_at <= created,
        "created_at is {}, {created} in its status",
        found.created_at
    );
    Ok(())
}

async fn images_told(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.create(&pod, bench.container(&pod, &["wait"])).await?;
    let status = bench.status(&id).await?;
    let tag = bench.shared.registry.tagged(TOOLS);
    equal("image.image", status.image.map(|image| image.image), Some(tag.clone()))?;
    if status.image_id.is_empty() {
        return Err(
            Skip("the runtime tells no image_id: it is older than that, and kubelets take image_ref".into()).into()
        );
    }
    let request = v1::ImageStatusRequest { image: Some(image(&tag)), verbose: false };
    let found = bench.image_service().image_status(request).await?.into_inner().image.context("no image")?;
    equal("image_id", status.image_id, found.id)
}

async fn user_told(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = bench.secured(&pod, &["wait"], |it| {
        it.run_as_user = Some(v1::Int64Value { value: 2001 });
        it.run_as_group = Some(v1::Int64Value { value: 2002 });
        it.supplemental_groups = vec![3001];
    });
    let id = bench.run(&pod, config).await?;
    let Some(user) = bench.status(&id).await?.user.and_then(|user| user.linux) else {
        return Err(Skip("the runtime tells no user: it is older than that".into()).into());
    };
    equal("uid and gid", (user.uid, user.gid), (2001, 2002))?;
    let mut groups = user.supplemental_groups;
    groups.sort_unstable();
    ensure!(groups == [2002, 3001] || groups == [3001], "supplemental_groups is {groups:?}");
    Ok(())
}
