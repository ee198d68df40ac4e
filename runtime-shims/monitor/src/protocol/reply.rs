//! What a monitor answers and tells.
//!
//! Must not know: who listens.

use alloc::string::String;
use alloc::vec::Vec;

use super::wire::{Malformed, Reader, Writer};

/// `number` is the request's, or 0 in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub number: u32,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The version that both go on to speak, and the monitor's process.
    Hello {
        version: u16,
        pid: u32,
    },
    Done,
    Started {
        pid: u32,
    },
    Refused(Refusal),
    /// A part of the answer to `List`; `more` parts follow.
    Statuses {
        statuses: Vec<Status>,
        more: bool,
    },
    /// Event: a process exited, and its exit file is written.
    Exited {
        id: String,
        exit: Exit,
    },
}

/// One process that the monitor knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub id: String,
    pub state: State,
    /// Bytes of log records that could not be written, as on a full disk.
    pub lost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The command line that starts it has not ended yet.
    Starting,
    Running {
        pid: u32,
    },
    Exited {
        pid: u32,
        exit: Exit,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: u32,
    /// Nanoseconds since 1970.
    pub at_ns: u64,
    /// Its cgroup says that the kernel killed a process in it for want of memory.
    pub oom: bool,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    /// A system call's error, or the exit code of a command line, else 0.
    pub code: i32,
    /// What was tried; of a command line, the end of what it wrote to its standard error.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The message is none of this version.
    Malformed,
    /// The two have no version in common.
    Version,
    /// There is no process of this id.
    NotFound,
    /// There is one already.
    Exists,
    /// It does not run, has no such stream, or is no terminal.
    NotRunning,
    /// Something still runs.
    Busy,
    /// A system call failed.
    System,
    /// The command line ended with an error, or left no process.
    Failed,
    /// The command line took too long.
    TimedOut,
}

const KINDS: [Kind; 9] = [
    Kind::Malformed,
    Kind::Version,
    Kind::NotFound,
    Kind::Exists,
    Kind::NotRunning,
    Kind::Busy,
    Kind::System,
    Kind::Failed,
    Kind::TimedOut,
];

impl Reply {
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.u32(self.number);
        match &self.body {
            Body::Hello { version, pid } => to.u8(1).u16(*version).u32(*pid),
            Body::Done => to.u8(2),
            Body::Started { pid } => to.u8(3).u32(*pid),
            Body::Refused(refusal) => to.u8(4).u8(refusal.kind as u8).i32(refusal.code).bytes(refusal.text.as_bytes()),
            Body::Statuses { statuses, more } => {
                to.u8(5).bool(*more).u32(u32::try_from(statuses.len()).unwrap_or(u32::MAX));
                statuses.iter().for_each(|status| status.encode(&mut to));
                &mut to
            }
            Body::Exited { id, exit } => {
                exit.encode(to.u8(6).bytes(id.as_bytes()));
                &mut to
            }
        };
        to.finish()
    }

    /// # Errors
    /// [`Malformed`] for anything that no monitor of this version sends.
    pub fn decode(message: &[u8]) -> Result<Reply, Malformed> {
        let mut from = Reader::new(message);
        let number = from.u32()?;
        let body = match from.u8()? {
            1 => Body::Hello { version: from.u16()?, pid: from.u32()? },
            2 => Body::Done,
            3 => Body::Started { pid: from.u32()? },
            4 => Body::Refused(Refusal {
                kind: KINDS.get(usize::from(from.u8()?)).copied().ok_or(Malformed)?,
                code: from.i32()?,
                text: from.text()?,
            }),
            5 => {
                let more = from.bool()?;
                let statuses = (0..from.u32()?).map(|_| Status::decode(&mut from)).collect::<Result<_, _>>()?;
                Body::Statuses { statuses, more }
            }
            6 => Body::Exited { id: from.text()?, exit: Exit::decode(&mut from)? },
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(Reply { number, body })
    }
}

impl Status {
    fn encode(&self, to: &mut Writer) {
        to.bytes(self.id.as_bytes());
        match self.state {
            State::Starting => {
                to.u8(0);
            }
            State::Running { pid } => {
                to.u8(1).u32(pid);
            }
            State::Exited { pid, exit } => exit.encode(to.u8(2).u32(pid)),
        }
        to.u64(self.lost);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Status, Malformed> {
        let id = from.text()?;
        let state = match from.u8()? {
            0 => State::Starting,
            1 => State::Running { pid: from.u32()? },
            2 => State::Exited { pid: from.u32()?, exit: Exit::decode(from)? },
            _ => return Err(Malformed),
        };
        Ok(Status { id, state, lost: from.u64()? })
    }
}

impl Exit {
    fn encode(&self, to: &mut Writer) {
        to.u32(self.code).u64(self.at_ns).bool(self.oom);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Exit, Malformed> {
        Ok(Exit { code: from.u32()?, at_ns: from.u64()?, oom: from.bool()? })
    }
}
