//! Compiled filters, kept for containers to come: to compile the usual profile takes longer than all the rest of a start.
//!
//! Must not know: what is in a profile.

use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime::LinuxSeccomp;

use super::seccomp::{Filter, compile};

/// Profiles that a host has at once; more are compiled each time.
const MOST: usize = 64;
/// Changes with what is made of a profile.
const FORMAT: &str = concat!("1 ", env!("CARGO_PKG_VERSION"), "\n");

/// The filter of a profile. They are kept beside the root of all containers' folders, as `ROOT.filters`: whoever could write
/// there could write the containers' own.
///
/// # Errors
/// As [`compile`]'s. A filter that cannot be kept is none.
pub fn of(profile: &LinuxSeccomp, root: &Path) -> Result<Filter> {
    let mut key = FORMAT.as_bytes().to_vec();
    serde_json::to_writer(&mut key, profile).context("a profile that JSON cannot say")?;
    let dir = folder(root);
    let mut hash = DefaultHasher::new();
    key.hash(&mut hash);
    let file = dir.join(format!("{:016x}", hash.finish()));
    if let Some(kept) = read(&dir, &file, &key) {
        return Ok(kept);
    }
    let filter = compile(profile)?;
    // without it the next container compiles again
    let _ = keep(&dir, &file, &key, &filter);
    Ok(filter)
}

fn folder(root: &Path) -> PathBuf {
    let mut name = root.as_os_str().to_owned();
    name.push(".filters");
    name.into()
}

/// Whether a folder is ours alone.
fn is_ours(dir: &Path) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == own && found.mode() & 0o077 == 0)
}

/// The profile's length, the profile, the filter. Two profiles of one hash are told apart by the whole profile.
fn read(dir: &Path, file: &Path, key: &[u8]) -> Option<Filter> {
    let bytes = if is_ours(dir) { fs::read(file).ok()? } else { return None };
    let (length, rest) = bytes.split_first_chunk()?;
    let (profile, filter) = rest.split_at_checked(usize::try_from(u64::from_ne_bytes(*length)).ok()?)?;
    if profile == key { Filter::from_bytes(filter).ok() } else { None }
}

fn keep(dir: &Path, file: &Path, key: &[u8], filter: &Filter) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !is_ours(dir) || fs::read_dir(dir)?.count() >= MOST {
        return Ok(());
    }
    let new = file.with_extension(std::process::id().to_string());
    let bytes = [&(key.len() as u64).to_ne_bytes()[..], key, &filter.bytes()].concat();
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, file)).inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompBuilder};

    use super::*;

    fn profile(action: LinuxSeccompAction) -> LinuxSeccomp {
        LinuxSeccompBuilder::default().default_action(action).build().unwrap()
    }

    #[test]
    fn a_filter_is_kept_and_is_what_would_be_compiled() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("launch");
        let (log, allow) = (profile(LinuxSeccompAction::ScmpActLog), profile(LinuxSeccompAction::ScmpActAllow));
        for _ in 0..2 {
            assert_eq!(of(&log, &root).unwrap(), compile(&log).unwrap());
            assert_eq!(of(&allow, &root).unwrap(), compile(&allow).unwrap());
        }
        assert_eq!(fs::read_dir(folder(&root)).unwrap().count(), 2);
    }

    #[test]
    fn what_others_could_have_written_or_what_is_damaged_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("launch");
        let log = profile(LinuxSeccompAction::ScmpActLog);
        of(&log, &root).unwrap();
        let file = fs::read_dir(folder(&root)).unwrap().next().unwrap().unwrap().path();
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..20]).unwrap();
        assert_eq!(of(&log, &root).unwrap(), compile(&log).unwrap());
        let other = compile(&profile(LinuxSeccompAction::ScmpActAllow)).unwrap();
        let key = bytes.get(8..8 + usize::try_from(u64::from_ne_bytes(bytes[..8].try_into().unwrap())).unwrap());
        keep(&folder(&root), &file, key.unwrap(), &other).unwrap();
        fs::set_permissions(folder(&root), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(of(&log, &root).unwrap(), compile(&log).unwrap());
    }
}
