//! Processes from their command line to their exit code.

use std::collections::BTreeMap;

use pintle_monitor::{Error, Monitor, State, read_exit_file};

use crate::place::{Place, exit_of};

#[tokio::test]
async fn a_process_runs_logs_and_its_exit_is_on_disk_before_it_is_told() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let started = monitor.run(place.logged("a", "echo out; echo err >&2; printf rest; exit 7")).await.unwrap();
    let exit = exit_of(&mut exits, "a").await;
    assert_eq!((exit.code, exit.oom), (7, false));
    assert_eq!(read_exit_file(&place.file("a.exit")).unwrap(), exit);
    let expected = [("stdout", "out\nrest"), ("stderr", "err\n")].map(|(name, text)| (name.into(), text.into()));
    assert_eq!(place.text("a"), BTreeMap::from(expected));
    let statuses = monitor.list().await.unwrap();
    assert_eq!(statuses[0].state, State::Exited { pid: started.pid, exit });
    monitor.forget("a").await.unwrap();
    assert_eq!(monitor.list().await.unwrap(), []);
    monitor.stop().await.unwrap();
    assert!(matches!(Monitor::connect(place.path()).await, Err(Error::Absent(_))));
}

#[tokio::test]
async fn a_monitor_outlives_its_clients_and_tells_the_next_one_everything() {
    let (place, first) = Place::new().await;
    let started = first.run(place.script("stays", "exec sleep 1000")).await.unwrap();
    first.run(place.script("ends", "exit 3")).await.unwrap();
    drop(first);
    let second = place.connect().await;
    let mut exits = second.exits().await.unwrap();
    assert_eq!(exit_of(&mut exits, "ends").await.code, 3);
    let statuses = second.list().await.unwrap();
    let stays = statuses.iter().find(|status| status.id == "stays").unwrap();
    assert_eq!(stays.state, State::Running { pid: started.pid });
    assert!(matches!(second.stop().await, Err(Error::Busy(_))));
    second.signal("stays", 9).await.unwrap();
    assert_eq!(exit_of(&mut exits, "stays").await.code, 137);
    second.stop().await.unwrap();
    assert_eq!(exits.next().await, None);
}
