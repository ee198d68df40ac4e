//! Containers in a sandbox's pinned namespaces, with terminals, and with cgroups mounted.

mod machine;

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use machine::{Container, good};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;

/// Namespaces pinned for a test, let go of at its end.
struct Pinned(PathBuf);

impl Drop for Pinned {
    fn drop(&mut self) {
        for file in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = nix::mount::umount2(&file.path(), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// Pins namespaces and lets the container join them.
fn join(container: &mut Container, users: bool) -> Pinned {
    let dir = container.dir.path().join("ns");
    let text = dir.to_str().unwrap().to_owned();
    let mut call = vec!["namespaces", "--pin", &text, "--net", "--ipc", "--uts", "pod"];
    if users {
        call.extend(["--user-map", "0:100000:65536", "--group-map", "0:100000:65536"]);
    }
    good(&container.call(&call));
    let mut namespaces = vec![json!({ "type": "pid" }), json!({ "type": "mount" }), json!({ "type": "cgroup" })];
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("user", "user")] {
        if dir.join(file).exists() {
            namespaces.push(json!({ "type": kind, "path": dir.join(file) }));
        }
    }
    container.spec["linux"]["namespaces"] = json!(namespaces);
    Pinned(dir)
}

fn in_pinned(pinned: &Pinned, pid: u32) {
    for file in fs::read_dir(&pinned.0).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        let theirs = fs::metadata(format!("/proc/{pid}/ns/{name}")).unwrap().ino();
        assert_eq!(fs::metadata(file.path()).unwrap().ino(), theirs, "{name}");
    }
}

#[test]
fn containers_share_the_namespaces_of_their_sandbox() {
    let mut one = Container::staying();
    let pinned = join(&mut one, false);
    one.run();
    let mut other = Container::new("cat /proc/sys/kernel/hostname; ls /sys/class/net; exec sleep 1000");
    other.spec["linux"]["namespaces"] = one.spec["linux"]["namespaces"].clone();
    other.run();
    in_pinned(&pinned, one.pid());
    in_pinned(&pinned, other.pid());
    assert_eq!(other.exec("cat /proc/sys/kernel/hostname"), "pod\n");
    in_pinned(&pinned, one.exec_staying());
}

#[test]
fn containers_of_a_sandbox_with_its_own_users_join_them_too() {
    let volume = tempfile::tempdir().unwrap();
    let mut container =
        Container::new("id -u; cat /proc/sys/kernel/hostname; ls /sys/class/net; exec sleep 1000").with_users();
    container.mount(
        json!({ "destination": "/data", "type": "bind", "source": volume.path(), "options": ["rbind", "ro", "idmap"] }),
    );
    let pinned = join(&mut container, true);
    container.run();
    in_pinned(&pinned, container.pid());
    let exec = container.exec_staying();
    in_pinned(&pinned, exec);
    assert_eq!(machine::status_of(exec, &["CapEff"]), machine::status_of(container.pid(), &["CapEff"]));
    let seen = container.exec("id -u; cat /proc/sys/kernel/hostname; ls /sys/class/net; stat -c %u /data /dev/null; echo x > /dev/null && echo null");
    assert_eq!(seen, "0\npod\nlo\n0\n65534\nnull\n");
}

/// The terminal that a socket got.
fn terminal(listener: &UnixListener) -> fs::File {
    let (connection, _) = listener.accept().unwrap();
    let (mut name, mut space) = ([0; 64], nix::cmsg_space!([i32; 1]));
    let mut name = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut name, Some(&mut space), MsgFlags::empty()).unwrap();
    let fd = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made it for this process.
    unsafe { OwnedFd::from_raw_fd(fd.unwrap()) }.into()
}

/// What a terminal shows until a word appears.
fn until(terminal: &mut fs::File, word: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(word) {
        let mut bytes = [0; 4096];
        let count = terminal.read(&mut bytes).unwrap_or_else(|error| panic!("{error} after {seen:?}"));
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    seen
}

#[test]
fn a_process_with_a_terminal_controls_it() {
    let mut container = Container::new(
        "tty; stty size; test -c /dev/console && echo console; read line; echo got $line; exec sleep 1000",
    );
    container.spec["process"]["terminal"] = json!(true);
    container.spec["process"]["consoleSize"] = json!({ "height": 40, "width": 100 });
    let path = container.dir.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    fs::write(container.dir.path().join("config.json"), container.spec.to_string()).unwrap();
    let (bundle, socket, pid) = (container.dir.path(), path.to_str().unwrap(), container.dir.path().join("pid"));
    let call = [
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "--console-socket",
        socket,
        "--pid-file",
        pid.to_str().unwrap(),
    ];
    good(&container.call(&[&call[..], &[&container.id]].concat()));
    let mut master = terminal(&listener);
    good(&container.start());
    let seen = until(&mut master, "console");
    assert!(seen.contains("/dev/pts/0") && seen.contains("40 100"), "{seen}");
    master.write_all(b"word\n").unwrap();
    assert!(until(&mut master, "got").contains("word"));

    let mut process = container.process("tty; echo end");
    process["terminal"] = json!(true);
    let file = container.dir.path().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    good(&container.call(&[
        "exec",
        "--detach",
        "--console-socket",
        socket,
        "--process",
        file.to_str().unwrap(),
        &container.id,
    ]));
    let mut second = terminal(&listener);
    assert!(until(&mut second, "end").contains("/dev/pts/1"));
}

#[test]
fn a_terminal_needs_a_console_socket() {
    let mut container = Container::staying();
    container.spec["process"]["terminal"] = json!(true);
    assert!(machine::bad(&container.create()).contains("console socket"));
}

#[test]
fn mounted_cgroups_are_read_only_and_the_containers_own_where_they_can_be() {
    for own_namespace in [true, false] {
        let mut container = Container::new("exec sleep 1000");
        container.mount(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "nodev", "noexec"] }));
        if !own_namespace {
            let all = container.spec["linux"]["namespaces"].as_array().unwrap().clone();
            container.spec["linux"]["namespaces"] = all.into_iter().filter(|one| one["type"] != "cgroup").collect();
        }
        container.run();
        let path = container.spec["linux"]["cgroupsPath"].as_str().unwrap().trim_start_matches('/').to_owned();
        let file = match (Path::new("/sys/fs/cgroup/memory").exists(), own_namespace) {
            (true, _) => "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
            (false, true) => "/sys/fs/cgroup/memory.max".to_owned(),
            // v2 mounted in the host's namespace shows the host's whole tree, as under runc
            (false, false) => format!("/sys/fs/cgroup/{path}/memory.max"),
        };
        assert_eq!(container.exec(&format!("cat {file}")), "268435456\n", "own namespace: {own_namespace}");
        assert!(container.exec(&format!("echo 1 > {file}")).contains("Read-only file system"));
    }
}
