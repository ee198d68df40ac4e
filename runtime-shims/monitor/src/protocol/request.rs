//! What a client asks of a monitor.
//!
//! Must not know: who asks, and what is done about it.

use alloc::string::String;
use alloc::vec::Vec;

use super::LONGEST_ID;
use super::wire::{Malformed, Reader, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The versions that the client speaks; answered by `Hello`.
    Hello {
        oldest: u16,
        newest: u16,
    },
    /// Answered by `Started` once the process runs, or refused.
    Run(Run),
    /// Answered by `Done` once the streams are read, or refused. The descriptors of the streams come with it.
    Keep(Keep),
    /// Answered as the `Run` of this id is or was, whoever asked for it.
    Started {
        id: String,
    },
    /// Answered by one `Statuses` or several.
    List,
    /// The descriptors of the streams that are set come with it, in the order of the fields.
    Attach {
        id: String,
        streams: Streams,
    },
    Resize {
        id: String,
        columns: u16,
        rows: u16,
    },
    CloseStdin {
        id: String,
    },
    ReopenLog {
        id: String,
    },
    Signal {
        id: String,
        signal: u32,
    },
    /// At once, or as soon as the process has exited and that has been told.
    Forget {
        id: String,
    },
    /// Refused while anything runs.
    Stop,
}

/// A command line that leaves a process behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Names the process in every later request.
    pub id: String,
    /// `argv[0]` is the program's path.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// The command line is killed when it takes longer.
    pub timeout_ms: u32,
    /// Where the command line writes the number of the process that it leaves behind.
    pub pid_file: Vec<u8>,
    pub exit_file: Option<Vec<u8>>,
    /// The cgroup's `memory.events` (v2) or `memory.oom_control` (v1).
    pub memory_events: Option<Vec<u8>>,
    pub stdio: Stdio,
    /// Attached before the first byte; the descriptors come with the request.
    pub attach: Streams,
}

/// The streams of a process that somebody else runs; ours are the other ends. All is forgotten when its outputs have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Names it in every later request.
    pub id: String,
    pub log: Option<Vec<u8>>,
    /// Its output is a terminal's, and its input has no end.
    pub terminal: bool,
    pub stdin_once: bool,
    /// Which it has; the input is for writing, the outputs are for reading.
    pub streams: Streams,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdio {
    Pipes {
        log: Option<Vec<u8>>,
        stdin: bool,
        stdin_once: bool,
    },
    Terminal {
        log: Option<Vec<u8>>,
        stdin: bool,
        stdin_once: bool,
        columns: u16,
        rows: u16,
    },
    /// The three descriptors come with the request.
    Fds,
}

/// Which streams a client brings descriptors for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Streams {
    /// How many descriptors that is.
    pub fn count(self) -> usize {
        usize::from(self.stdin) + usize::from(self.stdout) + usize::from(self.stderr)
    }

    fn encode(self, to: &mut Writer) {
        to.bool(self.stdin).bool(self.stdout).bool(self.stderr);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Streams { stdin: from.bool()?, stdout: from.bool()?, stderr: from.bool()? })
    }
}

