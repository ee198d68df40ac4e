//! The loop: waits for what may happen, and has it dealt with.
//!
//! Must not know: what the processes are for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::clients::{Client, Message};
use crate::exits;
use crate::launch::{Stray, refusal};
use crate::process::{Process, Stage};
use crate::protocol::{Body, Exit, Kind, State};
use crate::streams::{Scratch, now_ms};
use crate::sys::{self, Clock, Errno, Fd, POLLIN, POLLOUT, Poll, Signals};

/// Clients connected at once.
const MOST_CLIENTS: usize = 32;
/// Children that ended while a command line runs, kept until it says which process is its own.
const MOST_STRAYS: usize = 4096;
/// How long a failing exit file or accept waits for its next try.
const RETRY_MS: u64 = 1000;

pub struct Monitor {
    /// The sandbox's directory, and the socket in it.
    pub dir: Fd,
    socket: Vec<u8>,
    identity: [u64; 2],
    listener: Fd,
    /// Not listened to before this time, for want of descriptors.
    accept_ms: u64,
    signals: Signals,
    pub clients: Vec<Client>,
    pub processes: Vec<Process>,
    pub strays: VecDeque<Stray>,
    pub scratch: Scratch,
    /// What a child's OOM score is adjusted by, where this program's own was changed.
    pub score: Option<Vec<u8>>,
    /// Nothing will be asked any more: it ends once nothing runs.
    pub ending: bool,
    serial: u64,
    polls: Vec<Poll>,
    sources: Vec<Source>,
}

/// What a polled descriptor is.
#[derive(Debug, Clone, Copy)]
enum Source {
    Listener,
    Signals,
    Client(u64),
    Process(u64, Part),
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Console,
    Output(usize),
    Stdin,
    Typist(u64),
    Sink(u64, usize),
}

impl Monitor {
    /// Deletions must be told of already: a socket that is gone now was removed before anybody would have said so.
    pub fn new(
        dir: Fd,
        socket: Vec<u8>,
        listener: Fd,
        signals: Signals,
        score: Option<Vec<u8>>,
    ) -> Result<Monitor, Errno> {
        Ok(Monitor {
            dir,
            identity: sys::identity(&socket)?,
            socket,
            listener,
            accept_ms: 0,
            signals,
            clients: Vec::new(),
            processes: Vec::new(),
            strays: VecDeque::new(),
            scratch: Scratch::new(),
            score,
            ending: false,
            serial: 0,
            polls: Vec::new(),
            sources: Vec::new(),
        })
    }

    /// Until it is told to end, or nobody can reach it any more, and nothing runs.
    pub fn serve(&mut self) {
        while !self.ending || self.processes.iter().any(Process::is_live) {
            self.register();
            let wait = self.due_ms().map(|due| due.saturating_sub(now_ms()).max(1));
            if sys::poll(&mut self.polls, wait).is_err() {
                // The kernel wants memory, or somebody took descriptors from under us: it may pass, and must not spin.
                self.polls.clear();
                let _ = sys::poll(&mut [], Some(RETRY_MS));
            }
            for at in 0..self.polls.len() {
                let (found, source) = (self.polls[at].found, self.sources[at]);
                if found != 0 {
                    self.deal_with(source, found & sys::POLLERR_HUP != 0);
                }
            }
            self.on_time(now_ms());
            self.settle();
            self.clients.retain(|client| !client.gone);
        }
        if self.is_reachable() {
            let _ = sys::unlink(&self.socket);
        }
    }

    fn is_reachable(&self) -> bool {
        sys::identity(&self.socket) == Ok(self.identity)
    }

