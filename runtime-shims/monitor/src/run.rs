//! What is run, as a runtime says it.
//!
//! Must not know: the connection.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol;

/// A command line of an OCI runtime (`create`, `exec --detach`) that leaves a process behind. It runs in `/`, in a session
/// of its own, with exactly `env`, and with the process's standard streams as its own.
#[derive(Debug)]
pub struct Run {
    /// Names the process in every later request: at most 256 bytes, unique until it is forgotten.
    pub id: String,
    /// `argv[0]` is the path of the program. A word that is [`crate::CONSOLE_SOCKET`] is replaced by the path of the socket
    /// on which the monitor expects the terminal.
    pub argv: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// The command line is killed when it takes longer.
    pub timeout: Duration,
    /// Where the command line writes the number of the process that it leaves behind; removed first.
    pub pid_file: PathBuf,
    /// Where the exit is recorded, see [`crate::read_exit_file`]. Its directory must exist.
    pub exit_file: Option<PathBuf>,
    /// `memory.events` (cgroup v2) or `memory.oom_control` (v1) of the process's cgroup, read when it exits.
    pub memory_events: Option<PathBuf>,
    pub stdio: Stdio,
    /// Who is attached before the first byte is read.
    pub attach: Attach,
}

#[derive(Debug)]
pub enum Stdio {
    /// No input; the output is read and dropped, but for whoever is attached.
    Null,
    /// Pipes that the monitor reads and writes.
    Pipes {
        /// The CRI log, made when it is not there (mode 0640); its directory must exist.
        log: Option<PathBuf>,
        /// The process has an input; else it reads `/dev/null`.
        stdin: bool,
        /// The input ends when the first one attached to it leaves.
        stdin_once: bool,
    },
    /// A terminal, handed over through [`crate::CONSOLE_SOCKET`].
    Terminal { log: Option<PathBuf>, stdin: bool, stdin_once: bool, columns: u16, rows: u16 },
    /// The process has these themselves; the monitor never reads them, and nobody can attach. What a failing command line
    /// writes goes there too, so its [`crate::Failure`] has no text.
    Fds([OwnedFd; 3]),
}

/// The streams of a process that somebody else runs, as containerd does. All is forgotten once its outputs have ended.
#[derive(Debug)]
pub struct Keep {
    /// As [`Run::id`].
    pub id: String,
    /// The CRI log, made when it is not there (mode 0640); its directory must exist.
    pub log: Option<PathBuf>,
    /// Its output is a terminal's, and its input has no end.
    pub terminal: bool,
    /// The input ends when the first one attached to it leaves.
    pub stdin_once: bool,
    /// To be written; to be read. A pipe by name is opened before its writer comes: its end is told once one has come.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// Descriptors of one who is attached. The monitor makes them non-blocking, so they should be pipes or sockets of the
/// caller's own. Each output is closed after its last byte.
#[derive(Debug, Default)]
pub struct Attach {
    /// Read, and passed on to the process's standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output, or all that the terminal shows.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// The process that a command line left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    pub pid: u32,
}

impl Run {
    /// A command line with nothing but the defaults: no environment, two minutes, no log, no exit file.
    pub fn new(id: impl Into<String>, argv: Vec<OsString>, pid_file: impl Into<PathBuf>) -> Run {
        Run {
            id: id.into(),
            argv,
            env: Vec::new(),
            timeout: Duration::from_secs(120),
            pid_file: pid_file.into(),
            exit_file: None,
            memory_events: None,
            stdio: Stdio::Null,
            attach: Attach::default(),
        }
    }

    /// The request, and the descriptors that go with it.
    pub(crate) fn split(self) -> (protocol::Run, Vec<OwnedFd>) {
        let (stdio, mut descriptors) = self.stdio.split();
        let (attach, attached) = self.attach.split();
        descriptors.extend(attached);
        let variable = |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
        let run = protocol::Run {
            id: self.id,
            argv: self.argv.into_iter().map(OsStringExt::into_vec).collect(),
            env: self.env.into_iter().map(variable).collect(),
            timeout_ms: u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX),
            pid_file: bytes(&self.pid_file),
            exit_file: self.exit_file.as_deref().map(bytes),
            memory_events: self.memory_events.as_deref().map(bytes),
            stdio,
            attach,
        };
        (run, descriptors)
    }
}

impl Keep {
    pub(crate) fn split(self) -> (protocol::Keep, Vec<OwnedFd>) {
        let Keep { id, log, terminal, stdin_once, stdin, stdout, stderr } = self;
        let (streams, descriptors) = Attach { stdin, stdout, stderr }.split();
        (protocol::Keep { id, log: log.as_deref().map(bytes), terminal, stdin_once, streams }, descriptors)
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    OsStr::as_bytes(path.as_os_str()).to_vec()
}

impl Stdio {
    fn split(self) -> (protocol::Stdio, Vec<OwnedFd>) {
        let log = |log: Option<PathBuf>| log.as_deref().map(bytes);
        match self {
            Stdio::Null => (protocol::Stdio::Pipes { log: None, stdin: false, stdin_once: false }, Vec::new()),
            Stdio::Pipes { log: path, stdin, stdin_once } => {
                (protocol::Stdio::Pipes { log: log(path), stdin, stdin_once }, Vec::new())
            }
            Stdio::Terminal { log: path, stdin, stdin_once, columns, rows } => {
                (protocol::Stdio::Terminal { log: log(path), stdin, stdin_once, columns, rows }, Vec::new())
            }
            Stdio::Fds(descriptors) => (protocol::Stdio::Fds, descriptors.into()),
        }
    }
}

impl Attach {
    pub(crate) fn split(self) -> (protocol::Streams, Vec<OwnedFd>) {
        let Attach { stdin, stdout, stderr } = self;
        let streams = protocol::Streams { stdin: stdin.is_some(), stdout: stdout.is_some(), stderr: stderr.is_some() };
        (streams, [stdin, stdout, stderr].into_iter().flatten().collect())
    }
}
