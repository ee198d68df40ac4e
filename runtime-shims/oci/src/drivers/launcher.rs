//! An OCI runtime's command line: what the monitor shall run, and the commands that answer at once.
//!
//! Must not know: what is in a bundle, or why anything is started.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use oci_spec::runtime::LinuxIdMapping;
use pintle_bundle::UserMappings;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tracing::warn;

use super::namespaces::Wanted;

/// A command that takes longer is ended.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What Pintle's own is started with, held open: what is at a path may change.
#[derive(Debug)]
pub struct Held {
    /// Its program, sealed against containers.
    program: OwnedFd,
    /// The mount namespace that containers' are made from; the host's where none could be made.
    mounts: Option<OwnedFd>,
}

impl Held {
    /// # Errors
    /// No such program, or no right to mount.
    pub fn open(program: &Path) -> anyhow::Result<Self> {
        let program = pintle_launch::sealed_program(program)?;
        let mounts = pintle_launch::bare_mounts();
        let mounts = mounts.inspect_err(|error| warn!("containers start from the host's mounts: {error:#}")).ok();
        Ok(Self { program, mounts })
    }
}

/// How other processes open a descriptor of this one's.
fn path_of(fd: &OwnedFd) -> OsString {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()).into()
}

/// One OCI runtime.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// Program and first arguments.
    argv: Vec<OsString>,
    /// Its own state, given as `--root`.
    root: PathBuf,
    /// Pintle's own: run from here, and what needs no process of its own is done in this one.
    own: Option<Arc<Held>>,
    /// Containers' cgroups are scopes of systemd's.
    systemd: bool,
}

impl Launcher {
    /// Any OCI runtime.
    pub fn new(argv: Vec<OsString>, root: PathBuf) -> Self {
        Self { argv, root, own: None, systemd: false }
    }

    /// Pintle's own.
    pub fn own(argv: Vec<OsString>, root: PathBuf, held: Arc<Held>) -> Self {
        Self { argv, root, own: Some(held), systemd: false }
    }

    /// The same, with systemd's or its own cgroups.
    pub fn with_systemd(self, systemd: bool) -> Self {
        Self { systemd, ..self }
    }

