//! Records as files: `<dir>/<id>/record`, replaced as a whole; each begins with its length, since protobuf that is cut short
//! may read as less.
//!
//! Nothing is flushed to the disk: no sandbox outlives its machine, and a killed process loses nothing that it wrote.
//! Must not know: what is in a record.

use std::fs;
use std::io;
use std::path::Path;

use super::Record;

const FILE: &str = "record";
const NEW: &str = "record.new";

/// Writes a record in its folder, which is made where it is not there.
pub fn write<R: Record>(dir: &Path, record: &R) -> io::Result<()> {
    let failed =
        |error: io::Error| io::Error::new(error.kind(), format!("writing the record in {}: {error}", dir.display()));
    replace(dir, record).map_err(failed)
}

fn replace<R: Record>(dir: &Path, record: &R) -> io::Result<()> {
    let new = dir.join(NEW);
    let bytes = record.encode_length_delimited_to_vec();
    match fs::write(&new, &bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir)?;
            fs::write(&new, bytes)?;
        }
        written => written?,
    }
    fs::rename(new, dir.join(FILE))
}

/// The record in a folder; `None` where there is none that can be read (the machine lost its power).
pub fn read<R: Record>(dir: &Path) -> Option<R> {
    let bytes = fs::read(dir.join(FILE)).ok()?;
    let record = R::decode_length_delimited(bytes.as_slice()).ok()?;
    (dir.file_name()?.to_str()? == record.id()).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::super::Sandbox;
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_only_in_its_own_folder() {
        let root = tempfile::tempdir().unwrap();
        let record = Sandbox { id: "a".into(), made: true, ..Sandbox::default() };
        write(&root.path().join("a"), &record).unwrap();
        assert_eq!(read(&root.path().join("a")), Some(record));
        fs::rename(root.path().join("a"), root.path().join("b")).unwrap();
        assert_eq!(read::<Sandbox>(&root.path().join("b")), None);
    }

    #[test]
    fn half_a_record_is_none() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a");
        write(&dir, &Sandbox { id: "a".into(), handler: "runc".into(), ..Sandbox::default() }).unwrap();
        let bytes = fs::read(dir.join(FILE)).unwrap();
        for length in 0..bytes.len() {
            fs::write(dir.join(FILE), &bytes[..length]).unwrap();
            assert_eq!(read::<Sandbox>(&dir), None, "{length} of {} bytes", bytes.len());
        }
    }
}