    fn due_ms(&self) -> Option<u64> {
        let accept = (self.accept_ms > 0).then_some(self.accept_ms);
        self.processes.iter().filter_map(Process::due_ms).chain(accept).min()
    }

    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Everything that is waited for. What must not be read now is left out, for an end is found on it all the same.
    fn register(&mut self) {
        self.polls.clear();
        self.sources.clear();
        let (polls, sources) = (&mut self.polls, &mut self.sources);
        let mut add = |fd: &Fd, events: i16, source: Source| {
            polls.push(Poll { fd: fd.number(), events, found: 0 });
            sources.push(source);
        };
        add(&self.signals.0, POLLIN, Source::Signals);
        if self.accept_ms == 0 {
            add(&self.listener, POLLIN, Source::Listener);
        }
        for client in &self.clients {
            let events = if client.is_waiting() { POLLIN | POLLOUT } else { POLLIN };
            add(&client.fd, events, Source::Client(client.serial));
        }
        for process in &self.processes {
            process.register(&mut |fd, events, part| add(fd, events, Source::Process(process.serial, part)));
        }
    }

    fn deal_with(&mut self, source: Source, broken: bool) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.signalled(),
            Source::Client(serial) => self.hear(serial),
            Source::Process(serial, part) => {
                if let Some(process) = self.processes.iter_mut().find(|process| process.serial == serial) {
                    process.deal_with(part, broken, &mut self.scratch);
                }
            }
        }
    }

    fn accept(&mut self) {
        match sys::accept(&self.listener) {
            Ok(fd) => {
                let serial = self.next_serial();
                let trusted = sys::peer_uid(&fd).is_ok_and(|uid| uid == 0 || uid == sys::own_uid());
                if trusted && self.clients.len() < MOST_CLIENTS {
                    self.clients.push(Client::new(serial, fd));
                }
            }
            Err(Errno::EAGAIN) => {}
            Err(_) => self.accept_ms = now_ms() + RETRY_MS,
        }
    }

    fn hear(&mut self, serial: u64) {
        let Some(client) = self.clients.iter_mut().find(|client| client.serial == serial) else { return };
        client.flush();
        match client.receive() {
            Message::Nothing => {}
            Message::Request { number, request, descriptors } => self.answer(serial, number, *request, descriptors),
            Message::Malformed { number } => {
                client.tell(number, Body::Refused(refusal(Kind::Malformed, 0, "this message is none of version 1")));
            }
        }
    }

    pub fn tell(&mut self, client: u64, number: u32, body: Body) {
        if let Some(client) = self.clients.iter_mut().find(|one| one.serial == client) {
            client.tell(number, body);
        }
    }

    fn signalled(&mut self) {
        let came = self.signals.read();
        if came.child {
            self.reap();
        }
        if came.end || came.deleted && !self.is_reachable() {
            self.ending = true;
        }
    }

    fn reap(&mut self) {
        while let Some((pid, code)) = sys::wait() {
            self.reaped(pid, code);
        }
        let ended = |process: &Process| matches!(&process.stage, Stage::Starting(starting) if starting.ended.is_some());
        while let Some(serial) = self.processes.iter().find(|process| ended(process)).map(|process| process.serial) {
            self.launched(serial);
        }
        if !self.processes.iter().any(|process| matches!(process.stage, Stage::Starting(_))) {
            self.strays.clear();
        }
    }

    fn reaped(&mut self, pid: u32, code: u32) {
        for process in &mut self.processes {
            match &mut process.stage {
                Stage::Starting(starting) if starting.launcher == pid && starting.ended.is_none() => {
                    starting.ended = Some(code);
                    return;
                }
                Stage::Running { pid: running } if *running == pid => {
                    return process.exited(pid, code, sys::now(Clock::Real), now_ms());
                }
                _ => {}
            }
        }
        if self.strays.len() >= MOST_STRAYS {
            self.strays.pop_front();
        }
        self.strays.push_back(Stray::now(pid, code));
    }

    /// What time alone calls for.
    fn on_time(&mut self, now_ms: u64) {
        if self.accept_ms <= now_ms {
            self.accept_ms = 0;
        }
        for process in &mut self.processes {
            process.streams.drop_stalled(now_ms);
            if let Stage::Starting(starting) = &mut process.stage
                && starting.due_ms <= now_ms
                && !starting.killed
            {
                starting.killed = true;
                // The group is its own, as the session is.
                let _ = sys::kill(-(starting.launcher as i32), sys::SIGKILL);
            }
        }
    }

    /// Tells of the processes whose output has ended: first the disk, then everybody.
    fn settle(&mut self) {
        let now = now_ms();
        for process in &mut self.processes {
            if let Some(exit) = process.settle(now, RETRY_MS, &mut self.scratch) {
                for client in self.clients.iter_mut().filter(|client| client.greeted) {
                    client.tell(0, Body::Exited { id: process.id.clone(), exit });
                }
            }
        }
        self.processes.retain(|process| !(process.forgotten && matches!(process.state(), State::Exited { .. })));
    }
}

