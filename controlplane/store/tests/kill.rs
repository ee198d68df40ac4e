//! kill -9 between any two writes: what was acknowledged is there after reopening.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_store::{Options, Range, Store, Write, open};

const DIR: &str = "STORE_KILL_DIR";

/// Not a test by itself: the child of the next one. Eight tasks write each its own keys, updating and deleting
/// some, and say on standard output what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by every_acknowledged_write_survives_kill_9"]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store: Arc<dyn Store> = Arc::new(
        open(Path::new(&dir), Options { max_history: 500, journal: 256 << 10, ..Options::default() }).unwrap(),
    );
    let run = store.revision().await.unwrap();
    let tasks = (0..8).map(|task| {
        let store = store.clone();
        async move {
            for n in 0.. {
                let key = format!("/{run}/{task}/{n}");
                write_and_say(&*store, &key, n).await;
            }
        }
    });
    futures::future::join_all(tasks).await;
}

async fn write_and_say(store: &dyn Store, key: &str, n: u64) {
    let say = |revision: u64| writeln!(std::io::stdout().lock(), "ack {key} {revision}").unwrap();
    let write = Write::Create { key: key.into(), value: vec![b'x'; 700].into() };
    let entry = store.write(write).await.unwrap();
    say(entry.mod_revision);
    if n.is_multiple_of(3) {
        let update = Write::Update { key: key.into(), expect: entry.mod_revision, value: vec![b'y'; 900].into() };
        let entry = store.write(update).await.unwrap();
        say(entry.mod_revision);
        if n.is_multiple_of(2) {
            let gone = store.write(Write::Delete { key: key.into(), expect: entry.mod_revision }).await.unwrap();
            say(gone.mod_revision);
        }
    }
}

/// Runs the child for `time`, kills it, and answers what it acknowledged: key → revision.
fn acknowledged(dir: &Path, time: Duration) -> HashMap<String, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid = Pid::from_raw(child.id() as i32);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(time);
        kill(pid, Signal::SIGKILL).unwrap();
    });
    let mut seen = HashMap::new();
    for line in lines.map_while(Result::ok) {
        // the test harness writes its own words before the first
        let Some((_, ack)) = line.split_once("ack ") else { continue };
        let Some((key, revision)) = ack.split_once(' ') else { continue };
        seen.insert(key.to_owned(), revision.parse().unwrap());
    }
    killer.join().unwrap();
    child.wait().unwrap();
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: HashMap<String, u64> = HashMap::new();
    for _ in 0..12 {
        let time = Duration::from_millis(rand::random_range(60..700));
        expected.extend(acknowledged(dir.path(), time));
        let store = open(dir.path(), Options::default()).unwrap();
        let found = everything(&store).await;
        let newest = expected.values().max().copied().unwrap_or(0);
        assert!(store.revision().await.unwrap() >= newest);
        for (key, acknowledged) in &expected {
            match found.get(key) {
                // an unacknowledged change may have followed
                Some(revision) => assert!(revision >= acknowledged, "{key}: {revision} < {acknowledged}"),
                None => assert!(deleted_in_time(key), "{key} is lost"),
            }
        }
    }
    assert!(expected.len() > 100, "the child wrote only {} keys", expected.len());
}

/// Whether `write_and_say` deletes this key.
fn deleted_in_time(key: &str) -> bool {
    key.rsplit('/').next().and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n.is_multiple_of(6))
}

async fn everything(store: &dyn Store) -> HashMap<String, u64> {
    let mut found = HashMap::new();
    let mut after: Option<String> = None;
    loop {
        let range = Range { prefix: "/", start_after: after.as_deref(), ..Range::default() };
        let page = store.range(range).await.unwrap();
        found.extend(page.entries.iter().map(|entry| (entry.key.to_string(), entry.mod_revision)));
        after = page.entries.last().map(|entry| entry.key.to_string());
        if !page.more {
            return found;
        }
    }
}
