//! A sandbox's directory with a monitor in it, and command lines that leave a process behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_monitor::{Exit, Exits, Monitor, Run, Stdio};
use tempfile::TempDir;

/// What goes with it ends with it: the monitor is killed.
pub struct Place {
    dir: TempDir,
    pid: u32,
}

impl Place {
    pub async fn new() -> (Place, Monitor) {
        let dir = tempfile::tempdir().unwrap();
        let monitor = Monitor::spawn(dir.path(), &[]).await.unwrap();
        (Place { dir, pid: monitor.pid() }, monitor)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn connect(&self) -> Monitor {
        Monitor::connect(self.path()).await.unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.pid.try_into().unwrap())
    }

    /// Runs `script` as the process `id`, the way an OCI runtime does: what the command line starts outlives it.
    pub fn script(&self, id: &str, script: &str) -> Run {
        let pid_file = self.file(&format!("{id}.pid"));
        // The last command takes the shell's place, which would wait for its job otherwise.
        let leave = r#"sh -c "$1" & echo $! > "$2.tmp"; exec mv "$2.tmp" "$2""#;
        // A background job of a shell reads nothing unless it is told to.
        let leave = leave.replace(" &", " <&3 &");
        let words = ["/bin/sh", "-c", &format!("exec 3<&0; {leave}"), "leave", script, pid_file.to_str().unwrap()];
        let mut run = Run::new(id, words.map(OsString::from).to_vec(), &pid_file);
        run.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        run.exit_file = Some(self.file(&format!("{id}.exit")));
        run
    }

    /// The same with pipes and a log.
    pub fn logged(&self, id: &str, script: &str) -> Run {
        let log = Some(self.log(id));
        Run { stdio: Stdio::Pipes { log, stdin: false, stdin_once: false }, ..self.script(id, script) }
    }

    pub fn log(&self, id: &str) -> PathBuf {
        self.file(&format!("{id}.log"))
    }

    /// The text that a log holds of each stream.
    pub fn text(&self, id: &str) -> BTreeMap<String, String> {
        text_of(&fs::read_to_string(self.log(id)).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGKILL);
    }
}

/// The streams of a log, put together again as `kubectl logs` does.
pub fn text_of(log: &str) -> BTreeMap<String, String> {
    let mut streams = BTreeMap::<String, String>::new();
    for line in log.split_inclusive('\n') {
        let mut words = line.splitn(4, ' ');
        let (time, stream, tag, text) = (words.next(), words.next(), words.next(), words.next());
        assert!(time.is_some_and(|time| time.len() == 30 && time.ends_with('Z')), "{line:?}");
        let text = text.unwrap_or_else(|| panic!("no record: {line:?}"));
        let text = match tag {
            Some("F") => text,
            Some("P") => text.strip_suffix('\n').unwrap(),
            other => panic!("{other:?} in {line:?}"),
        };
        streams.entry(stream.unwrap().to_owned()).or_default().push_str(text);
    }
    streams
}

/// Waits until `id` has exited.
pub async fn exit_of(exits: &mut Exits, id: &str) -> Exit {
    loop {
        let exited = exits.next().await.expect("the monitor is gone");
        if exited.id == id {
            return exited.exit;
        }
    }
}