impl Process {
    fn register(&self, add: &mut impl FnMut(&Fd, i16, Part)) {
        if let Stage::Starting(starting) = &self.stage
            && let Some(console) = &starting.console
        {
            add(console.fd(), POLLIN, Part::Console);
        }
        for which in [0, 1] {
            if let Some(output) = self.streams.outputs[which].as_ref().filter(|_| self.streams.may_read(which)) {
                add(&output.fd, POLLIN, Part::Output(which));
            }
        }
        let Some(stdin) = &self.streams.stdin else { return self.register_sinks(add) };
        if stdin.is_waiting() {
            add(&stdin.fd, POLLOUT, Part::Stdin);
        } else {
            // A pipe that nobody reads any more is found without being asked for.
            if !stdin.terminal {
                add(&stdin.fd, 0, Part::Stdin);
            }
            for one in &self.streams.attached {
                if let Some(fd) = &one.stdin {
                    add(fd, POLLIN, Part::Typist(one.serial));
                }
            }
        }
        self.register_sinks(add);
    }

    fn register_sinks(&self, add: &mut impl FnMut(&Fd, i16, Part)) {
        for one in &self.streams.attached {
            for (which, sink) in one.sinks.iter().enumerate() {
                if let Some(sink) = sink {
                    add(&sink.fd, if sink.is_waiting() { POLLOUT } else { 0 }, Part::Sink(one.serial, which));
                }
            }
        }
    }

    fn deal_with(&mut self, part: Part, broken: bool, scratch: &mut Scratch) {
        match part {
            Part::Console => self.receive_console(scratch),
            Part::Output(which) if self.streams.may_read(which) => self.read(which, scratch),
            Part::Output(_) => {}
            Part::Stdin => self.streams.stdin_ready(broken),
            Part::Typist(serial) => self.streams.typed(serial, scratch),
            Part::Sink(serial, which) => self.streams.sink_ready(serial, which, broken),
        }
    }

    /// Once a process that has exited has nothing more to write, or time is up: writes the exit file, and returns what
    /// everybody is to be told, once.
    fn settle(&mut self, now_ms: u64, retry_ms: u64, scratch: &mut Scratch) -> Option<Exit> {
        let ended = self.output_ended();
        if ended && matches!(self.stage, Stage::Kept) {
            self.exited(0, 0, sys::now(Clock::Real), now_ms);
        }
        let Stage::Exited(exited) = &mut self.stage else { return None };
        let ready = exited.told || ended || exited.told_ms <= now_ms;
        if !ready || exited.told && exited.save_ms.is_none_or(|due| due > now_ms) {
            return None;
        }
        if !exited.told {
            self.streams.drain(scratch);
            self.streams.let_go();
        }
        if let Some(path) = self.exit_file.as_deref().filter(|_| exited.save_ms.is_some()) {
            let saved = exits::save(path, exited.exit);
            // Where the directory is gone, so is everybody who would look there.
            exited.save_ms = saved.err().filter(|errno| *errno != Errno::ENOENT).map(|_| now_ms + retry_ms);
        }
        let first = !core::mem::replace(&mut exited.told, true);
        first.then_some(exited.exit)
    }
}
