//! What a container's processes cannot do, and that an exec can do no more than the init.

mod machine;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::process::Command;

use machine::{Container, good, read, status_of};
use serde_json::json;

const CONFINED: [&str; 11] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
];
const NAMESPACES: [&str; 7] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"];

/// Asserts that an exec lands where the init is, and is confined as it is.
fn exec_is_as_confined_as_init(container: &Container) {
    let (init, exec) = (container.pid(), container.exec_staying());
    assert_eq!(status_of(init, &CONFINED), status_of(exec, &CONFINED));
    for name in NAMESPACES {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(namespace(init), namespace(exec), "{name}");
    }
    assert_eq!(read(format!("/proc/{init}/cgroup")), read(format!("/proc/{exec}/cgroup")));
    assert_eq!(
        fs::read_link(format!("/proc/{exec}/exe")).unwrap(),
        fs::read_link(format!("/proc/{init}/exe")).unwrap()
    );
    assert_eq!(read(format!("/proc/{init}/limits")), read(format!("/proc/{exec}/limits")));
    for line in read(format!("/proc/{exec}/cgroup")).lines().filter(|line| !line.starts_with("0::")) {
        assert!(line.ends_with(&container.id), "{line}");
    }
}

#[test]
fn an_exec_has_the_namespaces_cgroups_capabilities_and_filter_of_the_init() {
    let container = Container::staying();
    container.run();
    assert_eq!(status_of(container.pid(), &["Seccomp"]), ["Seccomp:\t2"]);
    exec_is_as_confined_as_init(&container);
}

#[test]
fn it_is_no_less_confined_where_its_mounts_are_made_from_the_hosts() {
    for users in [false, true] {
        let mut container = Container::staying();
        container.from_host = true;
        let container = if users { container.with_users() } else { container };
        container.run();
        exec_is_as_confined_as_init(&container);
    }
}

#[test]
fn an_exec_enters_the_user_namespace() {
    let container = Container::staying().with_users();
    container.run();
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(fs::read_link(format!("/proc/{}/ns/user", container.pid())).unwrap(), own);
    assert!(status_of(container.pid(), &["Uid"])[0].contains("100000"));
    exec_is_as_confined_as_init(&container);
}

