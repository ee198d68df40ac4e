//! emptyDir: a directory of the pod's, or memory.
//!
//! Must not know: who writes into it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::ownership;
use crate::plan::quantity;

pub fn ensure(path: &Path, source: &EmptyDirVolumeSource, group: Option<i64>) -> Result<PathBuf, String> {
    let fresh = !path.exists();
    let failed = |what: &str, error: String| format!("{what} {}: {error}", path.display());
    fs::create_dir_all(path).map_err(|error| failed("making", error.to_string()))?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => mount_tmpfs(path, source.size_limit.as_ref().map(quantity::value))?,
        other => return Err(format!("unknown storage medium \"{other}\"")),
    }
    if fresh {
        fs::set_permissions(path, Permissions::from_mode(0o777))
            .map_err(|error| failed("opening", error.to_string()))?;
        if let Some(group) = group {
            ownership::give_to_group(path, group, true)
                .map_err(|error| failed("giving to its group", error.to_string()))?;
        }
    }
    Ok(path.to_path_buf())
}

/// A tmpfs at `path`, unless one is there.
pub fn mount_tmpfs(path: &Path, size: Option<i64>) -> Result<(), String> {
    let failed = |error: nix::Error| format!("mounting memory at {}: {error}", path.display());
    let parent = path.parent().unwrap_or(path);
    let (here, above) = (device(path), device(parent));
    if statfs(path).map_err(failed)?.filesystem_type() == TMPFS_MAGIC && here != above {
        return Ok(());
    }
    let options = size.filter(|size| *size > 0).map(|size| format!("size={size}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, options.as_deref()).map_err(failed)
}

/// The device number: another one than the parent's means a mount point.
fn device(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|meta| meta.dev())
}
