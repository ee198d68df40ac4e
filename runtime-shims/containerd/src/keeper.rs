//! The log keeper: a process per container that reads its output from pipes and writes the CRI log.
//!
//! containerd's shim opens the pipes by name; the keeper holds their reading ends. It is in a session of its own, so
//! killing or upgrading us loses no byte: what a container wrote is in the pipe or in the keeper until it is in the log.
//! It ends when both outputs have ended.
//! Must not know: CRI's calls, containerd's API.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pintle_cri::log::{Stream, write};

use crate::Inner;
use crate::record::ContainerRecord;
use crate::tasks::Pipes;

/// A longer line is written in parts of this size, as every runtime does.
const PART: usize = 16 << 10;
/// How long a keeper may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);
const SOCKET: &str = "keeper.sock";

impl Inner {
    /// Makes the pipes of a container and starts what reads them.
    pub(crate) async fn keep_log(&self, record: &ContainerRecord) -> anyhow::Result<Pipes> {
        let dir = self.config.container_state(&record.id);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let terminal = record.config.tty;
        let mut pipes = Pipes { terminal, stdout: pipe(&dir, "stdout")?, ..Pipes::default() };
        if !terminal {
            pipes.stderr = pipe(&dir, "stderr")?;
        }
        if record.config.stdin {
            pipes.stdin = pipe(&dir, "stdin")?;
        }
        let mut command = self.config.log_keeper.clone();
        command.push(dir.clone().into());
        command.extend(record.state.log_path.clone().map(OsString::from));
        tokio::task::spawn_blocking(move || start(&command)).await??;
        Ok(pipes)
    }

    /// Has a container's log opened anew, after it was renamed.
    pub(crate) async fn reopen_log(&self, id: &str) -> anyhow::Result<()> {
        let dir = self.config.container_state(id);
        tokio::task::spawn_blocking(move || ask(&dir, "reopen")).await?
    }
}

fn pipe(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("making {}", path.display()))?;
    Ok(path.display().to_string())
}

