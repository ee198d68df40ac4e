//! What is known of a container between calls: a folder per container below `--root`.
//!
//! `state.json` says which process its init is, `config.json` is the specification it was created from (the bundle may
//! change afterwards), `start.sock` is there until it was started, `filter` is its compiled seccomp filter.
//! Must not know: how a container is made or ended.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::sys::clone;

/// The folder of one container.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// What `state.json` keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub pid: i32,
    /// When the init began, in clock ticks since boot: with the number it names one process for ever.
    pub began: u64,
    pub created: String,
    /// Below the root of every hierarchy.
    pub cgroup: PathBuf,
    /// The unit of systemd's that the cgroup belongs to.
    #[serde(default)]
    pub unit: Option<String>,
    pub annotations: HashMap<String, String>,
    pub oci_version: String,
}

/// Where a container is in its life, in the words of the OCI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Folder {
    /// The folder of `id`. Fails on an ID that is no plain name.
    pub fn of(root: &Path, id: &str) -> Result<Folder> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        let fine = !id.is_empty() && id.len() <= 1024 && id.chars().all(plain) && id != "." && id != "..";
        ensure!(fine, "invalid container ID format: {id:?}");
        Ok(Folder(root.join(id)))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder: the claim on the ID.
    pub fn claim(&self) -> Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        if let Some(root) = self.0.parent() {
            builder.recursive(true).create(root).with_context(|| format!("cannot make {}", root.display()))?;
        }
        match builder.recursive(false).create(&self.0) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("container with given ID already exists"),
            Err(error) => Err(error).with_context(|| format!("cannot make {}", self.0.display())),
        }
    }

    /// Once more is no error, nor is another call that does the same.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("start.sock")
    }

    pub fn filter(&self) -> PathBuf {
        self.0.join("filter")
    }

    /// Writes the state so that a reader sees the old or the new one.
    pub fn save(&self, state: &State) -> Result<()> {
        let (new, path) = (self.0.join("state.json.new"), self.0.join("state.json"));
        let text = serde_json::to_vec(state).context("a state that JSON cannot say")?;
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Fails with runc's words when there is no such container.
    pub fn load(&self) -> Result<State> {
        let path = self.0.join("state.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("container does not exist"),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// The specification the container was created from.
    pub fn spec(&self) -> Result<Spec> {
        read_spec(&self.config())
    }

    /// The status, the freezer apart.
    pub fn status(&self, state: &State) -> Status {
        match state.init() {
            None => Status::Stopped,
            Some(_) if self.socket().exists() => Status::Created,
            Some(_) => Status::Running,
        }
    }
}

/// Reads a specification.
pub fn read_spec(path: &Path) -> Result<Spec> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no OCI specification", path.display()))
}

impl State {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// The init, if it lives: never another process that got its number.
    pub fn init(&self) -> Option<OwnedFd> {
        let fd = clone::pidfd(self.pid()).ok()?;
        let alive = began(self.pid()) == Some(self.began) && !ended(&fd, 0);
        alive.then_some(fd)
    }
}

/// Whether a process ends within some milliseconds. A zombie has ended.
pub fn ended(pidfd: &OwnedFd, milliseconds: u16) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::from(milliseconds)), Ok(1))
}

/// When a process began, in clock ticks since boot; None when there is none.
pub fn began(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name may hold anything, so what counts begins behind its last bracket
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A signal by number or name, with or without SIG.
pub fn signal_number(name: &str) -> Result<i32> {
    if let Ok(number) = name.parse::<i32>() {
        ensure!((0..=libc::SIGRTMAX()).contains(&number), "unknown signal {name:?}");
        return Ok(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(real_time) = real_time_signal(short) {
        return Ok(real_time);
    }
    let signal: nix::sys::signal::Signal =
        format!("SIG{short}").parse().map_err(|_| anyhow::anyhow!("unknown signal {name:?}"))?;
    Ok(signal as i32)
}

/// RTMIN, RTMIN+3, RTMAX-1 …
fn real_time_signal(name: &str) -> Option<i32> {
    let (base, rest) = match name.strip_prefix("RTMIN") {
        Some(rest) => (libc::SIGRTMIN(), rest),
        None => (libc::SIGRTMAX(), name.strip_prefix("RTMAX")?),
    };
    let offset: i32 = if rest.is_empty() { 0 } else { rest.parse().ok()? };
    base.checked_add(offset).filter(|number| (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_name() {
        let root = Path::new("/run/x");
        assert_eq!(Folder::of(root, "a-1.b_c+d").unwrap().path(), Path::new("/run/x/a-1.b_c+d"));
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä"] {
            assert!(Folder::of(root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_numbers_and_names() {
        assert_eq!(signal_number("9").unwrap(), 9);
        assert_eq!(signal_number("SIGTERM").unwrap(), 15);
        assert_eq!(signal_number("kill").unwrap(), 9);
        assert_eq!(signal_number("RTMIN+3").unwrap(), libc::SIGRTMIN() + 3);
        for bad in ["", "-1", "65", "NOPE", "RTMIN+99", "SIG"] {
            assert!(signal_number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_beginning() {
        let own = Pid::this();
        let mut state = State {
            id: "x".into(),
            bundle: "/".into(),
            rootfs: "/".into(),
            pid: own.as_raw(),
            began: began(own).unwrap(),
            created: String::new(),
            cgroup: "/".into(),
            unit: None,
            annotations: HashMap::new(),
            oci_version: String::new(),
        };
        assert!(state.init().is_some());
        state.began -= 1;
        assert!(state.init().is_none(), "another process has the number");
    }
}
