//! A client in a process of its own, which is killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::place::{Place, count, counted, exit_of};

const DIRECTORY: &str = "MONITOR_TEST_DIRECTORY";
const LINES: usize = 600_000;

/// Not a test of its own: what the killed process does.
#[tokio::test]
#[ignore = "runs as another test's client"]
async fn client() {
    let dir = std::env::var_os(DIRECTORY).unwrap();
    let monitor = pintle_monitor::Monitor::connect(dir.as_ref()).await.unwrap();
    let place = Place::existing(dir.as_ref(), monitor.pid());
    monitor.run(place.logged("loud", &count(LINES))).await.unwrap();
    println!("\nit runs");
    std::future::pending().await
}

fn start(place: &Place) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "client::client", "--ignored", "--nocapture"]).env(DIRECTORY, place.path());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

#[tokio::test]
async fn not_a_byte_and_no_exit_is_lost_when_the_client_is_killed() {
    let (place, monitor) = Place::new().await;
    drop(monitor);
    let mut client = start(&place);
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "it runs"));
    client.kill().unwrap();
    client.wait().unwrap();
    let monitor = place.connect().await;
    let mut exits = monitor.exits().await.unwrap();
    assert_eq!(exit_of(&mut exits, "loud").await.code, 0);
    assert!(place.text("loud")["stdout"] == counted(LINES), "the log is another one");
}
