//! Bytes and inodes below a folder.
//!
//! Must not know: overlayfs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use pintle_cri::v1;

use super::{now, some};
use crate::drivers::mounts::Snapshot;
use crate::state::{Container, Entry};

/// What a container wrote.
pub fn writable_layer(dir: &Path) -> Option<v1::FilesystemUsage> {
    usage(&Snapshot::of(dir).upper, dir)
}

/// What is below a folder, as of a file system that is named by a path on it.
fn usage(below: &Path, mountpoint: &Path) -> Option<v1::FilesystemUsage> {
    if !below.is_dir() {
        return None;
    }
    let (mut bytes, mut inodes) = (0, 0);
    add(below, &mut bytes, &mut inodes);
    Some(v1::FilesystemUsage {
        timestamp: now(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: mountpoint.display().to_string() }),
        used_bytes: some(bytes),
        inodes_used: some(inodes),
    })
}

/// What all containers wrote, together; not what is mounted in their folders.
pub fn writable_layers(containers: &[Arc<Entry<Container>>], mountpoint: &Path) -> v1::FilesystemUsage {
    let (mut bytes, mut inodes) = (0, 0);
    containers.iter().for_each(|entry| add(&Snapshot::of(entry.dir()).upper, &mut bytes, &mut inodes));
    v1::FilesystemUsage {
        timestamp: now(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: mountpoint.display().to_string() }),
        used_bytes: some(bytes),
        inodes_used: some(inodes),
    }
}

/// Files may come and go meanwhile. No call in a call for a folder in a folder: containers make them as deep as they like.
fn add(path: &Path, bytes: &mut u64, inodes: &mut u64) {
    let mut count = |metadata: &fs::Metadata| {
        *bytes += metadata.blocks() * 512;
        *inodes += 1;
        metadata.is_dir()
    };
    let is_dir = fs::symlink_metadata(path).is_ok_and(|metadata| count(&metadata));
    let mut open: Vec<fs::ReadDir> = is_dir.then(|| fs::read_dir(path).ok()).flatten().into_iter().collect();
    while let Some(folder) = open.last_mut() {
        let Some(Ok(entry)) = folder.next() else {
            open.pop();
            continue;
        };
        if entry.metadata().is_ok_and(|metadata| count(&metadata)) {
            open.extend(fs::read_dir(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_counted_without_a_call_in_a_call() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("d/".repeat(200))).unwrap();
        let path = dir.path().to_owned();
        let counted = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let (mut bytes, mut inodes) = (0, 0);
            add(&path, &mut bytes, &mut inodes);
            inodes
        });
        assert_eq!(counted.unwrap().join().unwrap(), 201);
    }

    #[test]
    fn files_and_folders_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![1; 10_000]).unwrap();
        let usage = usage(dir.path(), Path::new("/")).unwrap();
        assert_eq!(usage.inodes_used.unwrap().value, 3);
        assert!(usage.used_bytes.unwrap().value >= 10_000);
    }
}
