//! A folder to unpack into, with things beside it that nobody may touch.
//!
//! Must not know: what is unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pintle_images::Limits;

/// A folder to unpack into, and what lies around it.
pub(super) struct Cage {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Cage {
    pub fn new() -> Self {
        let dir = tempfile::tempdir_in(memory()).unwrap();
        for folder in ["root", "outside/deeper", "etc"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["outside/secret", "outside/deeper/a", "etc/passwd", "a", "link"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("../outside", dir.path().join("root/planted")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside/secret"), dir.path().join("root/link")).unwrap();
        let before = around(dir.path());
        Self { dir, before }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn outside(&self) -> String {
        self.dir.path().join("outside").display().to_string()
    }

    pub fn assert_untouched(&self) {
        assert_eq!(around(self.dir.path()), self.before);
    }
}

/// All that is beside the root: kind, owner, mode, links, times, content.
fn around(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, about) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let inside = path.file_name().is_some_and(|name| name == "root");
        let content = if about.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        let times = if inside { (0, 0) } else { (about.mtime_nsec(), about.ctime_nsec()) };
        let (links, times) = if inside { (0, (0, 0)) } else { (about.nlink(), times) };
        let owner = if inside { (0, 0) } else { (about.uid(), about.gid()) };
        let mode = if inside { 0 } else { about.mode() };
        found.insert(path.clone(), format!("{mode:o} {owner:?} {links} {times:?} {content}"));
        if about.is_dir() && !inside {
            found.extend(around(&path));
        }
    }
    found
}

/// Where files are made fast, thousands for each target.
pub(super) fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Small enough that an input is tried in milliseconds.
pub(super) fn limits() -> Limits {
    Limits { layer_bytes: 4 << 20, layer_entries: 500, ..Limits::default() }
}
