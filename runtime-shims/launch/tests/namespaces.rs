//! `namespaces --pin`: what a sandbox's namespaces are and hold.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

fn launch(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pintle-launch")).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a shell prints that has joined the pinned namespaces.
fn inside(dir: &Path, kinds: &[&str], script: &str) -> String {
    let mut command = Command::new("nsenter");
    for kind in kinds {
        command.arg(format!("--{kind}={}", dir.join(kind).display()));
    }
    let output = command.args(["--", "sh", "-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn unpin(dir: &Path) {
    for file in fs::read_dir(dir).unwrap() {
        nix::mount::umount2(&file.unwrap().path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

/// Paths of what is mounted, from the root on.
fn mounted() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mut paths: Vec<String> = table.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect();
    paths.sort();
    paths
}

/// Brings this thread, and those it starts, into a mount namespace.
fn leave_for(namespace: Option<OwnedFd>) {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, setns, unshare};
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
    match namespace {
        Some(namespace) => setns(namespace, CloneFlags::CLONE_NEWNS).unwrap(),
        None => mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap(),
    }
}

#[test]
fn containers_mounts_begin_with_what_the_kernel_serves_and_nothing_of_the_hosts_disks() {
    // away from what other tests mount meanwhile
    leave_for(None);
    let before = mounted();
    let namespace = pintle_launch::bare_mounts().unwrap();
    assert_eq!(mounted(), before, "nothing changed here");
    leave_for(Some(namespace));
    let mut top: Vec<_> = fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    top.sort();
    assert_eq!(top, ["dev", "proc", "sys"]);
    assert_eq!(fs::write("/file", "x").unwrap_err().raw_os_error(), Some(nix::libc::EROFS));
    let (kept, others): (Vec<_>, Vec<_>) =
        mounted().into_iter().partition(|path| ["/proc", "/sys"].iter().any(|kept| path.starts_with(kept)));
    assert_eq!(others, ["/", "/dev/null"]);
    assert!(!kept.is_empty() && kept.iter().all(|path| before.contains(path)), "{kept:?}");
}

#[test]
fn pinned_namespaces_outlive_the_call_and_hold_hostname_loopback_and_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let pin = dir.path().join("ns");
    let done = launch(&[
        "namespaces",
        "--pin",
        pin.to_str().unwrap(),
        "--net",
        "--ipc",
        "--uts",
        "pod-1",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=0",
        "--sysctl",
        "kernel.shm_rmid_forced=1",
    ]);
    assert!(done.status.success(), "{}", stderr(&done));
    for kind in ["net", "ipc", "uts"] {
        let own = fs::metadata(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(fs::metadata(pin.join(kind)).unwrap().ino(), own.ino(), "{kind}");
    }
    let script = "hostname; cat /sys/class/net/lo/flags /proc/sys/net/ipv4/ip_unprivileged_port_start \
                  /proc/sys/kernel/shm_rmid_forced; ip -o link | wc -l";
    // sysfs shows the network namespace it was mounted in, so the loopback is asked of ip
    let script = script.replace("/sys/class/net/lo/flags", "/dev/null");
    assert_eq!(inside(&pin, &["net", "ipc", "uts"], &script), "pod-1\n0\n1\n1");
    assert!(inside(&pin, &["net"], "ip link show lo").contains("LOOPBACK,UP"));
    unpin(&pin);
}

#[test]
fn a_user_namespace_owns_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let pin = dir.path().join("ns");
    let done = launch(&[
        "namespaces",
        "--pin",
        pin.to_str().unwrap(),
        "--net",
        "--ipc",
        "--uts",
        "pod-1",
        "--user-map",
        "0:70000:65536",
        "--group-map",
        "0:80000:65536",
        "--sysctl",
        "net.ipv4.ping_group_range=0 0",
        "--sysctl",
        "kernel.msgmax=9000",
    ]);
    assert!(done.status.success(), "{}", stderr(&done));
    let seen = inside(
        &pin,
        &["user", "net"],
        "cat /proc/self/uid_map /proc/self/gid_map; ip addr add 127.0.0.2/8 dev lo && echo may",
    );
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!(words, ["0", "70000", "65536", "0", "80000", "65536", "may"]);
    let of_queues = "unshare --mount sh -c 'mount -t mqueue none /mnt && stat --format %u:%g /mnt'";
    assert_eq!(inside(&pin, &["user", "ipc"], of_queues), "0:0", "the folder of message queues is not its root's");
    unpin(&pin);
}

#[test]
fn a_parameter_the_kernel_refuses_leaves_nothing_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let pin = dir.path().join("ns");
    let done = launch(&["namespaces", "--pin", pin.to_str().unwrap(), "--net", "--sysctl", "net.ipv4.no_such=1"]);
    assert!(!done.status.success());
    let error = stderr(&done);
    assert!(error.contains("cannot set net.ipv4.no_such") && error.lines().count() == 1, "{error}");
    assert_eq!(fs::read_dir(&pin).unwrap().count(), 0);
}

#[test]
fn a_file_in_the_way_is_named_and_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ipc"), "").unwrap();
    let done = launch(&["namespaces", "--pin", dir.path().to_str().unwrap(), "--net", "--ipc"]);
    assert!(!done.status.success());
    assert!(stderr(&done).contains("/ipc: File exists"), "{}", stderr(&done));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
