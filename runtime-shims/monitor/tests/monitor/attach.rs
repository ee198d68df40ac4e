//! Attaching to what runs.

use std::io::Write;

use pintle_monitor::{Attach, Error, Monitor, Run, Stdio};

use crate::place::{Place, count, counted, exit_of, pipe, read_all, read_until};

#[tokio::test]
async fn two_clients_see_all_that_comes_and_type_both() {
    let (place, first) = Place::new().await;
    let second = place.connect().await;
    let mut exits = first.exits().await.unwrap();
    first.run(place.interactive("a", "while read line; do echo $line; echo $line >&2; done", false)).await.unwrap();
    let mut clients = Vec::new();
    for monitor in [&first, &second] {
        let ((stdin, typed), (out, stdout), (err, stderr)) = (pipe(), pipe(), pipe());
        let attach = Attach { stdin: Some(stdin.into()), stdout: Some(stdout), stderr: Some(stderr) };
        monitor.attach("a", attach).await.unwrap();
        clients.push((std::fs::File::from(typed), out, err));
    }
    let (one, two) = (clients.remove(0), clients.remove(0));
    let ((mut typed, one, _), (mut typed_too, two, two_err)) = (one, two);
    typed.write_all(b"hello\n").unwrap();
    let (one, _) = read_until(one, "hello\n").await;
    typed_too.write_all(b"world\n").unwrap();
    let (_, _) = read_until(one, "world\n").await;
    // One that leaves ends neither the process nor the other one.
    drop(typed);
    first.close_stdin("a").await.unwrap();
    assert_eq!(read_all(two).await, "hello\nworld\n");
    assert_eq!(read_all(two_err).await, "hello\nworld\n");
    assert_eq!(exit_of(&mut exits, "a").await.code, 0);
    assert!(matches!(first.attach("a", Attach::default()).await, Err(Error::NotRunning(_))));
}

#[tokio::test]
async fn the_input_of_a_process_that_reads_once_ends_with_the_first_client() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    monitor.run(place.interactive("a", "cat", true)).await.unwrap();
    let (stdin, typed) = pipe();
    monitor.attach("a", Attach { stdin: Some(stdin.into()), ..Attach::default() }).await.unwrap();
    // More than any pipe holds.
    let text = counted(20_000);
    let (mut typed, sent) = (std::fs::File::from(typed), text.clone());
    tokio::task::spawn_blocking(move || typed.write_all(sent.as_bytes())).await.unwrap().unwrap();
    assert_eq!(exit_of(&mut exits, "a").await.code, 0);
    assert!(place.text("a")["stdout"] == text, "the log is another one");
}

#[tokio::test]
async fn one_attached_from_the_start_gets_every_byte_at_its_own_pace() {
    let (place, monitor) = Place::new().await;
    let (out, stdout) = pipe();
    let attach = Attach { stdout: Some(stdout), ..Attach::default() };
    let run = Run { attach, stdio: Stdio::Null, ..place.script("a", &count(100_000)) };
    monitor.run(run).await.unwrap();
    assert!(read_all(out).await == counted(100_000), "it is another text");
}

#[tokio::test]
async fn one_who_reads_nothing_is_let_go_and_the_process_ends() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let (out, stdout) = pipe();
    let attach = Attach { stdout: Some(stdout), ..Attach::default() };
    monitor.run(Run { attach, ..place.logged("a", &count(10_000)) }).await.unwrap();
    assert_eq!(exit_of(&mut exits, "a").await.code, 0);
    assert!(place.text("a")["stdout"] == counted(10_000), "the log is another one");
    assert!(counted(10_000).starts_with(&read_all(out).await));
}

#[tokio::test]
async fn a_client_that_goes_away_is_no_reason_to_end() {
    let (place, monitor) = Place::new().await;
    monitor.run(place.interactive("a", "cat; echo after", false)).await.unwrap();
    for _ in 0..50 {
        let ((stdin, typed), (out, stdout)) = (pipe(), pipe());
        let monitor = Monitor::connect(place.path()).await.unwrap();
        let attach = Attach { stdin: Some(stdin.into()), stdout: Some(stdout), stderr: None };
        monitor.attach("a", attach).await.unwrap();
        drop((typed, out));
    }
    let mut exits = monitor.exits().await.unwrap();
    monitor.close_stdin("a").await.unwrap();
    assert_eq!(exit_of(&mut exits, "a").await.code, 0);
    assert_eq!(place.text("a")["stdout"], "after\n");
}
