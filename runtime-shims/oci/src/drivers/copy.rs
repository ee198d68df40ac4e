//! Copying a folder of an image, with owners and modes; links stay links.
//!
//! Must not know: what it is copied for.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Copies what is in `from` into the folder `to`, which takes its owner and mode; devices and sockets are left out.
pub fn tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// No call in a call for a folder in a folder: they are as deep as the image's maker liked.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut open: Vec<(fs::ReadDir, PathBuf)> = copy_one(from, to)?.into_iter().collect();
    while let Some((folder, to)) = open.last_mut() {
        let Some(entry) = folder.next().transpose()? else {
            open.pop();
            continue;
        };
        let to = to.join(entry.file_name());
        open.extend(copy_one(&entry.path(), &to)?);
    }
    Ok(())
}

/// What is in a folder that was made, and where it is to be copied.
fn copy_one(from: &Path, to: &Path) -> io::Result<Option<(fs::ReadDir, PathBuf)>> {
    let metadata = fs::symlink_metadata(from)?;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return lchown(to, Some(metadata.uid()), Some(metadata.gid())).map(|()| None);
    }
    if kind.is_dir() {
        match fs::create_dir(to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else {
        return Ok(None);
    }
    chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    kind.is_dir().then(|| Ok((fs::read_dir(from)?, to.to_owned()))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_links_and_modes_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), "x").unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        symlink("/etc/shadow", from.join("link")).unwrap();
        tree(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("sub/file")).unwrap(), b"x");
        assert_eq!(fs::metadata(to.join("sub/file")).unwrap().mode() & 0o7777, 0o4711);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/shadow"));
    }

    #[test]
    fn folders_are_copied_without_a_call_in_a_call() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("d/".repeat(200))).unwrap();
        let copied = to.clone();
        let small = std::thread::Builder::new().stack_size(64 << 10);
        small.spawn(move || tree(&from, &to).unwrap()).unwrap().join().unwrap();
        assert!(copied.join("d/".repeat(200)).is_dir());
    }
}
