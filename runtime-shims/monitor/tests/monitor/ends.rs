//! What a monitor is to the system, what clients cannot do to it, and how it ends.

use std::fs;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg, socket,
};
use pintle_monitor::protocol::{Body, Kind, Reply, Request};
use pintle_monitor::{Error, Monitor, PROGRAM, SOCKET};

use crate::place::{Place, exit_of, pipe};

#[tokio::test]
async fn it_is_small_detached_and_named() {
    let (place, _monitor) = Place::new().await;
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", place.pid())).unwrap();
    let name = place.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(read("cmdline"), format!("pintle-monitor {name}\0{}\0", place.path().display()));
    assert_eq!(read("comm"), "pintle-monitor\n");
    let session = read("stat").split(' ').nth(5).unwrap().to_owned();
    assert_eq!(session, place.pid().to_string());
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", place.pid())).unwrap().to_str(), Some("/"));
    // 0, 1, 2; its socket, the client, signals, the directory.
    assert_eq!(fs::read_dir(format!("/proc/{}/fd", place.pid())).unwrap().count(), 7);
    let sizes = read("smaps_rollup");
    let size = |name: &str| {
        let line = sizes.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    println!("{sizes}");
    // what is its own, where its stack begins may cost it a page or two; the program's pages are every monitor's
    assert!(size("Anonymous:") <= 40, "{sizes}");
    assert!(size("Private_Dirty:") <= 128, "{sizes}");
}

#[tokio::test]
async fn it_joins_its_cgroups_before_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("pintle-monitor-test-{}", std::process::id());
    let roots = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let roots = roots.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    // Version 2, or a hierarchy of version 1 that wants no settings first.
    let Some(root) = roots.into_iter().find(|root| root.ends_with("/pids") || *root == "/sys/fs/cgroup") else {
        return;
    };
    let cgroup = std::path::Path::new(root).join(&name);
    let monitor = Monitor::spawn(dir.path(), std::slice::from_ref(&cgroup)).await.unwrap();
    let joined = fs::read_to_string(format!("/proc/{}/cgroup", monitor.pid())).unwrap();
    assert!(joined.lines().any(|line| line.ends_with(&format!("/{name}"))), "{joined}");
    monitor.stop().await.unwrap();
    while fs::remove_dir(&cgroup).is_err() {
        tokio::task::yield_now().await;
    }
    let error = Monitor::spawn(dir.path(), &["/proc/nowhere".into()]).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot make cgroup /proc/nowhere"), "{error}");
    let error = Monitor::spawn(dir.path(), &[dir.path().join("none")]).await.unwrap_err().to_string();
    assert!(error.contains("join cgroup"), "{error}");
    assert!(matches!(Monitor::connect(dir.path()).await, Err(Error::Absent(_))));
}

#[tokio::test]
async fn one_that_was_killed_is_reported_as_gone_and_another_can_take_its_place() {
    let (place, monitor) = Place::new().await;
    let started = monitor.run(place.script("a", "exec sleep 1000")).await.unwrap();
    let mut exits = monitor.exits().await.unwrap();
    assert!(matches!(Monitor::spawn(place.path(), &[]).await, Err(Error::Serves(_))));
    kill(place.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(exits.next().await, None);
    monitor.closed().await;
    assert!(matches!(monitor.list().await, Err(Error::Gone(_))));
    assert!(matches!(Monitor::connect(place.path()).await, Err(Error::Gone(_))));
    kill(nix::unistd::Pid::from_raw(started.pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let next = Monitor::spawn(place.path(), &[]).await.unwrap();
    assert_eq!(next.list().await.unwrap(), []);
    next.stop().await.unwrap();
}

#[tokio::test]
async fn it_ends_when_its_directory_is_removed_and_nothing_runs() {
    let (place, monitor) = Place::new().await;
    monitor.run(place.script("a", "exec sleep 1000")).await.unwrap();
    fs::remove_dir_all(place.path()).unwrap();
    let mut exits = monitor.exits().await.unwrap();
    monitor.signal("a", 15).await.unwrap();
    assert_eq!(exit_of(&mut exits, "a").await.code, 143);
    monitor.closed().await;
}

/// Nobody would ever find it, nor tell it that its directory was removed.
#[test]
fn it_does_not_begin_where_its_socket_is_gone_already() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = fs::File::from(memfd_create(c"monitor", MFdFlags::empty()).unwrap());
    program.write_all(PROGRAM).unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    fs::remove_file(dir.path().join(SOCKET)).unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    let output = command.arg(dir.path()).stdin(OwnedFd::from(listener)).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.starts_with("find the socket"), "{told:?}");
}

#[tokio::test]
async fn it_ends_on_sigterm_as_soon_as_nothing_runs() {
    let (place, monitor) = Place::new().await;
    monitor.run(place.script("a", "exec sleep 1000")).await.unwrap();
    kill(place.pid(), Signal::SIGTERM).unwrap();
    monitor.signal("a", 15).await.unwrap();
    monitor.closed().await;
    assert!(!place.file(SOCKET).exists());
}

/// A client that keeps to nothing.
fn raw(place: &Place) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let dir = fs::File::open(place.path()).unwrap();
    let address = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    connect(socket.as_raw_fd(), &UnixAddr::new(address.as_str()).unwrap()).unwrap();
    socket
}

