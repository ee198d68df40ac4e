//! What a process reads and writes, on its way to and from the log and whoever is attached.
//!
//! Must not know: how the process began, and how it ends. Nobody who is attached holds a container up for long: one that
//! reads slowly slows it, as a slow terminal does, and one that reads nothing for [`STALLED_MS`] is let go.

use alloc::vec;
use alloc::vec::Vec;

use crate::lines::Lines;
use crate::log::Log;
use crate::sys::{self, Clock, Errno, Fd, Result};

/// How long somebody attached may read nothing while there is something to read.
pub const STALLED_MS: u64 = 10_000;
/// How much may wait for one who is attached: what a pipe holds at the very most.
const MOST_WAITING: usize = 1 << 20;
/// How much is read at once. It and its records stay in memory.
const PIECE: usize = 16 * 1024;
/// Room for records that is given back: what short lines make of a piece.
const MOST_RECORDS: usize = 64 * 1024;
/// Attached at once to one process.
pub const MOST_ATTACHED: usize = 32;

/// Room to work in, for all processes.
#[derive(Debug)]
pub struct Scratch {
    pub input: Vec<u8>,
    records: Vec<u8>,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch { input: vec![0; PIECE], records: Vec::new() }
    }
}

#[derive(Debug, Default)]
pub struct Streams {
    /// Standard output (or the terminal) and standard error; none once it has ended.
    pub outputs: [Option<Output>; 2],
    pub stdin: Option<Stdin>,
    /// Standard input ends with the first one attached.
    pub stdin_once: bool,
    pub log: Option<Log>,
    pub attached: Vec<Attached>,
}

/// One output of the process.
#[derive(Debug)]
pub struct Output {
    pub fd: Fd,
    /// None: it goes neither into the log nor to anybody.
    pub lines: Option<Lines>,
}

/// The process's standard input.
#[derive(Debug)]
pub struct Stdin {
    pub fd: Fd,
    pub terminal: bool,
    waiting: Vec<u8>,
    /// Nothing comes after what is waiting.
    closing: bool,
}

/// One who is attached.
#[derive(Debug)]
pub struct Attached {
    pub serial: u64,
    pub stdin: Option<Fd>,
    pub sinks: [Option<Sink>; 2],
}

/// Where one who is attached reads an output.
#[derive(Debug)]
pub struct Sink {
    pub fd: Fd,
    waiting: Vec<u8>,
    /// When the last of it was taken.
    moved_ms: u64,
    /// Nothing comes after what is waiting.
    closing: bool,
}

impl Stdin {
    pub fn new(fd: Fd, terminal: bool) -> Stdin {
        Stdin { fd, terminal, waiting: Vec::new(), closing: false }
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what the process takes; false when it takes no more, or nothing more will come.
    fn flush(&mut self) -> bool {
        write_out(&self.fd, &mut self.waiting).is_ok() && !(self.closing && self.waiting.is_empty())
    }
}

impl Sink {
    fn new(fd: Fd) -> Option<Sink> {
        fd.never_wait().ok()?;
        Some(Sink { fd, waiting: Vec::new(), moved_ms: 0, closing: false })
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// False when it is done with, or there is nobody any more.
    fn push(&mut self, bytes: &[u8], now_ms: u64) -> bool {
        if self.waiting.is_empty() {
            self.moved_ms = now_ms;
        }
        self.waiting.extend_from_slice(bytes);
        let moved = write_out(&self.fd, &mut self.waiting);
        if moved.is_ok_and(|bytes| bytes > 0) {
            self.moved_ms = now_ms;
        }
        let done = self.closing && self.waiting.is_empty();
        moved.is_ok() && !done && self.waiting.len() <= MOST_WAITING
    }
}

/// Writes as much as goes without waiting, and says how much that was.
fn write_out(fd: &Fd, waiting: &mut Vec<u8>) -> Result<usize> {
    let mut written = 0;
    while let Some(rest) = waiting.get(written..).filter(|rest| !rest.is_empty()) {
        match fd.write(rest) {
            Ok(more) => written += more,
            Err(Errno::EAGAIN) => break,
            Err(error) => return Err(error),
        }
    }
    waiting.drain(..written);
    if waiting.is_empty() && waiting.capacity() > 0 {
        *waiting = Vec::new();
    }
    Ok(written)
}

pub fn now_ms() -> u64 {
    sys::now(Clock::Monotonic) / 1_000_000
}

impl Streams {
    /// Whether output may be read: everybody attached has taken what was read before.
    pub fn may_read(&self, which: usize) -> bool {
        let sinks = self.attached.iter().filter_map(|one| one.sinks[which].as_ref());
        self.outputs[which].is_some() && !sinks.into_iter().any(Sink::is_waiting)
    }

    /// Reads an output once, without waiting: how many bytes lie in `scratch.input` now, none when there was nothing.
    pub fn read(&mut self, which: usize, scratch: &mut Scratch) -> Option<usize> {
        let output = self.outputs[which].as_mut()?;
        let read = match output.fd.read(&mut scratch.input) {
            Ok(read) if read > 0 => read,
            Err(Errno::EAGAIN) => return None,
            // A terminal that nobody holds any more ends with EIO.
            _ => {
                self.end(which, scratch);
                return None;
            }
        };
        let Some(lines) = output.lines.as_mut() else { return Some(read) };
        let bytes = scratch.input.get(..read)?;
        if let Some(log) = self.log.as_mut() {
            scratch.records.clear();
            lines.push(bytes, sys::now(Clock::Real), &mut scratch.records);
            log.append(&scratch.records);
            if scratch.records.capacity() > MOST_RECORDS {
                scratch.records = Vec::new();
            }
        }
        let now = now_ms();
        self.each_sink(which, |sink| sink.push(bytes, now));
        Some(read)
    }

