//! Installing the plugin: its configuration where there is none yet, and its name in the directories of CNI plugins.
//!
//! Must not know: who runs pods, or where runtimes look (the caller says).

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

/// The name under which the program is a CNI plugin.
pub const PLUGIN_NAME: &str = "pintle-cni";
/// The bridge that pods hang on.
pub(crate) const BRIDGE: &str = "pintle0";
const FILE: &str = "10-pintle.conflist";

/// What became of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// It is ours, as asked for, at this place.
    Ours(PathBuf),
    /// Somebody else's is there, and stays.
    Foreign(PathBuf),
}

/// Writes `10-pintle.conflist` into `dir` (`/etc/cni/net.d`), unless it holds a CNI configuration that is not ours.
/// `pod_cidr` is the node's, such as `10.244.0.0/22`; one per family, with commas, in a dual-stack cluster. `data_dir`
/// keeps the leases.
///
/// # Errors
/// The directory cannot be read or written.
pub fn install(dir: &Path, pod_cidr: &str, data_dir: &Path) -> Result<Installed> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    if let Some(foreign) = foreign(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        return Ok(Installed::Foreign(foreign));
    }
    let path = dir.join(FILE);
    let content = configuration(pod_cidr, data_dir);
    if fs::read_to_string(&path).is_ok_and(|found| found == content) {
        return Ok(Installed::Ours(path));
    }
    // Runtimes read the directory at any moment, and only names that end in .conf, .conflist or .json.
    let new = dir.join(".10-pintle.new");
    fs::write(&new, content).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Installed::Ours(path))
}

/// Whether `dir` (`/etc/cni/net.d`) holds a CNI configuration that is not ours; a folder that is not there holds none.
///
/// # Errors
/// The directory cannot be read.
pub fn is_foreign(dir: &Path) -> Result<bool> {
    match foreign(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        found => Ok(found.with_context(|| format!("cannot list {}", dir.display()))?.is_some()),
    }
}

/// Makes `program` (the `pintle` binary) a plugin in a directory of CNI plugins, under its own name, and as `loopback`
/// where no such plugin is: runtimes want that one too.
///
/// # Errors
/// The directory cannot be written.
pub fn install_plugin(dir: &Path, program: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, replace) in [(PLUGIN_NAME, true), ("loopback", false)] {
        let path = dir.join(name);
        let ours = path.is_symlink() && fs::read_link(&path).is_ok_and(|to| is_pintle(&to));
        if replace || ours {
            remove(&path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        match symlink(program, &path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes what [`install`] wrote; what it removed.
///
/// # Errors
/// It is there and cannot be removed.
pub fn uninstall(dir: &Path) -> Result<Vec<String>> {
    remove_all(vec![dir.join(FILE)])
}

/// Removes what [`install_plugin`] made; what it removed.
///
/// # Errors
/// Something is there and cannot be removed.
pub fn uninstall_plugin(dir: &Path) -> Result<Vec<String>> {
    let loopback = dir.join("loopback");
    let ours = fs::read_link(&loopback).is_ok_and(|to| is_pintle(&to));
    let mut paths = vec![dir.join(PLUGIN_NAME)];
    paths.extend(ours.then_some(loopback));
    remove_all(paths)
}

fn remove_all(paths: Vec<PathBuf>) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for path in paths {
        if remove(&path).with_context(|| format!("cannot remove {}", path.display()))? {
            removed.push(path.display().to_string());
        }
    }
    Ok(removed)
}

fn configuration(pod_cidr: &str, data_dir: &Path) -> String {
    let cidrs: Vec<&str> = pod_cidr.split(',').map(str::trim).collect();
    let plugin = json!({
        "type": PLUGIN_NAME,
        "bridge": BRIDGE,
        "podCIDRs": cidrs,
        "dataDir": data_dir,
        "capabilities": { "portMappings": true, "bandwidth": true, "ips": true, "mac": true },
    });
    // Runtimes that do not know the list of versions (before CNI 1.1) go by the single one.
    let versions = ["1.0.0", "1.1.0"];
    let list = json!({ "cniVersion": "1.0.0", "cniVersions": versions, "name": "pintle", "plugins": [plugin] });
    format!("{list:#}\n")
}

fn foreign(dir: &Path) -> io::Result<Option<PathBuf>> {
    let names = fs::read_dir(dir)?.flatten().map(|entry| entry.path());
    let mut foreign: Vec<PathBuf> = names
        .filter(|path| path.extension().is_some_and(|end| ["conf", "conflist", "json"].iter().any(|own| end == *own)))
        .filter(|path| path.file_name().is_some_and(|name| name != FILE))
        .collect();
    foreign.sort();
    Ok(foreign.into_iter().next())
}

fn is_pintle(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name == "pintle")
}

fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_elses_network_is_told_from_ours_and_from_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_foreign(&dir.path().join("none")).unwrap());
        install(dir.path(), "10.244.0.0/22", Path::new("/data")).unwrap();
        assert!(!is_foreign(dir.path()).unwrap());
        fs::write(dir.path().join("87-podman.conflist"), "{}").unwrap();
        assert!(is_foreign(dir.path()).unwrap());
    }

    #[test]
    fn a_configuration_is_written_once_and_follows_the_pod_cidr() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for cidr in ["10.244.0.0/22", "10.244.4.0/22"] {
            assert_eq!(install(dir.path(), cidr, Path::new("/data")).unwrap(), Installed::Ours(path.clone()));
            assert!(fs::read_to_string(&path).unwrap().contains(cidr));
        }
        assert_eq!(uninstall(dir.path()).unwrap(), [path.display().to_string()]);
        assert!(uninstall(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn another_configuration_stays_alone() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("05-other.conf");
        fs::write(&theirs, "{}").unwrap();
        assert_eq!(install(dir.path(), "10.0.0.0/24", Path::new("/data")).unwrap(), Installed::Foreign(theirs));
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn an_existing_loopback_plugin_is_kept_and_ours_is_taken_away_again() {
        let bin = tempfile::tempdir().unwrap();
        install_plugin(bin.path(), Path::new("/opt/pintle")).unwrap();
        install_plugin(bin.path(), Path::new("/usr/bin/pintle")).unwrap();
        assert_eq!(fs::read_link(bin.path().join("loopback")).unwrap(), Path::new("/usr/bin/pintle"));
        assert_eq!(uninstall_plugin(bin.path()).unwrap().len(), 2);
        fs::write(bin.path().join("loopback"), "theirs").unwrap();
        install_plugin(bin.path(), Path::new("/usr/bin/pintle")).unwrap();
        assert_eq!(uninstall_plugin(bin.path()).unwrap().len(), 1);
        assert_eq!(fs::read_to_string(bin.path().join("loopback")).unwrap(), "theirs");
    }
}
