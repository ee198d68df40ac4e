//! Records as files: `<dir>/<id>/record`, to which each change is appended; the last whole one counts. Each begins with its
//! length, since protobuf that is cut short may read as less.
//!
//! Appending is what makes a change cheap: a file that replaces another is an inode made and one removed, and ext4 writes the
//! new one's blocks before it forgets the old one's.
//! Nothing is flushed to the disk: no sandbox outlives its machine, and a killed process loses nothing that it wrote.
//! Must not know: what is in a record.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::Record;

const FILE: &str = "record";
const NEW: &str = "record.new";
/// Bytes of a file that is not appended to any more: what counts of it takes its place.
const LONG: u64 = 64 << 10;

/// A record's file.
#[derive(Debug)]
pub struct File {
    dir: PathBuf,
    /// Where the last whole record ends.
    end: u64,
}

impl File {
    /// The first record of a folder, which is made where it is not there.
    pub fn create<R: Record>(dir: &Path, record: &R) -> io::Result<Self> {
        let mut file = Self { dir: dir.to_owned(), end: 0 };
        let made = fs::create_dir_all(dir).and_then(|()| file.replace(&record.encode_length_delimited_to_vec()));
        made.map_err(|error| file.failed(&error))?;
        Ok(file)
    }

    /// The record in a folder; `None` where there is none that can be read (the machine lost its power).
    pub fn open<R: Record>(dir: &Path) -> Option<(Self, R)> {
        let bytes = fs::read(dir.join(FILE)).ok()?;
        let id = dir.file_name()?.to_str()?;
        let mut rest = bytes.as_slice();
        let mut found = None;
        while let Ok(record) = R::decode_length_delimited(&mut rest) {
            if record.id() != id {
                break;
            }
            found = Some((bytes.len() - rest.len(), record));
        }
        let (end, record) = found?;
        Some((Self { dir: dir.to_owned(), end: u64::try_from(end).ok()? }, record))
    }

    /// Writes a record after the one that it takes the place of.
    pub fn write<R: Record>(&mut self, record: &R) -> io::Result<()> {
        let bytes = record.encode_length_delimited_to_vec();
        let written = if self.end < LONG { self.append(&bytes) } else { self.replace(&bytes) };
        written.map_err(|error| self.failed(&error))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.dir.join(FILE))?;
        if file.metadata()?.len() > self.end {
            // a killed process began it, or it did not fit on the disk; its end could be taken for a record
            file.set_len(self.end)?;
        }
        file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let new = self.dir.join(NEW);
        fs::write(&new, bytes)?;
        fs::rename(new, self.dir.join(FILE))?;
        self.end = bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("writing the record in {}: {error}", self.dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::Sandbox;
    use super::*;

    fn sandbox(handler: &str) -> Sandbox {
        Sandbox { id: "a".into(), handler: handler.into(), ..Sandbox::default() }
    }

    fn read(dir: &Path) -> Option<Sandbox> {
        File::open(dir).map(|(_, record)| record)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_last_and_only_in_its_own_folder() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a");
        let mut file = File::create(&dir, &sandbox("runc")).unwrap();
        assert_eq!(read(&dir), Some(sandbox("runc")));
        file.write(&sandbox("kata")).unwrap();
        let (mut again, record) = File::open::<Sandbox>(&dir).unwrap();
        assert_eq!(record, sandbox("kata"));
        again.write(&sandbox("")).unwrap();
        assert_eq!(read(&dir), Some(sandbox("")));
        fs::rename(&dir, root.path().join("b")).unwrap();
        assert_eq!(read(&root.path().join("b")), None);
    }

    #[test]
    fn half_a_record_is_none_and_the_one_before_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a");
        let mut file = File::create(&dir, &sandbox("runc")).unwrap();
        let first = fs::read(dir.join(FILE)).unwrap();
        file.write(&sandbox("a longer name")).unwrap();
        let both = fs::read(dir.join(FILE)).unwrap();
        for length in 0..both.len() {
            fs::write(dir.join(FILE), &both[..length]).unwrap();
            let whole = (length >= first.len()).then(|| sandbox("runc"));
            assert_eq!(read(&dir), whole, "{length} of {} bytes", both.len());
        }
    }

    #[test]
    fn what_a_killed_writer_began_is_written_over() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a");
        drop(File::create(&dir, &sandbox("runc")).unwrap());
        let mut bytes = fs::read(dir.join(FILE)).unwrap();
        bytes.extend(&sandbox("of which only a part was written").encode_length_delimited_to_vec()[..20]);
        fs::write(dir.join(FILE), &bytes).unwrap();
        let (mut file, record) = File::open::<Sandbox>(&dir).unwrap();
        assert_eq!(record, sandbox("runc"));
        file.write(&sandbox("kata")).unwrap();
        assert_eq!(read(&dir), Some(sandbox("kata")));
    }

    #[test]
    fn a_file_does_not_grow_without_end() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a");
        let mut file = File::create(&dir, &sandbox("")).unwrap();
        let long = "x".repeat(10_000);
        for round in 0..30 {
            file.write(&sandbox(&format!("{long}{round}"))).unwrap();
            assert_eq!(read(&dir), Some(sandbox(&format!("{long}{round}"))));
            assert!(fs::metadata(dir.join(FILE)).unwrap().len() < 2 * LONG);
        }
    }
}
