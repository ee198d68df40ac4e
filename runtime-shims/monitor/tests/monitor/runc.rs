//! Containers, by Debian's runc.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use pintle_monitor::{Attach, CONSOLE_SOCKET, Monitor, Run, Stdio};

use crate::place::{Place, exit_of, pipe, read_all, read_until};

const RUNC: &str = "/usr/sbin/runc";
const BUSYBOX: &str = "/usr/bin/busybox";

/// A bundle and a state of runc's own; what is left of the container goes with it.
struct Bundle<'a> {
    place: &'a Place,
    name: String,
}

impl Bundle<'_> {
    /// A container `c` of busybox that runs `script`.
    fn new<'a>(place: &'a Place, script: &str, terminal: bool) -> Bundle<'a> {
        let root = place.file("bundle/rootfs");
        for dir in ["bin", "proc", "dev"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for name in ["sh", "echo", "sleep", "cat", "stty", "tty"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let name = format!("pintle-monitor-test-{}", place.pid());
        fs::write(place.file("bundle/config.json"), config(&name, script, terminal)).unwrap();
        Bundle { place, name }
    }

    fn line(&self, words: &[&str], terminal: bool) -> Vec<OsString> {
        let root = self.place.file("runc");
        let mut line: Vec<OsString> = vec![RUNC.into(), "--root".into(), root.into()];
        line.extend(words.iter().map(OsString::from));
        line.extend(terminal.then_some(["--console-socket", CONSOLE_SOCKET].map(OsString::from)).into_iter().flatten());
        line
    }

    fn create(&self, stdio: Stdio) -> Run {
        let (pid_file, bundle) = (self.place.file("c.pid"), self.place.file("bundle"));
        let terminal = matches!(stdio, Stdio::Terminal { .. });
        let words = ["create", "--bundle", text(&bundle), "--pid-file", text(&pid_file)];
        let mut argv = self.line(&words, terminal);
        argv.push(self.name.clone().into());
        Run { stdio, exit_file: Some(self.place.file("c.exit")), ..Run::new("c", argv, &pid_file) }
    }

    fn exec(&self, id: &str, stdio: Stdio, script: &str) -> Run {
        let pid_file = self.place.file(&format!("{id}.pid"));
        let terminal = matches!(stdio, Stdio::Terminal { .. });
        let file = self.place.file(&format!("{id}.json"));
        let process = format!(
            r#"{{"terminal":{terminal},"user":{{"uid":0,"gid":0}},"cwd":"/","env":["PATH=/bin"],
            "args":["/bin/sh","-c","{script}"]}}"#
        );
        fs::write(&file, process).unwrap();
        let words = ["exec", "--process", text(&file), "--detach", "--pid-file", text(&pid_file)];
        let mut argv = self.line(&words, terminal);
        argv.push(self.name.clone().into());
        Run { stdio, ..Run::new(id, argv, &pid_file) }
    }

    fn call(&self, words: &[&str]) {
        let line = self.line(words, false);
        let output = Command::new(&line[0]).args(&line[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        let line = self.line(&["delete", "--force", &self.name], false);
        let _ = Command::new(&line[0]).args(&line[1..]).output();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn config(name: &str, script: &str, terminal: bool) -> String {
    let script = script.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let namespaces = ["pid", "mount", "ipc", "uts", "network"].map(|kind| format!(r#"{{"type":"{kind}"}}"#)).join(",");
    format!(
        r#"{{"ociVersion":"1.0.2","hostname":"c","root":{{"path":"rootfs"}},
        "process":{{"terminal":{terminal},"user":{{"uid":0,"gid":0}},"cwd":"/","env":["PATH=/bin"],
          "args":["/bin/sh","-c","{script}"]}},
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
          {{"destination":"/dev","type":"tmpfs","source":"tmpfs"}},
          {{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["newinstance","ptmxmode=0666"]}}],
        "linux":{{"cgroupsPath":"/{name}","namespaces":[{namespaces}]}}}}"#
    )
}

fn logged(place: &Place, stdin: bool) -> Stdio {
    Stdio::Pipes { log: Some(place.log("c")), stdin, stdin_once: false }
}

fn terminal(place: &Place, log: bool) -> Stdio {
    let log = log.then(|| place.log("c"));
    Stdio::Terminal { log, stdin: true, stdin_once: false, columns: 80, rows: 24 }
}

#[tokio::test]
async fn a_container_runs_and_its_execs_beside_it() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let bundle = Bundle::new(&place, "echo begun; cat; echo ended >&2; exit 9", false);
    let created = monitor.run(bundle.create(logged(&place, true))).await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", created.pid)).unwrap();
    assert!(status.contains(&format!("\nPPid:\t{}\n", place.pid())), "{status}");
    bundle.call(&["start", &bundle.name]);
    let ((stdin, _), (out, stdout), (err, stderr)) = (pipe(), pipe(), pipe());
    let stdio = Stdio::Fds([stdin.into(), stdout, stderr]);
    monitor.run(bundle.exec("e1", stdio, "echo from exec; echo err >&2; exit 6")).await.unwrap();
    assert_eq!((read_all(out).await, read_all(err).await), ("from exec\n".to_owned(), "err\n".to_owned()));
    assert_eq!(exit_of(&mut exits, "e1").await.code, 6);
    monitor.close_stdin("c").await.unwrap();
    assert_eq!(exit_of(&mut exits, "c").await.code, 9);
    assert_eq!((place.text("c")["stdout"].as_str(), place.text("c")["stderr"].as_str()), ("begun\n", "ended\n"));
}

#[tokio::test]
async fn quick_execs_all_come_back_with_their_codes() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let bundle = Bundle::new(&place, "cat", false);
    monitor.run(bundle.create(logged(&place, true))).await.unwrap();
    bundle.call(&["start", &bundle.name]);
    for n in 0..20 {
        let id = format!("e{n}");
        monitor.run(bundle.exec(&id, Stdio::Null, &format!("exit {n}"))).await.unwrap();
        assert_eq!(exit_of(&mut exits, &id).await.code, n);
    }
    monitor.close_stdin("c").await.unwrap();
    assert_eq!(exit_of(&mut exits, "c").await.code, 0);
}

