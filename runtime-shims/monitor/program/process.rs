//! One process: the command line that starts it, the process itself, and what is left of it.
//!
//! Must not know: clients.

use alloc::string::String;
use alloc::vec::Vec;

use crate::console::Console;
use crate::lines::Lines;
use crate::memory::Memory;
use crate::protocol::{Exit, State, Status};
use crate::streams::{Output, Scratch, Stdin, Streams};
use crate::sys::{Errno, Fd, Result};

/// How much of what a failing command line wrote is told.
const LONGEST_TEXT: usize = 4096;
/// How long output is awaited after a process ended, when another one still holds its pipes.
pub const DRAIN_MS: u64 = 1000;

#[derive(Debug)]
pub struct Process {
    pub serial: u64,
    pub id: String,
    pub stage: Stage,
    pub streams: Streams,
    pub pid_file: Vec<u8>,
    pub exit_file: Option<Vec<u8>>,
    pub memory: Option<Memory>,
    /// Nobody wants to know of it once its exit has been told.
    pub forgotten: bool,
    /// Its standard streams are a terminal.
    pub terminal: Option<Terminal>,
}

/// What is done with a terminal once it is there.
#[derive(Debug)]
pub struct Terminal {
    pub columns: u16,
    pub rows: u16,
    pub stdin: bool,
    /// Who is attached to it from its first byte on.
    pub attach: [Option<Fd>; 3],
}

#[derive(Debug)]
pub enum Stage {
    Starting(Starting),
    Running { pid: u32 },
    /// Somebody else's: it counts as running until its outputs have ended.
    Kept,
    Exited(Exited),
}

/// The command line runs.
#[derive(Debug)]
pub struct Starting {
    pub launcher: u32,
    /// Its exit code, once it has ended.
    pub ended: Option<u32>,
    /// When it is killed.
    pub due_ms: u64,
    pub killed: bool,
    /// The end of what it wrote to its standard error.
    pub text: Vec<u8>,
    pub console: Option<Console>,
    /// The terminal that came. It is not read before the command line has ended: until then it may have no other end.
    pub terminal: Option<Fd>,
    /// Who wants to know: clients and the numbers of their requests.
    pub waiters: Vec<(u64, u32)>,
}

#[derive(Debug)]
pub struct Exited {
    pub pid: u32,
    pub exit: Exit,
    /// When it is told at the latest, whether its output has ended or not.
    pub told_ms: u64,
    pub told: bool,
    /// When the exit file is tried again; none once it is written.
    pub save_ms: Option<u64>,
}

impl Process {
    pub fn state(&self) -> State {
        match &self.stage {
            Stage::Running { pid } => State::Running { pid: *pid },
            Stage::Kept => State::Running { pid: 0 },
            Stage::Exited(exited) if exited.told => State::Exited { pid: exited.pid, exit: exited.exit },
            // What it wrote is still on its way into the log.
            Stage::Exited(exited) => State::Running { pid: exited.pid },
            Stage::Starting(_) => State::Starting,
        }
    }

    pub fn status(&self) -> Status {
        Status { id: self.id.clone(), state: self.state(), lost: self.streams.lost() }
    }

    /// What the command line that starts it had to say.
    pub fn text(&self) -> String {
        match &self.stage {
            Stage::Starting(starting) => String::from_utf8_lossy(&starting.text).trim_end().into(),
            _ => String::new(),
        }
    }

    /// Something runs, or has not been told yet.
    pub fn is_live(&self) -> bool {
        !matches!(&self.stage, Stage::Exited(exited) if exited.told && exited.save_ms.is_none())
    }

    /// When time alone calls for something.
    pub fn due_ms(&self) -> Option<u64> {
        let own = match &self.stage {
            Stage::Starting(starting) => (!starting.killed).then_some(starting.due_ms),
            Stage::Running { .. } | Stage::Kept => None,
            Stage::Exited(exited) if exited.told => exited.save_ms,
            Stage::Exited(exited) => Some(exited.told_ms),
        };
        own.into_iter().chain(self.streams.due_ms()).min()
    }

    pub fn read(&mut self, which: usize, scratch: &mut Scratch) {
        let Some(read) = self.streams.read(which, scratch) else { return };
        if let (1, Stage::Starting(starting)) = (which, &mut self.stage) {
            let text = &mut starting.text;
            text.extend_from_slice(scratch.input.get(..read).unwrap_or_default());
            text.drain(..text.len().saturating_sub(LONGEST_TEXT));
        }
    }

    /// Reads what the command line has left in its standard error.
    pub fn read_rest(&mut self, scratch: &mut Scratch) {
        for _ in 0..8 {
            self.read(1, scratch);
        }
    }

    /// The console socket has something.
    pub fn receive_console(&mut self, scratch: &mut Scratch) {
        let Stage::Starting(starting) = &mut self.stage else { return };
        let Some(console) = starting.console.as_mut() else { return };
        let received = match console.receive(&mut scratch.input) {
            Err(Errno::EAGAIN) => return,
            received => received,
        };
        starting.console = None;
        // Without a terminal the command line counts as failed.
        starting.terminal = received.ok();
        if let Some((terminal, size)) = starting.terminal.as_ref().zip(self.terminal.as_ref()) {
            // Its program asks for the size itself, and can be told another one later.
            let _ = terminal.set_window_size(size.columns, size.rows);
        }
    }

    /// The command line has ended well: its process's streams are the terminal from now on.
    pub fn use_terminal(&mut self, fd: Fd, serial: u64) -> Result<()> {
        fd.never_wait()?;
        let Some(terminal) = self.terminal.as_mut() else { return Ok(()) };
        if terminal.stdin {
            self.streams.stdin = Some(Stdin::new(fd.duplicate()?, true));
        }
        self.streams.outputs = [Some(Output { fd, lines: Some(Lines::new(b"stdout", true)) }), None];
        self.streams.attach(serial, core::mem::take(&mut terminal.attach));
        Ok(())
    }

    pub fn exited(&mut self, pid: u32, code: u32, at_ns: u64, now_ms: u64) {
        let oom = self.memory.as_ref().is_some_and(|memory| memory.killed(code));
        let exit = Exit { code, at_ns, oom };
        let save_ms = self.exit_file.is_some().then_some(now_ms);
        self.stage = Stage::Exited(Exited { pid, exit, told_ms: now_ms + DRAIN_MS, told: false, save_ms });
    }

    pub fn output_ended(&self) -> bool {
        self.streams.outputs.iter().all(Option::is_none)
    }
}
