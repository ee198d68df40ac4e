//! The protocol, whatever stands in a message.

use pintle_monitor::protocol::{Body, Exit, Keep, Kind, Refusal, Reply, Request, Run, State, Status, Stdio, Streams};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn id() -> impl Strategy<Value = String> {
    "[a-z0-9é]{1,64}"
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..64)
}

fn streams() -> impl Strategy<Value = Streams> {
    any::<[bool; 3]>().prop_map(|[stdin, stdout, stderr]| Streams { stdin, stdout, stderr })
}

fn stdio() -> impl Strategy<Value = Stdio> {
    let pipes = (option::of(bytes()), any::<bool>(), any::<bool>());
    let terminal = (option::of(bytes()), any::<[bool; 2]>(), any::<[u16; 2]>());
    prop_oneof![
        Just(Stdio::Fds),
        pipes.prop_map(|(log, stdin, stdin_once)| Stdio::Pipes { log, stdin, stdin_once }),
        terminal.prop_map(|(log, [stdin, stdin_once], [columns, rows])| {
            Stdio::Terminal { log, stdin, stdin_once, columns, rows }
        }),
    ]
}

fn run() -> impl Strategy<Value = Run> {
    let words = (id(), vec(bytes(), 1..8), vec(bytes(), 0..8), any::<u32>());
    let files = (bytes(), option::of(bytes()), option::of(bytes()));
    (words, files, stdio(), streams()).prop_map(|(words, files, stdio, attach)| {
        let (id, argv, env, timeout_ms) = words;
        let (pid_file, exit_file, memory_events) = files;
        Run { id, argv, env, timeout_ms, pid_file, exit_file, memory_events, stdio, attach }
    })
}

fn keep() -> impl Strategy<Value = Keep> {
    (id(), option::of(bytes()), any::<[bool; 2]>(), streams())
        .prop_map(|(id, log, [terminal, stdin_once], streams)| Keep { id, log, terminal, stdin_once, streams })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any::<[u16; 2]>().prop_map(|[oldest, newest]| Request::Hello { oldest, newest }),
        run().prop_map(Request::Run),
        keep().prop_map(Request::Keep),
        id().prop_map(|id| Request::Started { id }),
        Just(Request::List),
        (id(), streams()).prop_map(|(id, streams)| Request::Attach { id, streams }),
        (id(), any::<[u16; 2]>()).prop_map(|(id, [columns, rows])| Request::Resize { id, columns, rows }),
        id().prop_map(|id| Request::CloseStdin { id }),
        id().prop_map(|id| Request::ReopenLog { id }),
        (id(), any::<u32>()).prop_map(|(id, signal)| Request::Signal { id, signal }),
        id().prop_map(|id| Request::Forget { id }),
        Just(Request::Stop),
    ]
}

fn exit() -> impl Strategy<Value = Exit> {
    any::<(u32, u64, bool)>().prop_map(|(code, at_ns, oom)| Exit { code, at_ns, oom })
}

fn status() -> impl Strategy<Value = Status> {
    let state = prop_oneof![
        Just(State::Starting),
        any::<u32>().prop_map(|pid| State::Running { pid }),
        (any::<u32>(), exit()).prop_map(|(pid, exit)| State::Exited { pid, exit }),
    ];
    (id(), state, any::<u64>()).prop_map(|(id, state, lost)| Status { id, state, lost })
}

fn body() -> impl Strategy<Value = Body> {
    use Kind::{Busy, Exists, Failed, Malformed, NotFound, NotRunning, System, TimedOut, Version};
    let kinds = [Malformed, Version, NotFound, Exists, NotRunning, Busy, System, Failed, TimedOut];
    prop_oneof![
        any::<(u16, u32)>().prop_map(|(version, pid)| Body::Hello { version, pid }),
        Just(Body::Done),
        any::<u32>().prop_map(|pid| Body::Started { pid }),
        (prop::sample::select(kinds.to_vec()), any::<i32>(), ".*")
            .prop_map(|(kind, code, text)| Body::Refused(Refusal { kind, code, text })),
        (vec(status(), 0..8), any::<bool>()).prop_map(|(statuses, more)| Body::Statuses { statuses, more }),
        (id(), exit()).prop_map(|(id, exit)| Body::Exited { id, exit }),
    ]
}

proptest! {
    #[test]
    fn requests_are_read_as_they_are_written(number: u32, request in request()) {
        prop_assert_eq!(Request::decode(&request.encode(number)), Ok((number, request)));
    }

    #[test]
    fn replies_are_read_as_they_are_written(number: u32, body in body()) {
        let reply = Reply { number, body };
        prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }

    #[test]
    fn a_request_that_is_cut_or_longer_is_none(request in request(), cut: prop::sample::Index, more: u8) {
        let mut message = request.encode(1);
        prop_assert!(Request::decode(&message[..cut.index(message.len())]).is_err());
        message.push(more);
        prop_assert!(Request::decode(&message).is_err());
    }

    #[test]
    fn bytes_of_all_kinds_are_read_without_harm(bytes in vec(any::<u8>(), 0..512), kind in 0_u8..13) {
        let _ = (Request::decode(&bytes), Reply::decode(&bytes));
        // With a head that is known, the fields are reached.
        let request = [&[kind, 0, 0, 0, 0], &bytes[..]].concat();
        let reply = [&[0, 0, 0, 0, kind], &bytes[..]].concat();
        let _ = (Request::decode(&request), Reply::decode(&reply));
    }
}
