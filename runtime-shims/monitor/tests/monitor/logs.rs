//! Logs: whole, in order, whatever happens around them.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::place::{Place, count, counted, exit_of, text_of};

#[tokio::test]
async fn both_streams_arrive_byte_for_byte_and_long_lines_in_parts() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo >&2; printf '\\r\\n'; printf 'end' >&2";
    monitor.run(place.logged("a", script)).await.unwrap();
    exit_of(&mut exits, "a").await;
    let text = place.text("a");
    assert_eq!(text["stdout"], format!("{}\n\r\n", "x".repeat(40000)));
    assert_eq!(text["stderr"], "\nend");
    let log = fs::read_to_string(place.log("a")).unwrap();
    assert_eq!(log.matches(" stdout P ").count(), 2);
    assert!(log.lines().all(|line| line.len() <= 16 * 1024 + 50));
}

#[tokio::test]
async fn a_log_goes_on_in_a_fresh_file_during_output() {
    const LINES: usize = 100_000;
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    monitor.run(place.logged("a", &count(LINES))).await.unwrap();
    let mut names = Vec::new();
    for n in 0..20 {
        let name = place.file(&format!("a.log.{n}"));
        fs::rename(place.log("a"), &name).unwrap();
        monitor.reopen_log("a").await.unwrap();
        names.push(name);
    }
    exit_of(&mut exits, "a").await;
    names.push(place.log("a"));
    let whole: String = names.iter().map(|name| fs::read_to_string(name).unwrap()).collect();
    assert!(text_of(&whole)["stdout"] == counted(LINES), "the logs are other ones");
}

#[tokio::test]
async fn a_full_disk_holds_nobody_up_and_is_noted_when_it_has_room_again() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    symlink("/dev/full", place.log("a")).unwrap();
    monitor.run(place.interactive("a", "echo lost; cat; echo kept", false)).await.unwrap();
    while monitor.list().await.unwrap()[0].lost == 0 {
        tokio::task::yield_now().await;
    }
    fs::remove_file(place.log("a")).unwrap();
    monitor.reopen_log("a").await.unwrap();
    monitor.close_stdin("a").await.unwrap();
    assert_eq!(exit_of(&mut exits, "a").await.code, 0);
    let text = place.text("a");
    assert_eq!(text["stdout"], "kept\n");
    let lost = monitor.list().await.unwrap()[0].lost;
    assert_eq!(text["stderr"], format!("[pintle: {lost} bytes of log could not be written and are lost: error 28]\n"));
}

#[tokio::test]
async fn a_log_that_may_not_grow_further_ends_with_a_whole_record() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    limit_files(&place, "10000");
    monitor.run(place.logged("a", &count(1000))).await.unwrap();
    assert_eq!(exit_of(&mut exits, "a").await.code, 0);
    let text = place.text("a").remove("stdout").unwrap();
    assert!(text.len() > 5000 && counted(1000).starts_with(&text) && text.ends_with('\n'));
}

/// What a full disk does, to one process: nothing can be written beyond this size.
fn limit_files(place: &Place, size: &str) {
    let limit = format!("--fsize={size}:unlimited");
    assert!(Command::new("prlimit").args(["--pid", &place.pid().to_string(), &limit]).status().unwrap().success());
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_starts_nothing() {
    let (place, monitor) = Place::new().await;
    fs::create_dir(place.log("a")).unwrap();
    let error = monitor.run(place.logged("a", "touch started")).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot open log "), "{error}");
    assert_eq!(monitor.list().await.unwrap(), []);
}

#[tokio::test]
async fn an_exit_is_told_though_a_grandchild_keeps_the_pipe_and_its_words_are_kept() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let fifo = place.file("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("(cat {}; echo late) & echo early; exit 4", fifo.display());
    monitor.run(place.logged("a", &script)).await.unwrap();
    assert_eq!(exit_of(&mut exits, "a").await.code, 4);
    assert_eq!(place.text("a")["stdout"], "early\n");
    fs::write(&fifo, "").unwrap();
    while place.text("a")["stdout"] != "early\nlate\n" {
        tokio::task::yield_now().await;
    }
}
