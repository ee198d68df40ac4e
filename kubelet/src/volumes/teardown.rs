//! Taking a pod's directory away: unmounted first, and nothing outside it is ever touched.
//!
//! Must not know: pods that live.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use nix::mount::{MntFlags, umount2};

/// Unmounts everything below the pod's directory, then removes it.
///
/// # Errors
/// Something is still mounted there (nothing is removed then), or the file system refuses.
pub fn tear_down(pod_dir: &Path) -> anyhow::Result<()> {
    if !pod_dir.exists() {
        return Ok(());
    }
    let mut below = mounts_below(pod_dir)?;
    // inner mounts first
    below.sort_by_key(|place| std::cmp::Reverse(place.len()));
    for place in &below {
        umount2(place.as_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .with_context(|| format!("unmounting {place}"))?;
    }
    let left = mounts_below(pod_dir)?;
    anyhow::ensure!(left.is_empty(), "still mounted: {}", left.join(", "));
    pintle_daemon::tree::remove(pod_dir).with_context(|| format!("removing {}", pod_dir.display()))
}

fn mounts_below(dir: &Path) -> anyhow::Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(places.filter(|place| Path::new(place).starts_with(dir)).collect())
}

/// The kernel writes space, tab, newline and backslash in octal.
fn unescape(place: &str) -> String {
    place.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