    fn line<'a>(&self, rest: impl IntoIterator<Item = &'a OsStr>) -> Vec<OsString> {
        let mut line = self.argv.clone();
        if let (Some(held), Some(program)) = (&self.own, line.first_mut()) {
            *program = path_of(&held.program);
        }
        line.push("--root".into());
        line.push(self.root.clone().into());
        line.extend(self.systemd.then(|| "--systemd-cgroup".into()));
        line.extend(rest.into_iter().map(OsStr::to_owned));
        line
    }

    /// `create`, for the monitor.
    pub fn create(&self, bundle: &Path, pid_file: &Path, console: bool, id: &str) -> Vec<OsString> {
        let head = [OsStr::new("create"), "--bundle".as_ref(), bundle.as_ref()];
        let mounts = self.own.as_ref().and_then(|held| held.mounts.as_ref()).map(path_of);
        let more: Vec<&OsStr> = mounts.iter().flat_map(|path| [OsStr::new("--mounts"), path]).collect();
        self.for_monitor(&head, &more, pid_file, console, id)
    }

    /// `exec` of the process in a file, for the monitor. What goes wrong is written to `log`: the command's own output
    /// may be the client's.
    pub fn exec(&self, process: &Path, pid_file: &Path, log: &Path, console: bool, id: &str) -> Vec<OsString> {
        let log = [OsStr::new("--log"), log.as_os_str()];
        let head = [&log[..], &[OsStr::new("exec"), "--process".as_ref(), process.as_ref()]].concat();
        self.for_monitor(&head, &["--detach".as_ref()], pid_file, console, id)
    }

    fn for_monitor(&self, head: &[&OsStr], more: &[&OsStr], pid_file: &Path, console: bool, id: &str) -> Vec<OsString> {
        let console: &[&OsStr] =
            if console { &["--console-socket".as_ref(), pintle_monitor::CONSOLE_SOCKET.as_ref()] } else { &[] };
        let pid_file = [OsStr::new("--pid-file"), pid_file.as_os_str()];
        let all = head.iter().chain(more).chain(console).chain(&pid_file).copied();
        self.line(all.chain([OsStr::new(id)]))
    }

    /// Lets a created container's own program begin.
    pub async fn start(&self, id: &str) -> anyhow::Result<()> {
        if self.own.is_some() {
            return self.here("start", id, pintle_launch::start).await;
        }
        self.run(&["start", id], None).await.map(drop)
    }

    /// Whether a container's own program runs, as far as the OCI runtime can tell.
    pub async fn is_running(&self, id: &str) -> bool {
        let told = self.run(&["state", id], None).await.unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&told).unwrap_or_default();
        state["status"] == "running"
    }

    /// Removes what is left of a container; none left is no error.
    pub async fn delete(&self, id: &str) -> anyhow::Result<()> {
        if !self.root.join(id).exists() {
            return Ok(());
        }
        if self.own.is_some() {
            return self.here("delete", id, pintle_launch::delete).await;
        }
        self.run(&["delete", "--force", id], None).await.map(drop)
    }

    async fn here(
        &self,
        what: &'static str,
        id: &str,
        call: fn(&Path, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (root, of) = (self.root.clone(), id.to_owned());
        let done = tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(move || call(&root, &of))).await;
        let done = done.with_context(|| format!("{what} {id} did not end within {LIMIT:?}"))?;
        done.with_context(|| format!("{what} {id} crashed"))?
    }

    /// Makes and keeps namespaces that belong to a user namespace, which only a process of one thread can make. Only our
    /// own OCI runtime has this call.
    pub async fn namespaces(&self, dir: &Path, wanted: &Wanted, users: &UserMappings) -> anyhow::Result<()> {
        let mut command = vec!["namespaces".to_owned(), "--pin".to_owned(), dir.display().to_string()];
        command.extend(wanted.net.then(|| "--net".to_owned()));
        command.extend(wanted.ipc.then(|| "--ipc".to_owned()));
        command.extend(wanted.uts.iter().map(|name| format!("--uts={name}")));
        command.extend(wanted.sysctls.iter().map(|(name, value)| format!("--sysctl={name}={value}")));
        for (flag, mappings) in [("--user-map", &users.uids), ("--group-map", &users.gids)] {
            let map = |it: &LinuxIdMapping| format!("{flag}={}:{}:{}", it.container_id(), it.host_id(), it.size());
            command.extend(mappings.iter().map(map));
        }
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        // what it would pin after the end of this process, nobody would take away
        self.output(&command, None, true, LIMIT).await.map(drop)
    }

    /// Applies an OCI `LinuxResources` in JSON.
    pub async fn update(&self, id: &str, resources: &[u8]) -> anyhow::Result<()> {
        self.run(&["update", "--resources", "-", id], Some(resources)).await.map(drop)
    }

    /// Pintle's own, which writes no checkpoints.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Whether there is such a command, as far as its own help says.
    ///
    /// # Errors
    /// What it said instead.
    pub async fn knows(&self, command: &str) -> anyhow::Result<()> {
        self.run(&[command, "--help"], None).await.map(drop)
    }

    /// Holds a container's processes where they are.
    pub async fn pause(&self, id: &str) -> anyhow::Result<()> {
        self.run(&["pause", id], None).await.map(drop)
    }

    /// Lets them go on.
    pub async fn resume(&self, id: &str) -> anyhow::Result<()> {
        self.run(&["resume", id], None).await.map(drop)
    }

    /// Has CRIU write a container's processes into `images` and what it says of that into `work`; they live on.
    pub async fn checkpoint(&self, id: &str, images: &Path, work: &Path, limit: Duration) -> anyhow::Result<()> {
        let (images, work) = (images.display().to_string(), work.display().to_string());
        let command = ["checkpoint", "--image-path", &images, "--work-path", &work, "--leave-running", id];
        self.output(&command, None, false, limit).await.map(drop)
    }

    async fn run(&self, command: &[&str], input: Option<&[u8]>) -> anyhow::Result<Vec<u8>> {
        self.output(command, input, false, LIMIT).await
    }

    /// `bound`: it is killed when this process ends.
    async fn output(
        &self,
        command: &[&str],
        input: Option<&[u8]>,
        bound: bool,
        limit: Duration,
    ) -> anyhow::Result<Vec<u8>> {
        let what = || format!("{} {}", self.name(), command.join(" "));
        let line = self.line(command.iter().map(OsStr::new));
        let [program, arguments @ ..] = line.as_slice() else { anyhow::bail!("no OCI runtime is named") };
        let mut order = Command::new(program);
        order.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        order.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        if bound {
            end_with_us(&mut order);
        }
        let mut running = order.spawn().with_context(what)?;
        if let (Some(input), Some(mut stdin)) = (input, running.stdin.take()) {
            stdin.write_all(input).await.with_context(what)?;
        }
        let done = tokio::time::timeout(limit, running.wait_with_output()).await;
        let done = done.with_context(|| format!("{} did not end within {limit:?}", what()))?.with_context(what)?;
        anyhow::ensure!(done.status.success(), "{}: {}", what(), complaint(&done.stderr));
        Ok(done.stdout)
    }

    /// Its program's name.
    pub fn name(&self) -> String {
        self.argv.first().map_or_else(String::new, |program| {
            Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
        })
    }
}

/// Has the kernel kill a child when the thread that starts it ends; threads of tokio's end with the process.
fn end_with_us(command: &mut Command) {
    // SAFETY: prctl is one system call on numbers, as may be made between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
    }
}

/// What an OCI runtime wrote to its standard error, without the form of its log lines.
pub fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let last = lines.rev().find(|line| !line.contains("level=warning")).unwrap_or_default();
    match last.split_once("msg=\"") {
        Some((_, message)) => message.trim_end_matches('"').replace("\\\"", "\""),
        None => last.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_runtime_wrote_the_message_is_kept() {
        let runc = br#"time="2026-01-01T00:00:00Z" level=error msg="exec: \"nope\": executable file not found""#;
        assert_eq!(complaint(runc), r#"exec: "nope": executable file not found"#);
        assert_eq!(complaint(b"pintle: no such bundle\n\n"), "pintle: no such bundle");
        assert_eq!(complaint(b""), "");
    }

    #[test]
    fn the_monitor_gets_a_whole_command_line() {
        let runc = Launcher::new(vec!["runc".into()], "/run/x".into());
        let line = runc.create(Path::new("/b"), Path::new("/p"), false, "id");
        assert_eq!(line, ["runc", "--root", "/run/x", "create", "--bundle", "/b", "--pid-file", "/p", "id"]);
        let line = runc.with_systemd(true).create(Path::new("/b"), Path::new("/p"), false, "id");
        assert_eq!(line[..4], ["runc", "--root", "/run/x", "--systemd-cgroup"]);
    }
}
