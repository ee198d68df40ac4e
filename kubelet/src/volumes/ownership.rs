//! fsGroup: files belong to a group that the pod's processes have. Source: upstream's SetVolumeOwnership.
//!
//! Must not know: which volumes want it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::Path;

use anyhow::Context as _;

/// Hands `path` and all below to `group`: readable, writable if `writable`, directories inherit the group.
///
/// No call in a call for a folder in a folder: containers make them as deep as they like.
pub fn give_to_group(path: &Path, group: i64, writable: bool) -> anyhow::Result<()> {
    let gid = u32::try_from(group).context("fsGroup is out of range")?;
    let mut open: Vec<fs::ReadDir> = give_one(path, gid, writable)?.into_iter().collect();
    while let Some(folder) = open.last_mut() {
        match folder.next().transpose()? {
            Some(entry) => open.extend(give_one(&entry.path(), gid, writable)?),
            None => drop(open.pop()),
        }
    }
    Ok(())
}

/// What is in it, if it is a folder.
fn give_one(path: &Path, gid: u32, writable: bool) -> anyhow::Result<Option<fs::ReadDir>> {
    let meta = fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    lchown(path, None, Some(gid)).with_context(|| format!("giving {} to group {gid}", path.display()))?;
    if meta.file_type().is_symlink() {
        return Ok(None);
    }
    let mut mode = meta.permissions().mode() | if writable { 0o660 } else { 0o440 };
    if meta.is_dir() {
        mode |= 0o2110;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(meta.is_dir().then(|| fs::read_dir(path)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_given_without_a_call_in_a_call() {
        let dir = tempfile::tempdir().unwrap();
        let deepest = dir.path().join("d/".repeat(200));
        fs::create_dir_all(&deepest).unwrap();
        let (path, group) = (dir.path().to_owned(), i64::from(nix::unistd::getgid().as_raw()));
        let small = std::thread::Builder::new().stack_size(64 << 10);
        small.spawn(move || give_to_group(&path, group, true).unwrap()).unwrap().join().unwrap();
        assert_eq!(fs::metadata(deepest).unwrap().permissions().mode() & 0o2070, 0o2070);
    }
}
