//! Streams of processes that the monitor does not run.

use std::fs::File;
use std::io::Write;

use pintle_monitor::{Attach, Error, Keep};

use crate::place::{Place, pipe, read_all, read_until};

fn keep(place: &Place, id: &str) -> (Keep, File, File) {
    let ((stdout, writer), (reader, stdin)) = (pipe(), pipe());
    let log = Some(place.log(id));
    let streams = (Some(stdin), Some(stdout.into()));
    let (stdin, stdout) = streams;
    let keep = Keep { id: id.into(), log, terminal: false, stdin_once: true, stdin, stdout, stderr: None };
    (keep, writer.into(), reader)
}

#[tokio::test]
async fn what_is_kept_is_logged_until_its_output_ends_and_then_forgotten() {
    let (place, monitor) = Place::new().await;
    let (one, mut output, _input) = keep(&place, "a");
    monitor.keep(one).await.unwrap();
    assert!(matches!(monitor.keep(keep(&place, "a").0).await, Err(Error::Exists(_))));
    assert!(matches!(monitor.signal("a", 9).await, Err(Error::NotRunning(_))));
    output.write_all(b"before\n").unwrap();
    let (reader, writer) = pipe();
    monitor.attach("a", Attach { stdout: Some(writer), ..Attach::default() }).await.unwrap();
    output.write_all(b"attached\n").unwrap();
    let (reader, _) = read_until(reader, "attached\n").await;
    std::fs::rename(place.log("a"), place.file("old.log")).unwrap();
    monitor.reopen_log("a").await.unwrap();
    output.write_all(b"after").unwrap();
    drop(output);
    assert_eq!(read_all(reader).await, "after");
    assert_eq!(place.text("old")["stdout"], "before\nattached\n");
    assert_eq!(place.text("a")["stdout"], "after");
    while !monitor.list().await.unwrap().is_empty() {}
    monitor.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_typed_reaches_the_process_and_ends_with_the_one_who_types() {
    let (place, monitor) = Place::new().await;
    let (one, _output, input) = keep(&place, "a");
    monitor.keep(one).await.unwrap();
    let (stdin, mut typed) = {
        let (read, write) = pipe();
        (read, File::from(write))
    };
    monitor.attach("a", Attach { stdin: Some(stdin.into()), ..Attach::default() }).await.unwrap();
    typed.write_all(b"hello").unwrap();
    drop(typed);
    assert_eq!(read_all(input).await, "hello");
}

#[tokio::test]
async fn what_is_forgotten_goes_at_once_though_its_output_has_not_ended() {
    let (place, monitor) = Place::new().await;
    let (one, mut output, _input) = keep(&place, "a");
    monitor.keep(one).await.unwrap();
    output.write_all(b"last\n").unwrap();
    monitor.forget("a").await.unwrap();
    assert!(monitor.list().await.unwrap().is_empty());
    assert_eq!(place.text("a")["stdout"], "last\n");
    monitor.keep(keep(&place, "a").0).await.unwrap();
}
