//! Messages between a runtime and its monitors, which may be of another version.
//!
//! Must not know: who sends them.

use pintle_monitor::protocol::{Body, Exit, Kind, Refusal, Reply, Request, Run, State, Status, Stdio, Streams};

use crate::{Dice, mutate};

fn text(dice: &mut Dice) -> String {
    String::from_utf8_lossy(&dice.bytes(30)).into_owned()
}

fn streams(dice: &mut Dice) -> Streams {
    Streams { stdin: dice.one_in(2), stdout: dice.one_in(2), stderr: dice.one_in(2) }
}

fn words(dice: &mut Dice) -> Vec<Vec<u8>> {
    (0..dice.below(6)).map(|_| dice.bytes(20)).collect()
}

fn path(dice: &mut Dice) -> Option<Vec<u8>> {
    dice.one_in(2).then(|| dice.bytes(40))
}

fn stdio(dice: &mut Dice) -> Stdio {
    let (log, stdin, stdin_once) = (path(dice), dice.one_in(2), dice.one_in(2));
    match dice.below(3) {
        0 => Stdio::Pipes { log, stdin, stdin_once },
        1 => Stdio::Terminal { log, stdin, stdin_once, columns: dice.number() as u16, rows: dice.number() as u16 },
        _ => Stdio::Fds,
    }
}

fn request(dice: &mut Dice) -> Request {
    let id = text(dice);
    match dice.below(8) {
        0 => Request::Hello { oldest: dice.number() as u16, newest: dice.number() as u16 },
        1 => Request::Run(Run {
            id,
            argv: words(dice),
            env: words(dice),
            timeout_ms: dice.number() as u32,
            pid_file: dice.bytes(30),
            exit_file: path(dice),
            memory_events: path(dice),
            stdio: stdio(dice),
            attach: streams(dice),
        }),
        2 => Request::List,
        3 => Request::Attach { id, streams: streams(dice) },
        4 => Request::Resize { id, columns: dice.number() as u16, rows: dice.number() as u16 },
        5 => Request::Signal { id, signal: dice.number() as u32 },
        6 => Request::Forget { id },
        _ => Request::ReopenLog { id },
    }
}

fn exit(dice: &mut Dice) -> Exit {
    Exit { code: dice.number() as u32, at_ns: dice.number(), oom: dice.one_in(2) }
}

fn status(dice: &mut Dice) -> Status {
    let pid = dice.number() as u32;
    let state = match dice.below(3) {
        0 => State::Starting,
        1 => State::Running { pid },
        _ => State::Exited { pid, exit: exit(dice) },
    };
    Status { id: text(dice), state, lost: dice.number() }
}

fn reply(dice: &mut Dice) -> Reply {
    let body = match dice.below(5) {
        0 => Body::Hello { version: dice.number() as u16, pid: dice.number() as u32 },
        1 => Body::Started { pid: dice.number() as u32 },
        2 => Body::Refused(Refusal { kind: Kind::System, code: dice.number() as i32, text: text(dice) }),
        3 => Body::Statuses { statuses: (0..dice.below(9)).map(|_| status(dice)).collect(), more: dice.one_in(2) },
        _ => Body::Exited { id: text(dice), exit: exit(dice) },
    };
    Reply { number: dice.number() as u32, body }
}

/// What is read is what would be written: nothing is lost on the way, nothing made up.
pub(super) fn requests_are_read_or_refused(dice: &mut Dice) {
    let mut message = request(dice).encode(dice.number() as u32);
    mutate(&mut message, dice, 6);
    if let Ok((number, request)) = Request::decode(&message) {
        assert_eq!(Request::decode(&request.encode(number)), Ok((number, request)));
    }
}

pub(super) fn replies_are_read_or_refused(dice: &mut Dice) {
    let mut message = reply(dice).encode();
    mutate(&mut message, dice, 6);
    if let Ok(reply) = Reply::decode(&message) {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }
}
