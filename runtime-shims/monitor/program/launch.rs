//! From a command line to the process that it leaves behind.
//!
//! Must not know: what the command line is.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::console::Console;
use crate::exits;
use crate::lines::Lines;
use crate::log::Log;
use crate::memory::Memory;
use crate::monitor::Monitor;
use crate::process::{Process, Stage, Starting, Terminal};
use crate::protocol::{Body, CONSOLE_SOCKET, Kind, Refusal, Run, Stdio, Streams as Wanted};
use crate::streams::{Output, Stdin, Streams, now_ms};
use crate::sys::{self, Clock, Command, Errno, Fd, Open};

/// Processes that a monitor keeps, those that have exited and are not forgotten included.
pub const MOST_PROCESSES: usize = 4096;

pub fn refusal(kind: Kind, code: i32, text: &str) -> Refusal {
    Refusal { kind, code, text: text.into() }
}

/// A system call failed.
pub fn system(what: &str, path: &[u8]) -> impl FnOnce(Errno) -> Refusal {
    let text = format!("{what} {}", String::from_utf8_lossy(path));
    move |errno| Refusal { kind: Kind::System, code: errno.0, text }
}

/// What a command line needs before it runs: its own descriptors, and our ends of them.
struct Prepared {
    stdio: [Fd; 3],
    streams: Streams,
    console: Option<(Console, Vec<u8>)>,
    terminal: Option<Terminal>,
}

impl Monitor {
    pub fn run(&mut self, client: u64, number: u32, run: Run, descriptors: Vec<Fd>) -> Result<(), Refusal> {
        if self.find(&run.id).is_ok() {
            return Err(refusal(Kind::Exists, 0, &run.id));
        }
        if self.processes.len() >= MOST_PROCESSES {
            return Err(refusal(Kind::Busy, 0, "too many processes are not forgotten"));
        }
        let serial = self.next_serial();
        let Prepared { stdio, streams, console, terminal } = self.prepare(&run, descriptors, serial)?;
        let (console, path) = console.map_or((None, None), |(console, path)| (Some(console), Some(path)));
        let argv: Vec<_> = run.argv.into_iter().map(|word| console_word(word, path.as_deref())).collect();
        // What an earlier process of this name left would be taken for this one's.
        let _ = sys::unlink(&run.pid_file);
        let command = Command::new(&argv, &run.env).map_err(system("run", &argv[0]))?;
        let [stdin, stdout, stderr] = &stdio;
        let launcher = sys::spawn(&command, [stdin, stdout, stderr], self.score.as_deref());
        let launcher = launcher.map_err(system("fork for", &argv[0]))?;
        let starting = Starting {
            launcher,
            ended: None,
            due_ms: now_ms() + u64::from(run.timeout_ms),
            killed: false,
            text: Vec::new(),
            console,
            terminal: None,
            waiters: vec![(client, number)],
        };
        self.processes.push(Process {
            serial,
            id: run.id,
            stage: Stage::Starting(starting),
            streams,
            pid_file: run.pid_file,
            exit_file: run.exit_file,
            memory: run.memory_events.map(Memory::of),
            forgotten: false,
            terminal,
        });
        Ok(())
    }

    fn prepare(&self, run: &Run, descriptors: Vec<Fd>, serial: u64) -> Result<Prepared, Refusal> {
        let mut descriptors = descriptors.into_iter();
        let malformed = || refusal(Kind::Malformed, 0, "descriptors are missing");
        match &run.stdio {
            Stdio::Fds => {
                let mut next = || descriptors.next().ok_or_else(malformed);
                let stdio = [next()?, next()?, next()?];
                Ok(Prepared { stdio, streams: Streams::default(), console: None, terminal: None })
            }
            Stdio::Pipes { log, stdin, stdin_once } => {
                let (stdio, mut streams) = pipes(*stdin).map_err(system("make pipes for", run.id.as_bytes()))?;
                streams.log = open_log(log.as_deref())?;
                streams.stdin_once = *stdin_once;
                streams.attach(serial, wanted(run.attach, &mut descriptors));
                Ok(Prepared { stdio, streams, console: None, terminal: None })
            }
            Stdio::Terminal { log, stdin, stdin_once, columns, rows } => {
                let failed = || system("make a console socket for", run.id.as_bytes());
                let console = Console::listen(&self.dir, serial).map_err(failed())?;
                let (stdio, text) = own_words().map_err(failed())?;
                let outputs = [None, Some(Output { fd: text, lines: None })];
                let log = open_log(log.as_deref())?;
                let streams = Streams { outputs, log, stdin_once: *stdin_once, ..Streams::default() };
                let attach = wanted(run.attach, &mut descriptors);
                let terminal = Terminal { columns: *columns, rows: *rows, stdin: *stdin, attach };
                Ok(Prepared { stdio, streams, console: Some(console), terminal: Some(terminal) })
            }
        }
    }

