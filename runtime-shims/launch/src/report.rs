//! Where errors and warnings go: stderr, and the file that `--log` names in the form runc writes.
//!
//! Must not know: what was attempted.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc;

/// The two forms of runc's log file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// The places one call reports to.
pub struct Report {
    file: Option<PathBuf>,
    format: Format,
}

impl Report {
    pub fn to(file: Option<&Path>, format: Format) -> Report {
        Report { file: file.map(Path::to_owned), format }
    }

    /// What ended the call: on stderr, and in the log.
    pub fn error(&self, message: &str) {
        eprintln!("pintle launch: {}", one_line(message));
        self.log("error", message);
    }

    /// What was done less well than asked. Only in the log where there is one: stderr belongs to the container.
    pub fn warning(&self, message: &str) {
        match self.file {
            Some(_) => self.log("warning", message),
            None => eprintln!("pintle launch: warning: {}", one_line(message)),
        }
    }

    fn log(&self, level: &str, message: &str) {
        let Some(path) = &self.file else { return };
        let time = utc(SystemTime::now());
        let line = match self.format {
            Format::Json => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
            Format::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        let file = OpenOptions::new().append(true).create(true).open(path);
        // a log that cannot be written must not hide what it would have said: stderr has it
        if let Err(error) = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
            eprintln!("pintle launch: cannot write {}: {error}", path.display());
        }
    }
}

fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// RFC 3339 in UTC, to the second.
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let clock = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
    // SAFETY: tm is plain numbers and a pointer that may be null; gmtime_r fills it and keeps neither reference.
    let day = unsafe {
        let mut day: libc::tm = std::mem::zeroed();
        libc::gmtime_r(&clock, &mut day);
        day
    };
    let (year, month) = (day.tm_year + 1900, day.tm_mon + 1);
    format!("{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", day.tm_mday, day.tm_hour, day.tm_min, day.tm_sec)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(951_827_696)), "2000-02-29T12:34:56Z");
    }

    #[test]
    fn a_json_line_names_level_and_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Report::to(Some(&path), Format::Json).warning("one\n\"two\"");
        let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("warning"), Some("one\n\"two\"")));
    }
}
