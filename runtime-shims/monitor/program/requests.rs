//! What each request does.
//!
//! Must not know: how requests arrive.

use alloc::vec::Vec;

use crate::launch::{refusal, system, wanted};
use crate::monitor::Monitor;
use crate::process::{DRAIN_MS, Process, Stage};
use crate::protocol::{Body, Kind, Refusal, Request, State, Status, Streams, VERSION};
use crate::streams::{MOST_ATTACHED, now_ms};
use crate::sys::{self, Fd};

/// Statuses in one message: with ids of the longest they stay far below its limit.
const PART: usize = 100;

/// None: the answer comes later.
type Answer = Result<Option<Body>, Refusal>;

const DONE: Answer = Ok(Some(Body::Done));

impl Monitor {
    pub fn answer(&mut self, client: u64, number: u32, request: Request, descriptors: Vec<Fd>) {
        let answer = match request {
            Request::Hello { oldest, newest } => self.hello(client, oldest, newest),
            _ if !self.is_greeted(client) => Err(refusal(Kind::Malformed, 0, "the first message is no hello")),
            Request::Run(run) => self.run(client, number, run, descriptors).map(|()| None),
            Request::Keep(keep) => self.keep(keep, descriptors).map(|()| Some(Body::Done)),
            Request::Started { id } => self.started(client, number, &id),
            Request::List => self.list(client, number),
            Request::Attach { id, streams } => self.attach(&id, streams, descriptors),
            Request::Resize { id, columns, rows } => self.resize(&id, columns, rows),
            Request::CloseStdin { id } => self.close_stdin(&id),
            Request::ReopenLog { id } => self.reopen_log(&id),
            Request::Signal { id, signal } => self.signal(&id, signal),
            Request::Forget { id } => self.forget(&id),
            Request::Stop => self.stop(),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(body)) => self.tell(client, number, body),
            Err(refusal) => self.tell(client, number, Body::Refused(refusal)),
        }
    }

    fn hello(&mut self, client: u64, oldest: u16, newest: u16) -> Answer {
        if !(oldest..=newest).contains(&VERSION) {
            return Err(refusal(Kind::Version, i32::from(VERSION), "this monitor speaks another version"));
        }
        if let Some(client) = self.clients.iter_mut().find(|one| one.serial == client) {
            client.greeted = true;
        }
        Ok(Some(Body::Hello { version: VERSION, pid: sys::own_pid() }))
    }

    fn is_greeted(&self, client: u64) -> bool {
        self.clients.iter().any(|one| one.serial == client && one.greeted)
    }

    pub fn find(&mut self, id: &str) -> Result<&mut Process, Refusal> {
        self.processes.iter_mut().find(|process| process.id == id).ok_or_else(|| refusal(Kind::NotFound, 0, id))
    }

    fn started(&mut self, client: u64, number: u32, id: &str) -> Answer {
        match &mut self.find(id)?.stage {
            Stage::Starting(starting) => {
                starting.waiters.push((client, number));
                Ok(None)
            }
            Stage::Running { pid } => Ok(Some(Body::Started { pid: *pid })),
            Stage::Kept => Ok(Some(Body::Started { pid: 0 })),
            Stage::Exited(exited) => Ok(Some(Body::Started { pid: exited.pid })),
        }
    }

    fn list(&mut self, client: u64, number: u32) -> Answer {
        let statuses: Vec<Status> = self.processes.iter().map(Process::status).collect();
        let last = statuses.len().saturating_sub(1) / PART * PART;
        for part in statuses.get(..last).unwrap_or_default().chunks(PART) {
            self.tell(client, number, Body::Statuses { statuses: part.to_vec(), more: true });
        }
        let rest = statuses.get(last..).unwrap_or_default().to_vec();
        Ok(Some(Body::Statuses { statuses: rest, more: false }))
    }

    fn attach(&mut self, id: &str, streams: Streams, descriptors: Vec<Fd>) -> Answer {
        let serial = self.next_serial();
        let process = self.find(id)?;
        if !matches!(process.state(), State::Running { .. }) || process.streams.is_foreign() {
            return Err(refusal(Kind::NotRunning, 0, id));
        }
        if process.streams.attached.len() >= MOST_ATTACHED {
            return Err(refusal(Kind::Busy, 0, "too many are attached"));
        }
        process.streams.attach(serial, wanted(streams, &mut descriptors.into_iter()));
        DONE
    }

    fn resize(&mut self, id: &str, columns: u16, rows: u16) -> Answer {
        let process = self.find(id)?;
        let output = process.streams.outputs[0].as_ref().filter(|_| process.terminal.is_some());
        let terminal = output.ok_or_else(|| refusal(Kind::NotRunning, 0, id))?;
        terminal.fd.set_window_size(columns, rows).map_err(system("resize the terminal of", id.as_bytes()))?;
        DONE
    }

    fn close_stdin(&mut self, id: &str) -> Answer {
        if self.find(id)?.streams.close_stdin() { DONE } else { Err(refusal(Kind::NotRunning, 0, id)) }
    }

    fn reopen_log(&mut self, id: &str) -> Answer {
        let log = self.find(id)?.streams.log.as_mut().ok_or_else(|| refusal(Kind::NotRunning, 0, id))?;
        log.reopen().map_err(|errno| system("open log", log.path())(errno))?;
        DONE
    }

    fn signal(&mut self, id: &str, signal: u32) -> Answer {
        let process = self.find(id)?;
        // Nobody has waited for it yet, so the number is still its own.
        let Stage::Running { pid } = process.stage else { return Err(refusal(Kind::NotRunning, 0, id)) };
        sys::kill(pid as i32, signal).map_err(system("signal", id.as_bytes()))?;
        DONE
    }

    fn forget(&mut self, id: &str) -> Answer {
        // What has exited goes with this turn of the loop.
        let process = self.find(id)?;
        process.forgotten = true;
        if matches!(process.stage, Stage::Kept) {
            // It may never have had a writer, whose end would end it.
            process.exited(0, 0, sys::now(sys::Clock::Real), now_ms().saturating_sub(DRAIN_MS));
        }
        DONE
    }

    fn stop(&mut self) -> Answer {
        match self.processes.iter().find(|process| process.is_live()) {
            Some(process) => Err(refusal(Kind::Busy, 0, &process.id)),
            None => {
                self.ending = true;
                DONE
            }
        }
    }
}