#[tokio::test]
async fn what_runc_cannot_create_is_said_in_its_own_words() {
    let (place, monitor) = Place::new().await;
    let bundle = Bundle::new(&place, "", false);
    let config = place.file("bundle/config.json");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("/bin/sh", "/bin/none")).unwrap();
    let error = monitor.run(bundle.create(logged(&place, false))).await.unwrap_err().to_string();
    assert!(error.contains("stat /bin/none: no such file or directory"), "{error}");
}

#[tokio::test]
async fn a_terminal_shows_types_resizes_and_is_logged() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let bundle = Bundle::new(&place, "stty size; read line; stty size; echo got $line; exit 3", true);
    monitor.run(bundle.create(terminal(&place, true))).await.unwrap();
    let (screen, mut typed) = attach(&monitor, "c").await;
    bundle.call(&["start", &bundle.name]);
    let (screen, _) = read_until(screen, "24 80\r\n").await;
    monitor.resize("c", 132, 50).await.unwrap();
    std::io::Write::write_all(&mut typed, b"hello\n").unwrap();
    let rest = read_all(screen).await;
    assert_eq!(rest, "hello\r\n50 132\r\ngot hello\r\n");
    assert_eq!(exit_of(&mut exits, "c").await.code, 3);
    assert_eq!(place.text("c")["stdout"], "24 80\nhello\n50 132\ngot hello\n");
}

async fn attach(monitor: &Monitor, id: &str) -> (File, File) {
    let ((stdin, typed), (screen, stdout)) = (pipe(), pipe());
    let attach = Attach { stdin: Some(stdin.into()), stdout: Some(stdout), stderr: None };
    monitor.attach(id, attach).await.unwrap();
    (screen, typed.into())
}

#[tokio::test]
async fn an_exec_with_a_terminal_loses_nothing_of_its_beginning() {
    let (place, monitor) = Place::new().await;
    let mut exits = monitor.exits().await.unwrap();
    let bundle = Bundle::new(&place, "cat", false);
    monitor.run(bundle.create(logged(&place, true))).await.unwrap();
    bundle.call(&["start", &bundle.name]);
    let (screen, stdout) = pipe();
    let attach = Attach { stdout: Some(stdout), ..Attach::default() };
    // runc hands the terminal over and goes on: nothing keeps the program until the size is set
    let script =
        "until stty size 2>/dev/null | busybox grep -q 24; do :; done; stty size; tty; busybox seq 1 20000; exit 2";
    let run = bundle.exec("e", terminal(&place, false), script);
    monitor.run(Run { attach, ..run }).await.unwrap();
    let shown = read_all(screen).await;
    assert_eq!(exit_of(&mut exits, "e").await.code, 2);
    let numbers: String = (1..=20000).map(|n| format!("{n}\r\n")).collect();
    assert!(shown.starts_with("24 80\r\n/dev/pts/") && shown.ends_with(&numbers), "{:.60}", shown);
    monitor.signal("c", 9).await.unwrap();
    assert_eq!(exit_of(&mut exits, "c").await.code, 137);
}
