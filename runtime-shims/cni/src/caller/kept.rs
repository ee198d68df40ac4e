//! What was attached, on disk: the configuration and the pod as they were at the ADD, and its result. A restart of the
//! runtime, or another configuration since, then still detaches by the right one.
//!
//! A file per pod, with a line for each time that it was written; the last whole one counts. Not synced: a power cut ends every attachment, too.
//! Must not know: how plugins are run.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CallError;
use super::list::List;
use super::pod::Pod;

/// The extension of a file that is being written.
const NEW: &str = "new";

/// One attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// The list, from which [`List::parse`] makes it again.
    pub network: Value,
    pub pod: Pod,
    /// The last plugin's document; none while the ADD is under way.
    #[serde(default)]
    pub result: Option<Value>,
}

impl Kept {
    pub fn list(&self) -> Result<List, CallError> {
        List::parse(&self.network.to_string())
    }

    pub fn with_list(self) -> Result<(Self, List), CallError> {
        let list = self.list()?;
        Ok((self, list))
    }
}

/// The folder of them.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens the folder, which is the caller's alone: what a killed process had begun to write there is removed.
    pub fn open(dir: &Path) -> Result<Self, CallError> {
        fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
        let entries = fs::read_dir(dir).map_err(|error| failed(dir, error))?;
        let paths = entries.flatten().map(|entry| entry.path());
        for begun in paths.filter(|path| path.extension().is_some_and(|it| it == NEW)) {
            fs::remove_file(&begun).map_err(|error| failed(&begun, error))?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    pub fn write(&self, kept: &Kept) -> Result<(), CallError> {
        let path = self.path(&kept.pod.id)?;
        let mut line = serde_json::to_vec(kept).map_err(|error| failed(&path, error.into()))?;
        line.push(b'\n');
        let written = match OpenOptions::new().append(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => begin(&path, &line),
            // a line that a killed process began ends before this one
            opened => opened.and_then(|mut file| file.write_all(&[b"\n", line.as_slice()].concat())),
        };
        written.map_err(|error| failed(&path, error))
    }

    /// `None` when nothing is kept of the pod.
    pub fn read(&self, id: &str) -> Result<Option<Kept>, CallError> {
        let path = self.path(id)?;
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| failed(&path, error))?,
        };
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut read = lines.rev().map(serde_json::from_slice);
        let last = read.next().unwrap_or_else(|| serde_json::from_slice(b""));
        read.fold(last, Result::or).map(Some).map_err(|error| failed(&path, error.into()))
    }

    pub fn remove(&self, id: &str) -> Result<(), CallError> {
        let path = self.path(id)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }

    /// The pods of which something is kept.
    pub fn ids(&self) -> Result<Vec<String>, CallError> {
        let listed = fs::read_dir(&self.dir).map_err(|error| failed(&self.dir, error))?;
        let names = listed.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect())
    }

    fn path(&self, id: &str) -> Result<PathBuf, CallError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || id.len() > 200 || !id.chars().all(legal) {
            return Err(failed(
                &self.dir,
                io::Error::new(ErrorKind::InvalidInput, format!("{id:?} is no container id")),
            ));
        }
        Ok(self.dir.join(format!("{id}.json")))
    }
}

/// A pod's calls come one after the other, so the name is this call's alone.
fn begin(path: &Path, line: &[u8]) -> io::Result<()> {
    let new = path.with_extension(NEW);
    let written = fs::write(&new, line).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // such as on a full disk: the beginning of it is nobody's
        let _ = fs::remove_file(&new);
    }
    written
}

fn failed(path: &Path, error: io::Error) -> CallError {
    CallError::Kept { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_is_read_again_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let pod = Pod { id: "a".into(), ..Pod::default() };
        let kept = Kept { network: json!({ "name": "n" }), pod, result: Some(json!({ "ips": [] })) };
        records.write(&kept).unwrap();
        let again = Records::open(dir.path()).unwrap();
        assert_eq!(again.read("a").unwrap(), Some(kept));
        assert_eq!(again.ids().unwrap(), ["a"]);
        again.remove("a").unwrap();
        again.remove("a").unwrap();
        assert_eq!((again.read("a").unwrap(), again.ids().unwrap().len()), (None, 0));
    }

    #[test]
    fn the_last_whole_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let pod = Pod { id: "a".into(), ..Pod::default() };
        let begun = Kept { network: json!({ "name": "n" }), pod, result: None };
        let done = Kept { result: Some(json!({ "ips": [] })), ..begun.clone() };
        records.write(&begun).unwrap();
        assert_eq!(records.read("a").unwrap(), Some(begun.clone()));
        let file = dir.path().join("a.json");
        let mut text = fs::read(&file).unwrap();
        text.extend(br#"{"network":{"na"#);
        fs::write(&file, text).unwrap();
        assert_eq!(records.read("a").unwrap(), Some(begun));
        records.write(&done).unwrap();
        assert_eq!(records.read("a").unwrap(), Some(done));
        fs::write(&file, "{").unwrap();
        assert!(records.read("a").is_err());
    }

    #[test]
    fn what_was_begun_and_not_finished_is_gone_when_the_folder_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.new"), "{").unwrap();
        let records = Records::open(dir.path()).unwrap();
        assert_eq!((records.ids().unwrap().len(), fs::read_dir(dir.path()).unwrap().count()), (0, 0));
    }

    #[test]
    fn ids_that_are_paths_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        for id in ["", "../a", "a/b", ".hidden"] {
            assert!(records.read(id).is_err(), "{id}");
        }
    }
}
