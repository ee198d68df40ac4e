//! A full disk: the writer is told, nothing acknowledged is lost, and once there is room again it goes on.
//!
//! Runs itself in a mount namespace of its own, on a small tmpfs; says so and passes where that is not allowed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pintle_store::{Entry, Options, Range, Store, Write, WriteError, open};

const DIR: &str = "STORE_FULL_DIR";

#[test]
fn a_full_disk_costs_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=6m tmpfs "$1" || exit 77
        STORE_FULL_DIR="$1" exec "$2" child --exact --ignored --nocapture"#;
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .output();
    match ran {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
        other => println!("not run: no mount namespace here: {other:?}"),
    }
}

/// Not a test by itself: what runs on the small tmpfs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by a_full_disk_costs_nothing_that_was_acknowledged"]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let store: Arc<dyn Store> = Arc::new(open(dir, Options::default()).unwrap());
    let mut acknowledged = Vec::new();
    let error = loop {
        match create(&*store, acknowledged.len()).await {
            Ok(entry) => acknowledged.push(entry),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1000, "six mebibytes took {} values of 50 KB", acknowledged.len());
    };
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    // still full, still refused, still readable
    assert!(create(&*store, 5000).await.is_err());
    assert_eq!(everything(&*store).await, acknowledged);

    let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(dir).status().unwrap();
    assert!(grown.success());
    acknowledged.push(create(&*store, 9000).await.unwrap());
    assert_eq!(everything(&*store).await, acknowledged);
    drop(store);
    let store = open(dir, Options::default()).unwrap();
    assert_eq!(everything(&store).await, acknowledged);
}

async fn create(store: &dyn Store, n: usize) -> Result<Entry, WriteError> {
    store.write(Write::Create { key: format!("/r/{n:05}").into(), value: vec![b'x'; 50_000].into() }).await
}

async fn everything(store: &dyn Store) -> Vec<Entry> {
    let page = store.range(Range { prefix: "/", ..Range::default() }).await.unwrap();
    assert!(!page.more);
    page.entries
}
