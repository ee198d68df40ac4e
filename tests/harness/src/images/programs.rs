//! Programs of this machine's Debian packages, with the libraries that they load.
//!
//! Must not know: images.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub const BUSYBOX: &str = "bin/busybox";

/// One file: its path without the leading `/`, and what is in it.
pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
}

pub struct Busybox {
    pub program: Vec<u8>,
    /// The names by which it is called.
    pub applets: Vec<String>,
}

/// Debian's static busybox.
///
/// # Errors
/// It is not installed; or it is the one that loads libraries.
pub fn busybox() -> Result<Busybox> {
    let path = Path::new("/").join(BUSYBOX);
    ensure!(path.exists() && libraries(&path)?.is_empty(), "needed for the images: apt-get install busybox-static");
    let listed = Command::new(&path).arg("--list").output().context("busybox does not run")?;
    let names = String::from_utf8(listed.stdout)?;
    let applets = names.lines().filter(|name| *name != "busybox").map(str::to_owned).collect();
    Ok(Busybox { program: std::fs::read(&path)?, applets })
}

/// The programs and every library that they load, each at the path that it has here. `package` is named where one is
/// missing.
pub fn with_libraries(programs: &[&str], package: &str) -> Result<Vec<File>> {
    let mut paths = BTreeSet::new();
    for program in programs {
        ensure!(Path::new(program).exists(), "needed for the images: apt-get install {package}");
        paths.extend(libraries(Path::new(program))?);
        paths.insert((*program).to_owned());
    }
    let read = |path: String| {
        let bytes = std::fs::read(&path).with_context(|| format!("reading {path}"))?;
        Ok(File { path: path.trim_start_matches('/').to_owned(), bytes })
    };
    paths.into_iter().map(read).collect()
}

/// What the dynamic linker says that a program loads; nothing of a static one.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let listed = Command::new("ldd").arg(program).output().context("ldd does not run")?;
    let text = String::from_utf8(listed.stdout)?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    Ok(text.lines().filter_map(path).filter(|path| !path.ends_with(':')).collect())
}