    /// The command line has ended: with a process that is ours, or with an error.
    pub fn launched(&mut self, serial: u64) {
        let Some(at) = self.processes.iter().position(|process| process.serial == serial) else { return };
        let mut process = self.processes.swap_remove(at);
        process.receive_console(&mut self.scratch);
        let Stage::Starting(starting) = &mut process.stage else { return };
        let waiters = core::mem::take(&mut starting.waiters);
        let body = match self.left_behind(&mut process) {
            Ok(pid) => {
                self.processes.push(process);
                Body::Started { pid }
            }
            Err(refusal) => Body::Refused(refusal),
        };
        for (client, number) in waiters {
            self.tell(client, number, body.clone());
        }
    }

    fn left_behind(&mut self, process: &mut Process) -> Result<u32, Refusal> {
        let Stage::Starting(starting) = &mut process.stage else { return Err(refusal(Kind::NotRunning, 0, "")) };
        let (code, killed, terminal) = (starting.ended.unwrap_or(0), starting.killed, starting.terminal.take());
        if killed || code != 0 {
            process.read_rest(&mut self.scratch);
            let kind = if killed { Kind::TimedOut } else { Kind::Failed };
            return Err(refusal(kind, code as i32, &process.text()));
        }
        let failed = |text: &str| refusal(Kind::Failed, 0, text);
        let pid = exits::read_pid(&process.pid_file).ok_or_else(|| failed("it wrote no process number"))?;
        let early = self.strays.iter().rposition(|stray| stray.pid == pid).and_then(|at| self.strays.remove(at));
        if early.is_none() && sys::child_status(pid).is_err() {
            return Err(failed(&format!("process {pid} is not a child of the monitor")));
        }
        if process.terminal.is_some() {
            let terminal = terminal.ok_or_else(|| failed("it handed over no terminal"))?;
            let serial = self.next_serial();
            process.use_terminal(terminal, serial).map_err(system("use the terminal of", process.id.as_bytes()))?;
        }
        process.stage = Stage::Running { pid };
        process.memory.iter_mut().for_each(Memory::begin);
        if let Some(stray) = early {
            process.exited(pid, stray.code, stray.at_ns, now_ms());
        }
        Ok(pid)
    }
}

fn console_word(word: Vec<u8>, path: Option<&[u8]>) -> Vec<u8> {
    match path {
        Some(path) if word == CONSOLE_SOCKET.as_bytes() => path.to_vec(),
        _ => word,
    }
}

pub fn open_log(path: Option<&[u8]>) -> Result<Option<Log>, Refusal> {
    path.map(|path| Log::open(path).map_err(system("open log", path))).transpose()
}

/// The descriptors of the streams that somebody wants, in the request's order.
pub fn wanted(streams: Wanted, descriptors: &mut impl Iterator<Item = Fd>) -> [Option<Fd>; 3] {
    [streams.stdin, streams.stdout, streams.stderr].map(|wanted| if wanted { descriptors.next() } else { None })
}

fn null() -> sys::Result<Fd> {
    sys::open(b"/dev/null", Open::ReadWrite)
}

/// A process's three pipes, and our ends of them.
fn pipes(stdin: bool) -> sys::Result<([Fd; 3], Streams)> {
    let ((stdout, stdout_in), (stderr, stderr_in)) = (sys::pipe()?, sys::pipe()?);
    let (stdin_out, stdin) = if stdin { sys::pipe().map(|(out, end)| (out, Some(end)))? } else { (null()?, None) };
    for end in [Some(&stdout), Some(&stderr), stdin.as_ref()].into_iter().flatten() {
        end.never_wait()?;
    }
    let output = |fd, name: &'static [u8]| Some(Output { fd, lines: Some(Lines::new(name, false)) });
    let outputs = [output(stdout, b"stdout"), output(stderr, b"stderr")];
    let stdin = stdin.map(|fd| Stdin::new(fd, false));
    Ok(([stdin_out, stdout_in, stderr_in], Streams { outputs, stdin, ..Streams::default() }))
}

/// What a command line that brings its own terminal has meanwhile, and the end at which its errors are read.
fn own_words() -> sys::Result<([Fd; 3], Fd)> {
    let (text, end) = sys::pipe()?;
    text.never_wait()?;
    Ok(([null()?, end.duplicate()?, end], text))
}

/// A child that ended before anybody knew whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Stray {
    pub pid: u32,
    pub code: u32,
    pub at_ns: u64,
}

impl Stray {
    pub fn now(pid: u32, code: u32) -> Stray {
        Stray { pid, code, at_ns: sys::now(Clock::Real) }
    }
}
