//! The folder of network configurations: the first by name that can be used is the one, and a change of the folder is
//! noticed.
//!
//! Must not know: what is done with a configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use inotify::{EventMask, Inotify, WatchMask};
use tracing::{info, warn};

use super::error::CallError;
use super::list::{List, Plugin};

/// A configuration may be this long.
const MOST_BYTES: u64 = 1 << 20;
/// When the folder cannot be watched, how long until the next attempt.
const AGAIN: Duration = Duration::from_secs(10);

/// The first usable configuration of `dir` by file name, as in containerd and CRI-O. Broken ones are passed over, and
/// named in the error when no other is there.
pub(crate) fn load(dir: &Path) -> Result<List, CallError> {
    let listed = fs::read_dir(dir).map_err(|error| nothing(format!("cannot list {}: {error}", dir.display())))?;
    let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).filter(|it| ends(it)).collect();
    paths.sort();
    let mut broken = Vec::new();
    for path in paths {
        match load_one(&path) {
            Ok(list) => return Ok(list),
            Err(error) => broken.push(format!("{}: {error}", path.display())),
        }
    }
    match broken.is_empty() {
        true => Err(nothing(format!("no network config found in {}", dir.display()))),
        false => Err(nothing(broken.join("; "))),
    }
}

fn nothing(why: String) -> CallError {
    CallError::NotInitialized(why)
}

fn ends(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["conf", "conflist", "json"].iter().any(|it| end == *it))
}

fn load_one(path: &Path) -> Result<List, CallError> {
    let text = read(path)?;
    if path.extension().is_none_or(|end| end != "conflist") {
        return List::parse_single(&text);
    }
    let mut list = List::parse(&text)?;
    if let (false, Some(dir)) = (list.only_inlined, path.parent()) {
        list.plugins.extend(from_folder(&dir.join(&list.name))?);
        // What is kept of it is whole.
        list.only_inlined = true;
    }
    match list.plugins.is_empty() {
        true => Err(CallError::Configuration("it has no plugins".into())),
        false => Ok(list),
    }
}

/// Plugins that others put beside a list: each `.conf` of the folder named like the network.
fn from_folder(dir: &Path) -> Result<Vec<Plugin>, CallError> {
    let Ok(listed) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "conf"));
    paths.sort();
    let parse = |text: String| serde_json::from_str(&text).map_err(|error| CallError::Configuration(error.to_string()));
    paths.iter().map(|path| Plugin::read(read(path).and_then(parse)?)).collect()
}

fn read(path: &Path) -> Result<String, CallError> {
    let long = fs::metadata(path).map(|found| found.len() > MOST_BYTES);
    match long {
        Ok(true) => Err(CallError::Configuration(format!("it is longer than {MOST_BYTES} bytes"))),
        Ok(false) => fs::read_to_string(path).map_err(|error| CallError::Configuration(error.to_string())),
        Err(error) => Err(CallError::Configuration(error.to_string())),
    }
}

/// Calls `reload` after each change of the folder, for ever.
pub(crate) async fn watch(dir: PathBuf, reload: impl Fn()) {
    loop {
        if let Err(error) = watch_once(&dir, &reload).await {
            warn!("cannot watch {}: {error}", dir.display());
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Until the folder itself is gone.
async fn watch_once(dir: &Path, reload: &impl Fn()) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let inotify = Inotify::init()?;
    let changes = WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::CREATE | WatchMask::DELETE;
    inotify.watches().add(dir, changes | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR)?;
    let mut events = inotify.into_event_stream(vec![0; 4096])?;
    loop {
        // First of all: what changed before the watch was set.
        reload();
        match events.next().await.transpose()? {
            Some(event) if !event.mask.intersects(GONE) => {}
            _ => {
                info!("{} is gone", dir.display());
                return Ok(());
            }
        }
    }
}

const GONE: EventMask = EventMask::DELETE_SELF.union(EventMask::MOVE_SELF).union(EventMask::IGNORED);

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(name: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge"}}"#)
    }

    #[test]
    fn the_first_by_name_is_taken_and_broken_ones_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("no network config found in"));
        write("00-broken.conflist", "{");
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("cni plugin not initialized:") && error.contains("00-broken.conflist"), "{error}");
        write("30-c.conf", &conf("c"));
        write("20-b.json", &conf("b"));
        write("10-a.txt", &conf("a"));
        assert_eq!(load(dir.path()).unwrap().name, "b");
    }

    #[test]
    fn plugins_beside_a_list_join_it() {
        let dir = tempfile::tempdir().unwrap();
        let list = |more: &str| format!(r#"{{"cniVersion":"1.1.0","name":"n",{more}"plugins":[{{"type":"a"}}]}}"#);
        fs::create_dir(dir.path().join("n")).unwrap();
        fs::write(dir.path().join("n/9.conf"), r#"{"type":"c"}"#).unwrap();
        fs::write(dir.path().join("n/1.conf"), r#"{"type":"b"}"#).unwrap();
        let kinds = || load(dir.path()).unwrap().plugins.into_iter().map(|it| it.kind).collect::<Vec<_>>();
        fs::write(dir.path().join("1.conflist"), list("")).unwrap();
        assert_eq!(kinds(), ["a", "b", "c"]);
        fs::write(dir.path().join("1.conflist"), list(r#""loadOnlyInlinedPlugins":true,"#)).unwrap();
        assert_eq!(kinds(), ["a"]);
    }
}
