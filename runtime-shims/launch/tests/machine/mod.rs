//! Containers for the launcher's tests: a bundle with a busybox root, made, run and removed by the program under test.
//!
//! Must not know: what a test looks for.
#![allow(dead_code)] // each test program uses a part of it

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

static NUMBER: AtomicU32 = AtomicU32::new(0);
/// Where containers' mounts begin, as a runtime keeps it.
static MOUNTS: LazyLock<OwnedFd> = LazyLock::new(|| pintle_launch::bare_mounts().unwrap());

/// What Kubernetes gives a container by default.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// One container, removed when dropped.
pub struct Container {
    pub dir: tempfile::TempDir,
    pub id: String,
    pub spec: Value,
    /// The launcher.
    pub program: PathBuf,
    /// What every call is given besides.
    pub flags: Vec<&'static str>,
    /// Its mounts are made from the host's, as by a caller that keeps nothing.
    pub from_host: bool,
}

impl Container {
    /// A bundle of a container that runs `script` in a shell. Nothing is created yet.
    pub fn new(script: &str) -> Container {
        let dir = tempfile::tempdir().unwrap();
        let id = format!("launch-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let root = dir.path().join("rootfs");
        for folder in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in [
            "sh", "cat", "sleep", "mknod", "ls", "id", "dd", "mount", "umount", "readlink", "stty", "tty", "grep",
            "test", "stat",
        ] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let program = env!("CARGO_BIN_EXE_pintle-launch").into();
        let mut container = Container { dir, spec: spec(&id), id, program, flags: Vec::new(), from_host: false };
        container.spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        container
    }

    /// One that stays until it is killed.
    pub fn staying() -> Container {
        Container::new("exec sleep 1000")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// What its init wrote to stdout and stderr.
    pub fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).unwrap_or_default()
    }

    /// A call on the container's own state folder.
    pub fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.dir.path().join("state")).arg("--log").arg(self.dir.path().join("log"));
        command.args(["--log-format", "json"]).args(&self.flags).args(arguments).stdin(Stdio::null());
        if arguments.first() == Some(&"create") {
            // the init inherits them, and would keep a pipe open
            let file = File::create(self.dir.path().join("out")).unwrap();
            command.stdout(file.try_clone().unwrap()).stderr(file);
            let status = command.status().unwrap();
            return Output { status, stdout: Vec::new(), stderr: self.output().into_bytes() };
        }
        command.output().unwrap()
    }

    pub fn create(&self) -> Output {
        fs::write(self.dir.path().join("config.json"), self.spec.to_string()).unwrap();
        let (bundle, pid) = (self.dir.path().to_str().unwrap(), self.dir.path().join("pid"));
        let mounts = format!("/proc/{}/fd/{}", std::process::id(), MOUNTS.as_raw_fd());
        let mounts: &[&str] = if self.from_host { &[] } else { &["--mounts", &mounts] };
        self.call(&[&["create", "--bundle", bundle, "--pid-file", pid.to_str().unwrap()], mounts, &[&self.id]].concat())
    }

    pub fn start(&self) -> Output {
        self.call(&["start", &self.id])
    }

    /// Creates and starts it.
    pub fn run(&self) {
        good(&self.create());
        good(&self.start());
    }

    /// Runs it to its end, and gives what it wrote.
    pub fn finish(&self) -> String {
        self.run();
        self.wait_for_end();
        self.output()
    }

    pub fn pid(&self) -> u32 {
        fs::read_to_string(self.dir.path().join("pid")).unwrap().trim().parse().unwrap()
    }

    pub fn state(&self) -> Value {
        let output = self.call(&["state", &self.id]);
        good(&output);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn wait_for_end(&self) {
        while self.state()["status"] != "stopped" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The process an exec takes: the container's own with another script.
    pub fn process(&self, script: &str) -> Value {
        let mut process = self.spec["process"].clone();
        process["args"] = json!(["/bin/sh", "-c", script]);
        process
    }

    pub fn exec_process(&self, process: &Value) -> Output {
        let file = self.dir.path().join(format!("process-{}.json", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::write(&file, process.to_string()).unwrap();
        self.call(&["exec", "--process", file.to_str().unwrap(), &self.id])
    }

    /// What a script writes that is run in the container.
    pub fn exec(&self, script: &str) -> String {
        let output = self.exec_process(&self.process(script));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Starts a script in the container that stays, and gives its process's number.
    pub fn exec_staying(&self) -> u32 {
        let (file, pid) = (self.dir.path().join("process.json"), self.dir.path().join("exec-pid"));
        fs::write(&file, self.process("exec sleep 1000").to_string()).unwrap();
        let arguments =
            ["exec", "--detach", "--pid-file", pid.to_str().unwrap(), "--process", file.to_str().unwrap(), &self.id];
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.dir.path().join("state")).args(arguments);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{}", self.exec("true"));
        fs::read_to_string(pid).unwrap().trim().parse().unwrap()
    }

    /// Gives it a user namespace: root is 100000 on the host.
    pub fn with_users(mut self) -> Container {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        self.spec["linux"]["uidMappings"] = map.clone();
        self.spec["linux"]["gidMappings"] = map;
        self.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let chown = Command::new("chown").args(["-hR", "100000:100000"]).arg(self.root()).status().unwrap();
        assert!(chown.success());
        fs::set_permissions(self.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    /// Adds a mount.
    pub fn mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.id]);
    }
}

/// Fails with what a call said.
#[track_caller]
pub fn good(output: &Output) {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
}

/// What a failed call said, which must be one line.
#[track_caller]
pub fn bad(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(!output.status.success(), "it succeeded");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// A file of the host's as text.
pub fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Fields of /proc/PID/status by name.
pub fn status_of(pid: u32, names: &[&str]) -> Vec<String> {
    let text = read(format!("/proc/{pid}/status"));
    let field = |name: &&str| text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap().to_owned();
    names.iter().map(field).collect()
}

fn spec(id: &str) -> Value {
    let capabilities = json!(CAPABILITIES);
    json!({
        "ociVersion": "1.1.0",
        "root": { "path": "rootfs" },
        "hostname": "inside",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": [], "noNewPrivileges": false,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 512, "soft": 256 }],
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "cgroupsPath": format!("/pintle-launch-tests/{id}"),
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" }, { "type": "cgroup" }],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }], "pids": { "limit": 100 },
                           "memory": { "limit": 268_435_456 }, "cpu": { "shares": 512 } },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"],
            "seccomp": { "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                         "syscalls": [{ "names": ["swapon", "reboot"], "action": "SCMP_ACT_ERRNO" }] },
        },
    })
}
