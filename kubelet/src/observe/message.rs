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
    let lines: Vec<String> = text
        .lines()
        .filter_map(|line| pintle_cri::log::parse(line.as_bytes()).ok())
        .map(|record| String::from_utf8_lossy(record.content).into_owned())
        .collect();
    let shown = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n");
    let start = shown.len().saturating_sub(LONGEST_LOG as usize);
    let start = (start..shown.len()).find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
    format!("{}\n", shown.get(start..).unwrap_or_default())
}
