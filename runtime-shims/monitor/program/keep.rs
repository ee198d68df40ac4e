//! The streams of processes that somebody else runs.
//!
//! Must not know: who runs them.

use alloc::vec::Vec;

use crate::launch::{MOST_PROCESSES, open_log, refusal, system, wanted};
use crate::lines::Lines;
use crate::monitor::Monitor;
use crate::process::{Process, Stage};
use crate::protocol::{Keep, Kind, Refusal};
use crate::streams::{Output, Stdin, Streams};
use crate::sys::{self, Fd};

impl Monitor {
    pub fn keep(&mut self, keep: Keep, descriptors: Vec<Fd>) -> Result<(), Refusal> {
        if self.find(&keep.id).is_ok() {
            return Err(refusal(Kind::Exists, 0, &keep.id));
        }
        if self.processes.len() >= MOST_PROCESSES {
            return Err(refusal(Kind::Busy, 0, "too many processes are not forgotten"));
        }
        let log = open_log(keep.log.as_deref())?;
        let ends = wanted(keep.streams, &mut descriptors.into_iter());
        let mut streams = streams(ends, keep.terminal).map_err(system("use the streams of", keep.id.as_bytes()))?;
        streams.log = log;
        streams.stdin_once = keep.stdin_once;
        let serial = self.next_serial();
        self.processes.push(Process {
            serial,
            id: keep.id,
            stage: Stage::Kept,
            streams,
            pid_file: Vec::new(),
            exit_file: None,
            memory: None,
            // How it ends is told by whoever runs it.
            forgotten: true,
            terminal: None,
        });
        Ok(())
    }
}

fn streams([stdin, stdout, stderr]: [Option<Fd>; 3], terminal: bool) -> sys::Result<Streams> {
    for end in [&stdin, &stdout, &stderr].into_iter().flatten() {
        end.never_wait()?;
    }
    let output = |fd: Option<Fd>, name: &'static [u8]| {
        fd.map(|fd| Output { fd, lines: Some(Lines::new(name, terminal)) })
    };
    let outputs = [output(stdout, b"stdout"), output(stderr, b"stderr")];
    Ok(Streams { outputs, stdin: stdin.map(|fd| Stdin::new(fd, terminal)), ..Streams::default() })
}
