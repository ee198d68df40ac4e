//! Writing a directory so that readers see the old files or the new ones, never a mix: upstream's AtomicWriter layout
//! (`..data` is a symbolic link to a dated directory; every visible name links through it).
//!
//! Must not know: what the files are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::Context as _;

/// A file to show: bytes, mode, and an owner when it is not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    pub owner: Option<u32>,
}

/// Relative paths to files.
pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Whether something was written there before.
pub fn has_content(target: &Path) -> bool {
    fs::symlink_metadata(target.join(DATA)).is_ok()
}

/// Shows exactly `files` in `target`; false when that was so already.
///
/// # Errors
/// A path that leaves the directory, or the file system refuses.
pub fn write(target: &Path, files: &Files) -> anyhow::Result<bool> {
    for path in files.keys() {
        anyhow::ensure!(is_safe(path), "invalid path {path:?}: must be relative and must not contain '..'");
    }
    let old = match fs::read_link(target.join(DATA)) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).context("reading the link to the current files"),
    };
    if old.as_ref().is_some_and(|old| is_same(&target.join(old), files)) {
        return Ok(false);
    }
    let dated = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let fresh = target.join(&dated);
    write_files(&fresh, files)?;
    let link = target.join(NEW_DATA);
    let _ = fs::remove_file(&link);
    symlink(&dated, &link).context("linking the new files")?;
    fs::rename(&link, target.join(DATA)).context("showing the new files")?;
    show(target, files)?;
    if let Some(old) = old {
        let _ = fs::remove_dir_all(target.join(old));
    }
    Ok(true)
}

fn is_safe(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.starts_with("..")
        && path.split('/').all(|part| part != ".." && !part.is_empty())
}

fn write_files(dir: &Path, files: &Files) -> anyhow::Result<()> {
    fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let full = dir.join(path);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&full, &file.data).with_context(|| format!("writing {}", full.display()))?;
        fs::set_permissions(&full, Permissions::from_mode(file.mode))?;
        if let Some(owner) = file.owner {
            std::os::unix::fs::chown(&full, Some(owner), None)?;
        }
    }
    Ok(())
}

/// Links each first path component through `..data`, and removes links whose file is gone.
fn show(target: &Path, files: &Files) -> anyhow::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = target.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).with_context(|| format!("linking {}", link.display()))?;
        }
    }
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with("..")) else { continue };
        if !wanted.contains(name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_same(dir: &Path, files: &Files) -> bool {
    let mut there = BTreeSet::new();
    list(dir, "", &mut there);
    let wanted: BTreeSet<String> = files.keys().cloned().collect();
    there == wanted
        && files.iter().all(|(path, file)| {
            let full = dir.join(path);
            let same_data = fs::read(&full).is_ok_and(|data| data == file.data);
            // group bits may have been added for fsGroup
            same_data && fs::metadata(&full).is_ok_and(|meta| meta.mode() & 0o700 == file.mode & 0o700)
        })
}

fn list(dir: &Path, prefix: &str, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), &format!("{name}/"), into);
        } else {
            into.insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[(&str, &str)]) -> Files {
        let file = |data: &str| File { data: data.into(), mode: 0o644, owner: None };
        all.iter().map(|(path, data)| (path.to_string(), file(data))).collect()
    }

    #[test]
    fn files_appear_change_and_go_through_one_link() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        assert!(write(dir.path(), &files(&[("a", "1"), ("d/b", "2")])).unwrap());
        assert_eq!((read("a"), read("d/b")), (Some("1".into()), Some("2".into())));
        assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
        assert!(!write(dir.path(), &files(&[("a", "1"), ("d/b", "2")])).unwrap());
        assert!(write(dir.path(), &files(&[("a", "3")])).unwrap());
        assert_eq!((read("a"), read("d/b")), (Some("3".into()), None));
        let dated =
            fs::read_dir(dir.path()).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("..2"));
        assert_eq!(dated.count(), 1);
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../b", "", "a//b"] {
            assert!(write(dir.path(), &files(&[(path, "1")])).is_err(), "{path}");
        }
    }
}