    fn end(&mut self, which: usize, scratch: &mut Scratch) {
        let lines = self.outputs[which].take().and_then(|output| output.lines);
        if let Some((mut lines, log)) = lines.zip(self.log.as_mut()) {
            scratch.records.clear();
            lines.end(sys::now(Clock::Real), &mut scratch.records);
            log.append(&scratch.records);
        }
        if self.outputs.iter().all(Option::is_none)
            && let Some(log) = self.log.as_mut()
        {
            log.finish();
        }
        self.close_sinks(which);
    }

    fn close_sinks(&mut self, which: usize) {
        let now = now_ms();
        self.each_sink(which, |sink| {
            sink.closing = true;
            sink.push(&[], now)
        });
    }

    /// Keeps the sinks of an output for which `keep` says so.
    fn each_sink(&mut self, which: usize, mut keep: impl FnMut(&mut Sink) -> bool) {
        for one in &mut self.attached {
            one.sinks[which].take_if(|sink| !keep(sink));
        }
        self.forget_the_gone();
    }

    fn forget_the_gone(&mut self) {
        self.attached.retain(|one| one.stdin.is_some() || one.sinks.iter().any(Option::is_some));
    }

    pub fn attach(&mut self, serial: u64, [stdin, stdout, stderr]: [Option<Fd>; 3]) {
        let open = [0, 1].map(|which| self.outputs[which].as_ref().is_some_and(|output| output.lines.is_some()));
        let stdin = stdin.filter(|fd| self.stdin.is_some() && fd.never_wait().is_ok());
        let sinks = [stdout.filter(|_| open[0]), stderr.filter(|_| open[1])].map(|fd| fd.and_then(Sink::new));
        self.attached.push(Attached { serial, stdin, sinks });
        self.forget_the_gone();
    }

    /// A sink can take more, or its reader has `left`.
    pub fn sink_ready(&mut self, serial: u64, which: usize, left: bool) {
        let now = now_ms();
        if let Some(one) = self.attached.iter_mut().find(|one| one.serial == serial) {
            one.sinks[which].take_if(|sink| left && !sink.is_waiting() || !sink.push(&[], now));
        }
        self.forget_the_gone();
    }

    /// Somebody attached typed something, or will type no more.
    pub fn typed(&mut self, serial: u64, scratch: &mut Scratch) {
        let Some(one) = self.attached.iter_mut().find(|one| one.serial == serial) else { return };
        let Some(fd) = &one.stdin else { return };
        match fd.read(&mut scratch.input) {
            Err(Errno::EAGAIN) => {}
            Ok(read) if read > 0 => {
                if let Some((stdin, bytes)) = self.stdin.as_mut().zip(scratch.input.get(..read)) {
                    stdin.waiting.extend_from_slice(bytes);
                }
                self.flush_stdin();
            }
            _ended => {
                one.stdin = None;
                self.typist_left();
            }
        }
    }

    fn typist_left(&mut self) {
        if self.stdin_once {
            self.close_stdin();
        }
        self.forget_the_gone();
    }

    /// The process takes more input, or has `closed` it.
    pub fn stdin_ready(&mut self, closed: bool) {
        self.stdin.take_if(|stdin| closed && !stdin.is_waiting());
        self.flush_stdin();
    }

    fn flush_stdin(&mut self) {
        self.stdin.take_if(|stdin| !stdin.flush());
        if self.stdin.is_none() {
            self.attached.iter_mut().for_each(|one| one.stdin = None);
            self.forget_the_gone();
        }
    }

    /// After what is waiting, the process reads the end. A terminal has no end: false.
    pub fn close_stdin(&mut self) -> bool {
        let Some(stdin) = self.stdin.as_mut().filter(|stdin| !stdin.terminal) else { return false };
        stdin.closing = true;
        self.flush_stdin();
        true
    }

    /// When the next one attached has read nothing for too long.
    pub fn due_ms(&self) -> Option<u64> {
        let sinks = self.attached.iter().flat_map(|one| one.sinks.iter().flatten());
        sinks.filter(|sink| sink.is_waiting()).map(|sink| sink.moved_ms + STALLED_MS).min()
    }

    /// Lets go of everybody who has read nothing for too long.
    pub fn drop_stalled(&mut self, now_ms: u64) {
        let stalled = |sink: &Sink| sink.is_waiting() && sink.moved_ms + STALLED_MS <= now_ms;
        let before = self.attached.iter().filter(|one| one.stdin.is_some()).count();
        self.attached.retain(|one| !one.sinks.iter().flatten().any(stalled));
        if self.attached.iter().filter(|one| one.stdin.is_some()).count() < before {
            self.typist_left();
        }
    }

    /// Reads what the process itself has written, which a pipe or terminal holds already, whoever else goes on writing.
    pub fn drain(&mut self, scratch: &mut Scratch) {
        for which in [0, 1] {
            let mut read = 0;
            while let Some(more) = self.read(which, scratch) {
                read += more;
                if read >= MOST_WAITING {
                    break;
                }
            }
        }
    }

    /// The process is gone: nobody types any more, and whoever is attached gets what is waiting and the end.
    pub fn let_go(&mut self) {
        self.stdin = None;
        self.attached.iter_mut().for_each(|one| one.stdin = None);
        self.close_sinks(0);
        self.close_sinks(1);
    }

    /// Whoever ran the process brought its descriptors: there is nothing to attach to.
    pub fn is_foreign(&self) -> bool {
        self.outputs.iter().all(Option::is_none) && self.stdin.is_none()
    }

    pub fn lost(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.lost)
    }
}
