//! fsGroup: files belong to a group that the pod's processes have. Source: upstream's SetVolumeOwnership.
//!
//! Must not know: which volumes want it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::Path;

use anyhow::Context as _;

/// Hands `path` and all below to `group`: readable, writable if `writable`, directories inherit the group.
pub fn give_to_group(path: &Path, group: i64, writable: bool) -> anyhow::Result<()> {
    let gid = u32::try_from(group).context("fsGroup is out of range")?;
    let meta = fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    lchown(path, None, Some(gid)).with_context(|| format!("giving {} to group {gid}", path.display()))?;
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    let mut mode = meta.permissions().mode() | if writable { 0o660 } else { 0o440 };
    if meta.is_dir() {
        mode |= 0o2110;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to_group(&entry?.path(), group, writable)?;
        }
    }
    Ok(())
}