impl Request {
    /// How many descriptors must come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Request::Run(run) => run.attach.count() + if run.stdio == Stdio::Fds { 3 } else { 0 },
            Request::Attach { streams, .. } | Request::Keep(Keep { streams, .. }) => streams.count(),
            _ => 0,
        }
    }

    pub fn encode(&self, number: u32) -> Vec<u8> {
        let mut to = Writer::default();
        to.u8(self.tag()).u32(number);
        match self {
            Request::Hello { oldest, newest } => {
                to.u16(*oldest).u16(*newest);
            }
            Request::Run(run) => run.encode(&mut to),
            Request::Keep(keep) => keep.encode(&mut to),
            Request::List | Request::Stop => {}
            Request::Attach { id, streams } => streams.encode(to.bytes(id.as_bytes())),
            Request::Resize { id, columns, rows } => {
                to.bytes(id.as_bytes()).u16(*columns).u16(*rows);
            }
            Request::Signal { id, signal } => {
                to.bytes(id.as_bytes()).u32(*signal);
            }
            Request::Started { id }
            | Request::CloseStdin { id }
            | Request::ReopenLog { id }
            | Request::Forget { id } => {
                to.bytes(id.as_bytes());
            }
        }
        to.finish()
    }

    fn tag(&self) -> u8 {
        match self {
            Request::Hello { .. } => 1,
            Request::Run(_) => 2,
            Request::Started { .. } => 3,
            Request::List => 4,
            Request::Attach { .. } => 5,
            Request::Resize { .. } => 6,
            Request::CloseStdin { .. } => 7,
            Request::ReopenLog { .. } => 8,
            Request::Signal { .. } => 9,
            Request::Forget { .. } => 10,
            Request::Stop => 11,
            Request::Keep(_) => 12,
        }
    }

    /// The request and its number.
    ///
    /// # Errors
    /// [`Malformed`] for anything that no client of this version sends.
    pub fn decode(message: &[u8]) -> Result<(u32, Request), Malformed> {
        let mut from = Reader::new(message);
        let (tag, number) = (from.u8()?, from.u32()?);
        let request = match tag {
            1 => Request::Hello { oldest: from.u16()?, newest: from.u16()? },
            2 => Request::Run(Run::decode(&mut from)?),
            3 => Request::Started { id: id(&mut from)? },
            4 => Request::List,
            5 => Request::Attach { id: id(&mut from)?, streams: Streams::decode(&mut from)? },
            6 => Request::Resize { id: id(&mut from)?, columns: from.u16()?, rows: from.u16()? },
            7 => Request::CloseStdin { id: id(&mut from)? },
            8 => Request::ReopenLog { id: id(&mut from)? },
            9 => Request::Signal { id: id(&mut from)?, signal: from.u32()? },
            10 => Request::Forget { id: id(&mut from)? },
            11 => Request::Stop,
            12 => Request::Keep(Keep::decode(&mut from)?),
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok((number, request))
    }
}

fn id(from: &mut Reader<'_>) -> Result<String, Malformed> {
    let id = from.text()?;
    if id.is_empty() || id.len() > LONGEST_ID { Err(Malformed) } else { Ok(id) }
}

impl Run {
    fn encode(&self, to: &mut Writer) {
        to.bytes(self.id.as_bytes()).list(&self.argv).list(&self.env).u32(self.timeout_ms).bytes(&self.pid_file);
        to.optional(self.exit_file.as_deref()).optional(self.memory_events.as_deref());
        match &self.stdio {
            Stdio::Fds => {
                to.u8(0);
            }
            Stdio::Pipes { log, stdin, stdin_once } => {
                to.u8(1).optional(log.as_deref()).bool(*stdin).bool(*stdin_once);
            }
            Stdio::Terminal { log, stdin, stdin_once, columns, rows } => {
                to.u8(2).optional(log.as_deref()).bool(*stdin).bool(*stdin_once).u16(*columns).u16(*rows);
            }
        }
        self.attach.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Run, Malformed> {
        let run = Run {
            id: id(from)?,
            argv: from.list()?,
            env: from.list()?,
            timeout_ms: from.u32()?,
            pid_file: from.bytes()?,
            exit_file: from.optional()?,
            memory_events: from.optional()?,
            stdio: Stdio::decode(from)?,
            attach: Streams::decode(from)?,
        };
        if run.argv.is_empty() { Err(Malformed) } else { Ok(run) }
    }
}

impl Keep {
    fn encode(&self, to: &mut Writer) {
        to.bytes(self.id.as_bytes()).optional(self.log.as_deref()).bool(self.terminal).bool(self.stdin_once);
        self.streams.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Keep, Malformed> {
        Ok(Keep {
            id: id(from)?,
            log: from.optional()?,
            terminal: from.bool()?,
            stdin_once: from.bool()?,
            streams: Streams::decode(from)?,
        })
    }
}

impl Stdio {
    fn decode(from: &mut Reader<'_>) -> Result<Stdio, Malformed> {
        Ok(match from.u8()? {
            0 => Stdio::Fds,
            1 => Stdio::Pipes { log: from.optional()?, stdin: from.bool()?, stdin_once: from.bool()? },
            2 => Stdio::Terminal {
                log: from.optional()?,
                stdin: from.bool()?,
                stdin_once: from.bool()?,
                columns: from.u16()?,
                rows: from.u16()?,
            },
            _ => return Err(Malformed),
        })
    }
}
