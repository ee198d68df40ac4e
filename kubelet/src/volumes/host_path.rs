//! hostPath: a place of the node, checked to be what the pod says it is.
//!
//! Must not know: pods.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

pub fn ensure(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = Path::new(&source.path);
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("hostPath {} must not contain '..'", path.display()));
    }
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" if !path.exists() => fs::DirBuilder::new().recursive(true).mode(0o755).create(path),
        "FileOrCreate" if !path.exists() => {
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path).map(drop)
        }
        _ => Ok(()),
    }
    .map_err(|error| format!("making {}: {error}", path.display()))?;
    check(path, kind)?;
    Ok(path.to_path_buf())
}

fn check(path: &Path, kind: &str) -> Result<(), String> {
    if kind.is_empty() {
        return Ok(());
    }
    let meta = fs::metadata(path);
    let is = |test: &dyn Fn(&fs::Metadata) -> bool| meta.as_ref().is_ok_and(test);
    let (right, what) = match kind {
        "Directory" | "DirectoryOrCreate" => (is(&|meta| meta.is_dir()), "directory"),
        "File" | "FileOrCreate" => (is(&|meta| meta.is_file()), "file"),
        "Socket" => (is(&|meta| meta.file_type().is_socket()), "socket file"),
        "CharDevice" => (is(&|meta| meta.file_type().is_char_device()), "character device"),
        "BlockDevice" => (is(&|meta| meta.file_type().is_block_device()), "block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    if right { Ok(()) } else { Err(format!("hostPath type check failed: {} is not a {what}", path.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &Path, kind: &str) -> Result<PathBuf, String> {
        ensure(&HostPathVolumeSource { path: path.display().to_string(), type_: Some(kind.into()) })
    }

    #[test]
    fn types_are_checked_and_made_where_asked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(of(&dir.path().join("x"), "Directory").unwrap_err().contains("is not a directory"));
        assert!(of(&dir.path().join("x"), "DirectoryOrCreate").is_ok());
        assert!(of(&dir.path().join("f"), "FileOrCreate").is_ok());
        assert!(of(&dir.path().join("f"), "Directory").is_err());
        assert!(of(Path::new("/dev/null"), "CharDevice").is_ok());
    }
}
