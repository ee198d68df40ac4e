//! The static pod directory, followed by inotify; a slow look stands behind it.
//!
//! Must not know: mirror pods.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use inotify::{Inotify, WatchMask, Watches};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::manifest;

/// Static pods by UID.
pub type StaticPods = BTreeMap<String, Arc<Pod>>;

/// Upstream's file check period.
const RESYNC: Duration = Duration::from_secs(20);
/// Writers often touch a file more than once.
const SETTLE: Duration = Duration::from_millis(100);

/// Publishes the directory's pods, at once and after every change. `None` until the first look.
pub async fn run(dir: PathBuf, node: String, to: watch::Sender<Option<StaticPods>>, cancel: CancellationToken) {
    loop {
        let mut changes = follow(&dir);
        let (from, of) = (dir.clone(), node.clone());
        let found = tokio::task::spawn_blocking(move || read(&from, &of)).await.unwrap_or_default();
        to.send_if_modified(|known| {
            let same = known.as_ref().is_some_and(|known| known.keys().eq(found.keys()));
            if !same {
                *known = Some(found);
            }
            !same
        });
        let change = async {
            match &mut changes {
                Some(stream) => drop(stream.next().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(RESYNC) => {}
            () = change => tokio::time::sleep(SETTLE).await,
        }
    }
}

/// Events of the directory; or, for it may be made later or go and come back, of the nearest folder above it.
fn follow(dir: &Path) -> Option<impl futures::Stream + Unpin> {
    let started = || -> std::io::Result<_> {
        let inotify = Inotify::init()?;
        // what is made between the look and the watch has no event: look again
        while watch_nearest(&mut inotify.watches(), dir)? {}
        inotify.into_event_stream(vec![0; 4096])
    };
    match started() {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!("watching {}: {error}", dir.display());
            None
        }
    }
}

/// Watches the deepest existing folder on the way to `dir`; whether there is a deeper one by now.
fn watch_nearest(watches: &mut Watches, dir: &Path) -> std::io::Result<bool> {
    let coming = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
    let files = WatchMask::CLOSE_WRITE | WatchMask::MOVED_FROM | WatchMask::DELETE | WatchMask::ATTRIB;
    let mut above = None;
    for at in dir.ancestors() {
        match watches.add(at, if at == dir { coming | files } else { coming }) {
            Ok(_) => return Ok(above.is_some_and(Path::exists)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => above = Some(at),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn read(dir: &Path, node: &str) -> StaticPods {
    let mut pods = StaticPods::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let hidden = file.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
        if hidden || !file.is_file() {
            continue;
        }
        let parsed = std::fs::read_to_string(&file)
            .map_err(Into::into)
            .and_then(|text| manifest::parse(&text, node, &file.display().to_string()));
        match parsed {
            Ok(pod) => drop(pods.insert(pod.metadata.uid.clone().unwrap_or_default(), Arc::new(pod))),
            Err(error) => tracing::error!("static pod {}: {error:#}", file.display()),
        }
    }
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_made_later_or_again_is_noticed_at_once() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("kubernetes/manifests");
        let (to, mut found) = watch::channel(None);
        let running = tokio::spawn(run(dir.clone(), "node".into(), to, CancellationToken::new()));
        let manifest = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}";
        for _ in 0..3 {
            let empty = |pods: &Option<StaticPods>| pods.as_ref().is_some_and(BTreeMap::is_empty);
            tokio::time::timeout(RESYNC / 2, found.wait_for(empty)).await.unwrap().unwrap();
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("a.yaml"), manifest).unwrap();
            let one = |pods: &Option<StaticPods>| pods.as_ref().is_some_and(|pods| pods.len() == 1);
            tokio::time::timeout(RESYNC / 2, found.wait_for(one)).await.unwrap().unwrap();
            std::fs::remove_dir_all(place.path().join("kubernetes")).unwrap();
        }
        running.abort();
    }
}