fn ask(socket: &OwnedFd, message: &[u8]) -> Body {
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], &[], MsgFlags::empty(), None).unwrap();
    let mut room = [0; 65536];
    let length = recv(socket.as_raw_fd(), &mut room, MsgFlags::empty()).unwrap();
    Reply::decode(&room[..length]).unwrap().body
}

fn refused(body: &Body) -> Option<Kind> {
    if let Body::Refused(refusal) = body { Some(refusal.kind) } else { None }
}

#[tokio::test]
async fn bytes_of_all_kinds_are_refused_and_change_nothing() {
    let (place, monitor) = Place::new().await;
    let client = raw(&place);
    assert_eq!(refused(&ask(&client, &Request::List.encode(1))), Some(Kind::Malformed));
    assert_eq!(refused(&ask(&client, &Request::Hello { oldest: 2, newest: 9 }.encode(1))), Some(Kind::Version));
    assert!(matches!(ask(&client, &Request::Hello { oldest: 0, newest: 9 }.encode(1)), Body::Hello { version: 1, .. }));
    let attach = Request::Attach { id: "a".into(), streams: Default::default() }.encode(1);
    for cut in 1..attach.len() {
        assert_eq!(refused(&ask(&client, &attach[..cut])), Some(Kind::Malformed));
    }
    assert_eq!(refused(&ask(&client, &attach)), Some(Kind::NotFound));
    assert_eq!(refused(&ask(&client, &vec![2; 100_000])), Some(Kind::Malformed));
    // Descriptors that nobody asked for are closed.
    let fds = || fs::read_dir(format!("/proc/{}/fd", place.pid())).unwrap().count();
    let before = fds();
    for _ in 0..10 {
        let (read, write) = pipe();
        let rights = [read.as_raw_fd(), write.as_raw_fd()];
        let list = Request::List.encode(1);
        let control = [ControlMessage::ScmRights(&rights)];
        let _ = sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(&list)], &control, MsgFlags::empty(), None).unwrap();
        let mut room = [0; 1000];
        let _ = recv(client.as_raw_fd(), &mut room, MsgFlags::empty()).unwrap();
    }
    assert_eq!(fds(), before);
    monitor.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go_and_the_others_served() {
    let (place, monitor) = Place::new().await;
    let deaf = raw(&place);
    let hello = Request::Hello { oldest: 1, newest: 1 }.encode(1);
    let list = Request::List.encode(2);
    let send = move || {
        for message in std::iter::once(&hello).chain(std::iter::repeat(&list)) {
            let parts = [IoSlice::new(message)];
            if sendmsg::<()>(deaf.as_raw_fd(), &parts, &[], MsgFlags::MSG_NOSIGNAL, None).is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), tokio::task::spawn_blocking(send)).await.unwrap().unwrap();
    monitor.stop().await.unwrap();
}

#[tokio::test]
async fn clients_that_no_descriptor_is_left_for_wait_until_there_is_one() {
    let (place, monitor) = Place::new().await;
    let limit = |count: &str| {
        let arguments = ["--pid", &place.pid().to_string(), &format!("--nofile={count}:4096")];
        assert!(std::process::Command::new("prlimit").args(arguments).status().unwrap().success());
    };
    limit("7");
    let second = tokio::spawn({
        let dir = place.path().to_owned();
        async move { Monitor::connect(&dir).await }
    });
    assert!(matches!(monitor.run(place.logged("a", "")).await, Err(Error::Io { .. })));
    limit("100");
    assert_eq!(second.await.unwrap().unwrap().list().await.unwrap(), []);
}

#[tokio::test]
async fn what_is_too_long_is_not_sent() {
    let (place, monitor) = Place::new().await;
    let mut run = place.script("a", "");
    run.env.push(("X".into(), "x".repeat(70_000).into()));
    assert!(matches!(monitor.run(run).await, Err(Error::TooLong(_))));
}
