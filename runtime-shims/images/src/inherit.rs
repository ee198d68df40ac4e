//! Folders that a layer has no member for, only members in them: their owner and mode are those that the layers below have.
//!
//! Overlayfs shows a folder as the topmost layer has it, so folders that are right lie above such a layer: one tree of
//! them for each row of layers that it lies on. containerd does the same where it unpacks. Must not know: images, tar.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::unpack::is_opaque;

/// Longest path that calls take below any store's folder; deeper folders stay as the layer has them.
const LONGEST: usize = 3000;

/// An unpacked layer, and its folders that it says nothing of.
pub(crate) struct Known {
    pub root: PathBuf,
    pub implied: BTreeSet<PathBuf>,
}

/// Paths as a file has them: each ends with a zero byte.
pub(crate) fn encode(implied: &BTreeSet<PathBuf>) -> Vec<u8> {
    implied.iter().flat_map(|path| path.as_os_str().as_bytes().iter().copied().chain([0])).collect()
}

pub(crate) fn decode(bytes: &[u8]) -> BTreeSet<PathBuf> {
    bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(|path| OsStr::from_bytes(path).into()).collect()
}

/// Fills an empty folder with what lies above `layer`; `below` has the topmost first. Nothing where all is right.
pub(crate) fn fill(dir: &Path, layer: &Known, below: &[Known]) -> Result<()> {
    for path in layer.implied.iter().filter(|path| path.as_os_str().len() <= LONGEST) {
        let (Some(own), Some(before)) = (layer.look(path)?.0, before(path, below)?) else { continue };
        let shown = |it: &Metadata| (it.mode(), it.uid(), it.gid());
        if shown(&own) == shown(&before) {
            continue;
        }
        // the shortest first, without the empty one
        let parts: Vec<&Path> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
        for part in parts.into_iter().rev() {
            make(&dir.join(part), part, layer, below)?;
        }
    }
    Ok(())
}

fn make(at: &Path, path: &Path, layer: &Known, below: &[Known]) -> Result<()> {
    let inherited = if layer.implied.contains(path) { before(path, below)? } else { None };
    let (Some(shown), false) = (inherited.or(layer.look(path)?.0), at.is_dir()) else { return Ok(()) };
    let made = fs::create_dir(at)
        .and_then(|()| chown(at, Some(shown.uid()), Some(shown.gid())))
        .and_then(|()| fs::set_permissions(at, Permissions::from_mode(shown.mode() & 0o7777)));
    made.context(|| format!("cannot make {}", at.display()))
}

/// The folder as the topmost layer has it that says something of it.
fn before(path: &Path, below: &[Known]) -> Result<Option<Metadata>> {
    for layer in below {
        match layer.look(path)? {
            (Some(found), _) if !layer.implied.contains(path) => return Ok(Some(found)),
            (_, true) => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

impl Known {
    /// The folder at a path, no link followed, and whether this layer hides what those below have there.
    fn look(&self, path: &Path) -> Result<(Option<Metadata>, bool)> {
        let (mut at, mut hides, mut found) = (self.root.clone(), false, None);
        for part in path.components() {
            at.push(part);
            match fs::symlink_metadata(&at) {
                Ok(there) if there.is_dir() => found = Some(there),
                Ok(_) => return Ok((None, true)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, hides)),
                Err(error) => return Err(error).context(|| format!("cannot look at {}", at.display())),
            }
            hides |= is_opaque(&at)?;
        }
        Ok((found, hides))
    }
}
