//! The archive of a checkpoint, as containerd 2 writes it and checkpointctl reads it.
//!
//! Must not know: how its parts were taken.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use pintle_cri::v1;
use serde_json::{Value, json};
use tar::{Builder, Header};

use crate::plan::show;
use crate::state::Container;

/// CRIU's images.
pub const IMAGES: &str = "checkpoint";
/// What the container wrote.
pub const FILES: &str = "rootfs-diff.tar";
/// CRIU's own log and figures.
pub const DUMP_LOG: &str = "dump.log";
const FIGURES: &str = "stats-dump";

/// What goes into an archive.
pub struct Parts<'a> {
    pub record: &'a Container,
    /// `config.json`.
    pub bundle: &'a Path,
    /// The folder with what was taken, under the names above.
    pub work: &'a Path,
    /// The OCI runtime's name.
    pub runtime: &'a str,
}

/// Writes the archive, for root's eyes alone: it holds the memory of processes.
pub fn write(parts: &Parts<'_>, to: &Path) -> anyhow::Result<()> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(to);
    let file = file.with_context(|| format!("making {}", to.display()))?;
    fill(parts, BufWriter::new(file)).with_context(|| format!("writing {}", to.display()))
}

fn fill(parts: &Parts<'_>, to: BufWriter<File>) -> io::Result<()> {
    let mut archive = Builder::new(to);
    let status = show::container_status(parts.record);
    put(&mut archive, "config.dump", &config(parts, &status))?;
    put(&mut archive, "status.dump", &shown(&status))?;
    archive.append_path_with_name(parts.bundle, "spec.dump")?;
    archive.append_path_with_name(parts.work.join(FILES), FILES)?;
    let work = |name: &str| parts.work.join(name);
    for (from, name) in
        [(work(FIGURES), FIGURES), (work(DUMP_LOG), DUMP_LOG), (parts.record.log_path.clone().into(), "container.log")]
    {
        // CRIU need not write its files, and not every container has a log, which grows meanwhile
        if let Ok(bytes) = fs::read(from) {
            append(&mut archive, name, &bytes)?;
        }
    }
    archive.append_dir_all(IMAGES, parts.work.join(IMAGES))?;
    archive.into_inner()?.flush()
}

fn put(archive: &mut Builder<BufWriter<File>>, name: &str, value: &Value) -> io::Result<()> {
    append(archive, name, value.to_string().as_bytes())
}

fn append(archive: &mut Builder<BufWriter<File>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes)
}

/// checkpointctl's `ContainerConfig`.
fn config(parts: &Parts<'_>, status: &v1::ContainerStatus) -> Value {
    let image = status.image.clone().unwrap_or_default().image;
    json!({
        "id": parts.record.id,
        "name": status.metadata.clone().unwrap_or_default().name,
        "rootfsImage": image,
        "rootfsImageName": image,
        "rootfsImageRef": status.image_ref,
        "runtime": parts.runtime,
        "createdTime": Timestamp::from_nanosecond(status.created_at.into()).unwrap_or_default().to_string(),
        "checkpointedTime": Timestamp::now().to_string(),
        "restoredTime": "0001-01-01T00:00:00Z",
        "restored": false,
    })
}

/// CRI's `ContainerStatus` as Go writes it to JSON: what a restore reads of it.
fn shown(status: &v1::ContainerStatus) -> Value {
    let metadata = status.metadata.clone().unwrap_or_default();
    let image = status.image.clone().unwrap_or_default();
    let mounts = status.mounts.iter().map(|mount| {
        json!({
            "container_path": mount.container_path,
            "host_path": mount.host_path,
            "readonly": mount.readonly,
            "propagation": mount.propagation,
        })
    });
    json!({
        "id": status.id,
        "metadata": {"name": metadata.name, "attempt": metadata.attempt},
        "state": status.state,
        "created_at": status.created_at,
        "started_at": status.started_at,
        "image": {"image": image.image, "user_specified_image": image.user_specified_image},
        "image_ref": status.image_ref,
        "image_id": status.image_id,
        "labels": status.labels,
        "annotations": status.annotations,
        "mounts": mounts.collect::<Vec<_>>(),
        "log_path": status.log_path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_parts_that_readers_look_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at(IMAGES)).unwrap();
        for name in ["checkpoint/core-1.img", FILES, DUMP_LOG, "config.json", "0.log"] {
            fs::write(at(name), "x").unwrap();
        }
        let record = Container { id: "c".into(), log_path: at("0.log").display().to_string(), ..Container::default() };
        let parts = Parts { record: &record, bundle: &at("config.json"), work: dir.path(), runtime: "runc" };
        write(&parts, &at("a.tar")).unwrap();
        let mut archive = tar::Archive::new(File::open(at("a.tar")).unwrap());
        let entries = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        let expected = [
            "checkpoint/",
            "checkpoint/core-1.img",
            "config.dump",
            "container.log",
            DUMP_LOG,
            FILES,
            "spec.dump",
            "status.dump",
        ];
        assert_eq!(names, expected);
    }
}
