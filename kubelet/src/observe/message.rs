//! The termination message of a container that ended. Source: upstream's getTerminationMessage.
//!
//! Must not know: statuses.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::plan::container_config::{MESSAGE_PATH, MESSAGE_POLICY};
use crate::plan::seen::Container;

/// Upstream's bounds, bytes and lines.
const LONGEST: u64 = 4096;
const LONGEST_LOG: u64 = 2048;
const LOG_LINES: usize = 80;

/// The message file's text after the runtime's own; with `FallbackToLogsOnError`, the end of the log of a failure
/// without a message.
pub fn read(root: &Path, uid: &str, container: &Container) -> String {
    let said = container.message.clone();
    if container.annotations.get(MESSAGE_PATH).is_none_or(String::is_empty) {
        return said;
    }
    let file = format!("{:08x}", container.restart_count);
    let path = root.join("pods").join(uid).join("containers").join(&container.name).join(file);
    let mut written = tail(&path, LONGEST);
    let fallback = container.annotations.get(MESSAGE_POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError");
    if written.is_empty() && fallback && container.exit_code != 0 {
        written = log_tail(Path::new(&container.log_path));
    }
    match (said.is_empty(), written.is_empty()) {
        (_, true) => said,
        (true, false) => written,
        (false, false) => format!("{said}: {written}"),
    }
}

/// The last `most` bytes of a file; nothing when it cannot be read.
fn tail(path: &Path, most: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn log_tail(path: &Path) -> String {
    // records carry a timestamp and tags: read more than is shown
    let text = tail(path, LONGEST_LOG * 4);
    let records = text.split_inclusive('\n').filter_map(|line| pintle_cri::log::parse(line.as_bytes()).ok());
    // a full record has its line's end, a partial one has none
    let written: String = records.map(|record| String::from_utf8_lossy(record.content).into_owned()).collect();
    let lines: Vec<&str> = written.split_inclusive('\n').collect();
    let shown = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().concat();
    let start = shown.len().saturating_sub(LONGEST_LOG as usize);
    let start = (start..shown.len()).find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
    shown.get(start..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_what_was_written_with_no_line_end_that_was_not() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let record = |tag: &str, text: &str| format!("2026-01-02T03:04:05.000000006Z stdout {tag} {text}\n");
        std::fs::write(log.path(), record("F", "one") + &record("P", "DO") + &record("P", "NE")).unwrap();
        assert_eq!(log_tail(log.path()), "one\nDONE");
        std::fs::write(log.path(), record("F", "line").repeat(LOG_LINES + 5)).unwrap();
        assert_eq!(log_tail(log.path()), "line\n".repeat(LOG_LINES));
    }
}
