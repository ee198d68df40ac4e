//! A container's configuration: command, environment, terminal, devices.
//!
//! Must not know: users and confinement.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "container/image-command",
        "without a command of its own, a container runs the image's entrypoint with the image's arguments",
        "runtime.v1 ContainerConfig.command, args; OCI image Entrypoint, Cmd",
        image_command
    ),
    demand!(
        "container/args",
        "arguments replace the image's arguments and leave its entrypoint",
        "runtime.v1 ContainerConfig.args",
        args
    ),
    demand!(
        "container/command",
        "a command replaces the image's entrypoint and drops its arguments",
        "runtime.v1 ContainerConfig.command",
        command
    ),
    demand!(
        "container/environment",
        "the environment is the image's, with the container's over it",
        "runtime.v1 ContainerConfig.envs",
        environment
    ),
    demand!(
        "container/working-directory",
        "the working directory is the container's, else the image's",
        "runtime.v1 ContainerConfig.working_dir",
        working_directory
    ),
    demand!(
        "container/environment-odd",
        "an empty value, and one with newlines and signs, come as they are",
        "runtime.v1 KeyValue.value",
        odd_environment
    ),
    demand!(
        "container/working-directory-made",
        "a working directory that the image does not have is made",
        "runtime.v1 ContainerConfig.working_dir; Pod's workingDir",
        made_directory
    ),
    demand!(
        "container/terminal",
        "with a terminal, all three of a container's streams are one",
        "runtime.v1 ContainerConfig.tty",
        terminal
    ),
    demand!(
        "container/no-terminal",
        "without one, none is, and input ends at once",
        "runtime.v1 ContainerConfig.tty, stdin: false",
        no_terminal
    ),
    demand!(
        "container/own-root",
        "what a container writes to its root, neither another container of the image sees nor its next attempt",
        "runtime.v1 CreateContainer; OCI image-spec: layers",
        own_root
    ),
    demand!(
        "container/files",
        "the devices and file systems are there that every program expects",
        "OCI runtime-spec: default devices and file systems",
        files
    ),
    demand!(
        "container/shared-memory",
        "containers of a pod share /dev/shm, other pods do not",
        "runtime.v1 NamespaceOption.ipc POD",
        shared_memory
    ),
];

async fn image_command(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { command: Vec::new(), ..bench.container(&pod, &[]) };
    equal("what it printed", bench.printed(&pod, config).await?.as_str(), "from the image\n")
}

async fn args(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let args = vec!["args".into(), "from the".into(), "container".into()];
    let config = v1::ContainerConfig { command: Vec::new(), args, ..bench.container(&pod, &[]) };
    equal("what it printed", bench.printed(&pod, config).await?.as_str(), "from the\ncontainer\n")
}

async fn command(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { args: vec!["more".into()], ..bench.container(&pod, &["args", "one"]) };
    equal("what it printed", bench.printed(&pod, config).await?.as_str(), "one\nmore\n")
}

async fn environment(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["env"]);
    let envs = [("REPLACED", "by the container"), ("OWN", "a=b")];
    config.envs = envs.map(|(key, value)| v1::KeyValue { key: key.into(), value: value.into() }).into();
    let text = bench.printed(&pod, config).await?;
    for demanded in ["FROM_IMAGE=kept", "REPLACED=by the container", "OWN=a=b"] {
        ensure!(text.lines().any(|line| line == demanded), "no {demanded} in {text:?}");
    }
    equal("how often it is there", text.matches("REPLACED=").count(), 1)
}

async fn working_directory(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let of_image = bench.container(&pod, &["cwd"]);
    equal("the image's", bench.printed(&pod, of_image.clone()).await?.as_str(), "/work\n")?;
    let mut own = v1::ContainerConfig { working_dir: "/tmp".into(), log_path: "own.log".into(), ..of_image };
    own.metadata = Some(v1::ContainerMetadata { name: "own".into(), attempt: 0 });
    equal("the container's", bench.printed(&pod, own).await?.as_str(), "/tmp\n")
}

async fn odd_environment(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    let envs = [("EMPTY", ""), ("ODD", "two\nlines = $(X) \"ü\"")];
    config.envs = envs.map(|(key, value)| v1::KeyValue { key: key.into(), value: value.into() }).into();
    let id = bench.ready(&pod, config).await?;
    let environment = bench.said(&id, &["cat", "/proc/1/environ"]).await?;
    for (key, value) in envs {
        let demanded = format!("{key}={value}");
        ensure!(environment.split('\0').any(|one| one == demanded), "no {demanded:?} in {environment:?}");
    }
    Ok(())
}

async fn made_directory(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { working_dir: "/not/in/image".into(), ..bench.container(&pod, &["cwd"]) };
    equal("the working directory", bench.printed(&pod, config).await?.as_str(), "/not/in/image\n")
}

async fn terminal(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { stdin: true, tty: true, ..bench.container(&pod, &["terminals"]) };
    equal("what they are", bench.printed(&pod, config).await?.trim_end(), "terminal terminal terminal")
}

async fn no_terminal(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    equal("what they are", bench.printed(&pod, bench.container(&pod, &["terminals"])).await?, "none none none\n")?;
    let reads = Bench::named(bench.container(&pod, &["stdin"]), "reads");
    equal("what it reads", bench.printed(&pod, reads).await?.as_str(), "")
}

async fn own_root(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let first = bench.waiting(&pod).await?;
    bench.said(&first, &["write", "/tmp/it", "of the first"]).await?;
    let other = bench.ready(&pod, Bench::named(bench.container(&pod, &["wait"]), "other")).await?;
    bench.complained(&other, &["cat", "/tmp/it"]).await.context("another container")?;
    bench.remove(&first).await?;
    let mut config = Bench::named(bench.container(&pod, &["wait"]), "main");
    config.metadata = Some(v1::ContainerMetadata { name: "main".into(), attempt: 1 });
    let next = bench.run(&pod, config).await?;
    bench.complained(&next, &["cat", "/tmp/it"]).await.map(drop).context("the next attempt")
}

async fn files(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"] {
        let found = bench.said(&id, &["stat", path]).await.context(path)?;
        equal(path, found.as_str(), "0 0 666 device")?;
    }
    for (link, target) in [("/dev/fd", "/proc/self/fd"), ("/dev/stdout", "/proc/self/fd/1")] {
        equal(link, bench.said(&id, &["link", link]).await?, target)?;
    }
    let table = bench.said(&id, &["cat", "/proc/self/mounts"]).await?;
    let kind = |at: &str| {
        let lines = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.filter(|line| line.get(1) == Some(&at)).filter_map(|line| line.get(2).copied()).next_back()
    };
    for (at, demanded) in [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/mqueue", "mqueue")] {
        equal(at, kind(at), Some(demanded))?;
    }
    equal("/dev/shm", kind("/dev/shm"), Some("tmpfs"))
}

async fn shared_memory(bench: &Bench) -> anyhow::Result<()> {
    let (pod, stranger) = (bench.pod().await?, bench.pod().await?);
    let first = bench.waiting(&pod).await?;
    let second = bench.ready(&pod, Bench::named(bench.container(&pod, &["wait"]), "second")).await?;
    bench.said(&first, &["write", "/dev/shm/it", "shared"]).await?;
    equal("what the second reads", bench.said(&second, &["cat", "/dev/shm/it"]).await?, "shared")?;
    let stranger = bench.waiting(&stranger).await?;
    bench.complained(&stranger, &["cat", "/dev/shm/it"]).await.map(drop).context("another pod")
}