#[test]
fn a_user_without_privileges_keeps_what_is_ambient_only() {
    let mut container = Container::staying();
    container.spec["process"]["user"] = json!({ "uid": 1000, "gid": 2000, "additionalGids": [7, 9], "umask": 0o77 });
    container.spec["process"]["noNewPrivileges"] = json!(true);
    let capabilities = json!(["CAP_NET_BIND_SERVICE"]);
    container.spec["process"]["capabilities"] = json!({
        "bounding": capabilities, "effective": capabilities, "permitted": capabilities, "inheritable": capabilities, "ambient": capabilities,
    });
    container.run();
    let seen =
        status_of(container.pid(), &["Uid", "Gid", "Groups", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Umask"]);
    let expected = [
        "Uid:\t1000\t1000\t1000\t1000",
        "Gid:\t2000\t2000\t2000\t2000",
        "Groups:\t7 9 ",
        "CapEff:\t0000000000000400",
        "CapBnd:\t0000000000000400",
        "CapAmb:\t0000000000000400",
        "NoNewPrivs:\t1",
        "Umask:\t0077",
    ];
    assert_eq!(seen, expected);
    exec_is_as_confined_as_init(&container);
}

#[test]
fn a_disk_can_neither_be_made_nor_opened() {
    let container = Container::staying();
    container.run();
    // made by other means: from outside, where no cgroup forbids it
    let node = container.root().join("tmp/outside");
    let made = Command::new("mknod").arg(&node).args(["b", "254", "0"]).status().unwrap();
    assert!(made.success());
    let seen =
        container.exec("mknod /tmp/inside b 254 0 && echo made; cat /tmp/outside; mknod /dev/mem c 1 1 && echo made");
    assert!(!seen.contains("made\n") && seen.matches("Operation not permitted").count() == 3, "{seen}");
    assert!(
        container.exec("mknod /tmp/null c 1 3 && cat /tmp/null && echo fine").contains("fine"),
        "what is harmless may be made"
    );
}

#[test]
fn masked_paths_stay_masked_and_read_only_paths_read_only() {
    let container = Container::staying();
    container.run();
    let seen = container.exec(
        "cat /proc/kcore | dd bs=1 count=1 2>/dev/null; ls /sys/firmware; umount /proc/kcore; umount /sys/firmware; \
         mount -o remount,rw /proc/sys; echo 1 > /proc/sys/kernel/panic; echo b > /proc/sysrq-trigger; echo x > /sys/power/state; true",
    );
    let refused = seen.matches("Read-only file system").count() + seen.matches("can't create").count();
    assert!(refused >= 3, "{seen}");
    for masked in ["/proc/kcore", "/sys/firmware"] {
        let seen = container.exec(&format!("umount {masked} || echo refused"));
        assert!(seen.contains("refused"), "{seen}");
    }
}

#[test]
fn a_read_only_root_cannot_be_written() {
    let mut container = Container::new("echo x > /etc/file || echo refused; echo y > /dev/shm-file && echo dev");
    container.spec["root"]["readonly"] = json!(true);
    let seen = container.finish();
    assert!(seen.contains("refused") && seen.contains("dev") && !container.root().join("etc/file").exists(), "{seen}");
}

#[test]
fn no_mount_of_the_host_is_left() {
    for from_host in [false, true] {
        let mut container = Container::new("cat /proc/self/mountinfo");
        container.from_host = from_host;
        only_its_own_mounts(&container, &container.finish());
    }
}

fn only_its_own_mounts(container: &Container, seen: &str) {
    for line in seen.lines() {
        let mountpoint = line.split(' ').nth(4).unwrap();
        let known = ["/", "/proc", "/dev", "/sys"]
            .iter()
            .any(|one| mountpoint == *one || mountpoint.starts_with(&format!("{one}/")));
        assert!(known && !line.contains(" - overlay") && !line.contains("shared:"), "{line}");
    }
    assert_eq!(seen.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{seen}");
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!own.contains(container.dir.path().to_str().unwrap()), "nothing came back to the host");
}

#[test]
fn no_file_of_the_host_leaks_into_a_process() {
    let container = Container::new("ls -l /proc/self/fd; exec sleep 1000");
    container.run();
    let seen = container.exec("ls -l /proc/self/fd");
    let init = fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap().count();
    assert_eq!(init, 3);
    for line in seen.lines().filter(|line| line.contains("->")) {
        assert!(["/dev/null", "pipe:", "/proc/"].iter().any(|known| line.contains(&format!("-> {known}"))), "{seen}");
    }
    assert!(fs::read_link(format!("/proc/{}/cwd", container.pid())).unwrap() == std::path::Path::new("/"));
}

#[test]
fn a_working_folder_outside_is_refused() {
    // CVE-2024-21626: a folder of the host's by an fd that is still open
    for number in 3..20 {
        let mut container = Container::staying();
        container.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let created = container.create();
        assert!(!created.status.success(), "{number}: {:?}", fs::read_link(format!("/proc/{}/cwd", container.pid())));
    }
    let container = Container::staying();
    container.run();
    for number in 3..20 {
        let mut process = container.process("cat /proc/self/cwd/../../../../etc/hostname; ls");
        process["cwd"] = json!(format!("/proc/self/fd/{number}"));
        assert!(!container.exec_process(&process).status.success(), "{number}");
    }
}

#[test]
fn the_launchers_program_cannot_be_written_from_inside() {
    let mut container = Container::staying();
    container.program = own_launcher(&container);
    cannot_be_written(&container);
}

#[test]
fn a_launcher_that_is_run_from_a_kept_mount_is_as_safe_and_does_not_run_again() {
    let mut container = Container::staying();
    let program = own_launcher(&container);
    let kept = pintle_launch::sealed_program(&program).unwrap();
    container.program = format!("/proc/{}/fd/{}", std::process::id(), kept.as_raw_fd()).into();
    let environment = cannot_be_written(&container);
    // it is removed after the mount is gone
    container.program = program;
    assert!(!environment.contains("PINTLE_LAUNCH_SEALED"), "{environment}");
}

fn own_launcher(container: &Container) -> std::path::PathBuf {
    let program = container.dir.path().join("launcher");
    fs::copy(env!("CARGO_BIN_EXE_pintle-launch"), &program).unwrap();
    program
}

/// CVE-2019-5736: what runs before the container's program is the host's launcher. Its environment.
fn cannot_be_written(container: &Container) -> String {
    good(&container.create());
    let pid = container.pid();
    let environment = read(format!("/proc/{pid}/environ"));
    // an attacker keeps the file by an fd until nobody runs it any more
    let kept =
        fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(format!("/proc/{pid}/exe")).unwrap();
    assert!(!read(format!("/proc/{pid}/mountinfo")).contains("launcher"), "it is in no mount table");
    good(&container.start());
    let again = format!("/proc/self/fd/{}", kept.as_raw_fd());
    let error = loop {
        match fs::OpenOptions::new().write(true).open(&again).unwrap_err() {
            error if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            error => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "even the host's root cannot write it: {error}");
    environment
}

#[test]
fn links_in_an_image_lead_nowhere_outside() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().to_str().unwrap();
    for (name, target) in [("dev", "/etc"), ("dev", secret), ("tmp", "../../../../../../../../var"), ("mnt", secret)] {
        let mut container = Container::new("mount; ls -a /etc");
        let link = container.root().join(name);
        let _ = fs::remove_dir(&link);
        symlink(target, &link).unwrap();
        for destination in ["/tmp/launch-x", "/mnt/y", "/a/../../../launch-b", "/../../../../launch-c"] {
            container.mount(json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" }));
        }
        container.finish();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{name} -> {target}");
        for path in ["/tmp/launch-x", "/launch-b", "/launch-c"] {
            assert!(!std::path::Path::new(path).exists(), "{path}");
        }
    }
}

#[test]
fn proc_and_sys_must_be_where_they_are_named() {
    for name in ["proc", "sys"] {
        let container = Container::staying();
        fs::remove_dir(container.root().join(name)).unwrap();
        symlink("/tmp", container.root().join(name)).unwrap();
        let error = machine::bad(&container.create());
        assert!(error.contains(&format!("{name} is a symbolic link")), "{error}");
    }
}

#[test]
fn nothing_is_mounted_over_files_of_proc() {
    let mut container = Container::staying();
    container
        .mount(json!({ "destination": "/proc/self/attr", "type": "bind", "source": "/tmp", "options": ["rbind"] }));
    assert!(machine::bad(&container.create()).contains("inside /proc"));
}