/// Starts a keeper and waits until it has opened its pipes; it says so in a line.
fn start(command: &[OsString]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    let Some((program, arguments)) = command.split_first() else { bail!("no log keeper is configured") };
    let mut child = Command::new(program);
    child.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
    // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
    unsafe { child.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
    let mut child = child.spawn().context("starting the log keeper")?;
    let said = child.stdout.take().context("the log keeper has no output")?;
    let ready = [PollFd::new(said.as_fd(), PollFlags::POLLIN)];
    let began = poll(&mut ready.clone(), PollTimeout::try_from(BEGIN_LIMIT)?).context("waiting for the log keeper")?;
    let mut word = String::new();
    if began > 0 {
        BufReader::new(said).read_line(&mut word).context("reading from the log keeper")?;
    }
    // It is reaped by a thread that sleeps until then, so that no zombie stays.
    std::thread::Builder::new().stack_size(64 << 10).name("keeper".into()).spawn(move || child.wait())?;
    match word.trim() {
        "ready" => Ok(()),
        "" => bail!("the log keeper did not begin"),
        reason => bail!("the log keeper cannot begin: {reason}"),
    }
}

/// A socket's address is shorter than a path with an id in it may be; this way to the folder is short.
fn short(dir: &Path) -> anyhow::Result<(File, PathBuf)> {
    let folder = File::open(dir).with_context(|| format!("opening {}", dir.display()))?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    Ok((folder, path.into()))
}

fn ask(dir: &Path, what: &str) -> anyhow::Result<()> {
    let (_folder, socket) = short(dir)?;
    let mut stream = UnixStream::connect(socket).context("the container's log keeper is gone")?;
    stream.set_read_timeout(Some(BEGIN_LIMIT))?;
    writeln!(stream, "{what}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the log keeper does not answer")?;
    match answer.trim() {
        "ok" => Ok(()),
        reason => bail!("{reason}"),
    }
}

/// The keeper's program: `FOLDER [LOG]`. Without a log what a container writes is read and dropped.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(dir) = arguments.next().map(PathBuf::from) else { return ExitCode::from(2) };
    let log = arguments.next().map(PathBuf::from);
    let keeper = Keeper::open(&dir, log);
    match keeper {
        Ok(mut keeper) => {
            println!("ready");
            keeper.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One output and the line that is not whole yet.
struct Output {
    stream: Stream,
    pipe: Option<File>,
    line: Vec<u8>,
}

struct Keeper {
    path: Option<PathBuf>,
    log: Option<File>,
    outputs: Vec<Output>,
    listener: UnixListener,
}

impl Keeper {
    fn open(dir: &Path, path: Option<PathBuf>) -> anyhow::Result<Self> {
        let log = path.as_deref().map(open_log).transpose()?;
        let (_folder, socket) = short(dir)?;
        let listener = UnixListener::bind(socket).context("opening the keeper's socket")?;
        let wanted = [("stdout", Stream::Stdout), ("stderr", Stream::Stderr)];
        let mut outputs = Vec::new();
        for (name, stream) in wanted.into_iter().filter(|(name, _)| dir.join(name).exists()) {
            // Not blocking: the writer comes later, and its end is told only once it has come.
            let mut options = OpenOptions::new();
            let pipe = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(dir.join(name));
            let pipe = pipe.with_context(|| format!("opening {name}"))?;
            outputs.push(Output { stream, pipe: Some(pipe), line: Vec::new() });
        }
        Ok(Self { path, log, outputs, listener })
    }

    fn run(&mut self) {
        while self.outputs.iter().any(|output| output.pipe.is_some()) {
            let (ready, asked) = self.wait();
            for index in ready {
                self.read(index);
            }
            if asked {
                self.serve();
            }
        }
    }

    /// Sleeps until an output has something, or somebody asks.
    fn wait(&self) -> (Vec<usize>, bool) {
        let open = self.outputs.iter().enumerate().filter_map(|(index, output)| Some((index, output.pipe.as_ref()?)));
        let (numbers, mut fds): (Vec<usize>, Vec<PollFd<'_>>) =
            open.map(|(index, pipe)| (index, PollFd::new(pipe.as_fd(), PollFlags::POLLIN))).unzip();
        fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            return (Vec::new(), false);
        }
        let happened = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let asked = fds.last().is_some_and(happened);
        let ready = numbers.into_iter().zip(&fds).filter(|(_, fd)| happened(fd)).map(|(index, _)| index).collect();
        (ready, asked)
    }

    fn read(&mut self, index: usize) {
        let mut piece = [0; PART];
        let Some(output) = self.outputs.get_mut(index) else { return };
        let Some(pipe) = output.pipe.as_mut() else { return };
        let count = match pipe.read(&mut piece) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        let mut text = BytesMut::new();
        match piece.get(..count) {
            Some([]) | None => {
                output.pipe = None;
                output.finish(&mut text);
            }
            Some(bytes) => output.take(bytes, &mut text),
        }
        self.append(&text);
    }

    /// A full disk must not stop the container: what cannot be written is dropped.
    fn append(&mut self, text: &[u8]) {
        if let Some(log) = self.log.as_mut() {
            let _ = log.write_all(text);
        }
    }

    fn serve(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut word = String::new();
        let mut reader = BufReader::new(&stream).take(64);
        let asked = reader.read_line(&mut word).is_ok() && word.trim() == "reopen";
        let outcome = match (&self.path, asked) {
            (Some(path), true) => open_log(path).map(|log| self.log = Some(log)),
            (None, true) => Ok(()),
            _ => Err(anyhow::anyhow!("{:?} is not understood", word.trim())),
        };
        let answer = outcome.map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned());
        let _ = writeln!(&stream, "{answer}");
    }
}

impl Output {
    /// Writes whole lines, and parts of lines that are longer than a part.
    fn take(&mut self, bytes: &[u8], text: &mut BytesMut) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ended) = match piece.strip_suffix(b"\n") {
                Some(content) => (content, true),
                None => (piece, false),
            };
            let mut rest = content;
            while self.line.len() + rest.len() > PART {
                let (fits, after) = rest.split_at(PART - self.line.len());
                self.line.extend_from_slice(fits);
                self.write(true, text);
                rest = after;
            }
            self.line.extend_from_slice(rest);
            if ended {
                self.write(false, text);
            }
        }
    }

    /// A last line without a newline is a line all the same.
    fn finish(&mut self, text: &mut BytesMut) {
        if !self.line.is_empty() {
            self.write(false, text);
        }
    }

    fn write(&mut self, partial: bool, text: &mut BytesMut) {
        write(text, jiff::Timestamp::now(), self.stream, partial, &self.line);
        self.line.clear();
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640).open(path).with_context(|| format!("opening {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<(bool, usize)> {
        let mut output = Output { stream: Stream::Stdout, pipe: None, line: Vec::new() };
        let mut text = BytesMut::new();
        pieces.iter().for_each(|piece| output.take(piece, &mut text));
        output.finish(&mut text);
        let records = text[..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let parsed = records.map(|line| pintle_cri::log::parse(line).unwrap());
        parsed.map(|record| (record.partial, record.content.len())).collect()
    }

    #[test]
    fn long_lines_come_in_parts_and_the_last_needs_no_newline() {
        assert_eq!(lines(&[b"a\nbc", b"d\n", b"end"]), [(false, 1), (false, 3), (false, 3)]);
        let long = vec![b'x'; PART + 5];
        assert_eq!(lines(&[&long, b"\n"]), [(true, PART), (false, 5)]);
        assert_eq!(lines(&[&vec![b'x'; PART], b"\n\n"]), [(false, PART), (false, 0)]);
    }

    #[test]
    fn a_keeper_writes_what_comes_and_follows_a_rename() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs/0.log");
        let stdout = pipe(dir.path(), "stdout").unwrap();
        let mut keeper = Keeper::open(dir.path(), Some(log.clone())).unwrap();
        let running = std::thread::spawn(move || keeper.run());
        let mut writer = OpenOptions::new().write(true).open(stdout).unwrap();
        writer.write_all(b"before\n").unwrap();
        // A reopening is answered between two reads, so this waits until the line is in the log.
        while fs::read(&log).unwrap().is_empty() {
            ask(dir.path(), "nothing").unwrap_err();
        }
        fs::rename(&log, dir.path().join("old")).unwrap();
        ask(dir.path(), "reopen").unwrap();
        writer.write_all(b"after").unwrap();
        drop(writer);
        running.join().unwrap();
        assert!(fs::read_to_string(dir.path().join("old")).unwrap().ends_with("stdout F before\n"));
        assert!(fs::read_to_string(&log).unwrap().ends_with("stdout F after\n"));
    }
}
