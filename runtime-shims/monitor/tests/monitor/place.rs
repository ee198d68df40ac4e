//! A sandbox's directory with a monitor in it, and command lines that leave a process behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_monitor::{Exit, Exits, Monitor, Run, Stdio};
use tempfile::TempDir;

/// What goes with it ends with it: the monitor is killed.
pub struct Place {
    dir: PathBuf,
    pid: u32,
    owned: Option<TempDir>,
}

impl Place {
    pub async fn new() -> (Place, Monitor) {
        // Longer than the address of a socket can be, as a runtime's directories are.
        let dir = tempfile::Builder::new().prefix(&"x".repeat(120)).tempdir().unwrap();
        let monitor = Monitor::spawn(dir.path(), &[]).await.unwrap();
        (Place { dir: dir.path().to_owned(), pid: monitor.pid(), owned: Some(dir) }, monitor)
    }

    /// One that somebody else made, and removes.
    pub fn existing(dir: &Path, pid: u32) -> Place {
        Place { dir: dir.to_owned(), pid, owned: None }
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
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
        // Not a shell: it would wait for its job when it can, and the process would be nobody's child.
        let leave = r#"my ($script, $file) = @ARGV; my $pid = fork; exec "/bin/sh", "-c", $script unless $pid;
            open(my $to, ">", "$file.tmp"); print $to $pid; close $to; rename "$file.tmp", $file"#;
        let words = ["/usr/bin/perl", "-e", leave, script, pid_file.to_str().unwrap()];
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

    /// The same with pipes for everything.
    pub fn interactive(&self, id: &str, script: &str, stdin_once: bool) -> Run {
        let log = Some(self.log(id));
        Run { stdio: Stdio::Pipes { log, stdin: true, stdin_once }, ..self.script(id, script) }
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
        if self.owned.is_some() {
            let _ = kill(self.pid(), Signal::SIGKILL);
        }
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

/// The lines that [`Place`]'s `count` prints: `line N` and a filling.
pub fn counted(lines: usize) -> String {
    (1..=lines)
        .map(|n| format!("line {n:07} ........................................................................\n"))
        .collect()
}

/// A script that prints them.
pub fn count(lines: usize) -> String {
    let filling = ".".repeat(72);
    format!(r#"seq -f "line %07g {filling}" 1 {lines}"#)
}

/// The two ends of a pipe, the one to read first.
pub fn pipe() -> (File, OwnedFd) {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    (read.into(), write)
}

/// All that comes until the end.
pub async fn read_all(mut file: File) -> String {
    let read = move || {
        let mut text = String::new();
        file.read_to_string(&mut text).map(|_| text)
    };
    tokio::task::spawn_blocking(read).await.unwrap().unwrap()
}

/// What comes until `text` has come.
pub async fn read_until(mut file: File, text: &'static str) -> (File, String) {
    let read = move || {
        let mut all = String::new();
        while !all.contains(text) {
            let mut piece = [0; 4096];
            let length = file.read(&mut piece).unwrap();
            assert!(length > 0, "{text:?} does not come, only {all:?}");
            all.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        (file, all)
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}
