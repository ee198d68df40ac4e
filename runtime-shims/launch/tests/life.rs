//! A container's life through the command line.

mod machine;

use std::fs;

use machine::{Container, bad, good, read};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

#[test]
fn a_container_is_created_started_stopped_and_removed() {
    let container = Container::new("echo up; id -u; stat -c %n /dev/null; exec sleep 1000");
    good(&container.create());
    assert_eq!(container.state()["status"], "created");
    assert_eq!(container.output(), "", "nothing of it runs before start");
    good(&container.start());
    assert_eq!(container.state()["status"], "running");
    assert_eq!(container.state()["pid"], container.pid());
    assert!(bad(&container.start()).contains("already running"));
    assert!(bad(&container.call(&["delete", &container.id])).contains("not stopped: running"));
    good(&container.call(&["kill", &container.id, "KILL"]));
    container.wait_for_end();
    assert_eq!(container.state()["pid"], 0);
    assert!(bad(&container.call(&["kill", &container.id, "TERM"])).contains("container not running"));
    good(&container.call(&["delete", &container.id]));
    assert!(bad(&container.call(&["state", &container.id])).contains("container does not exist"));
    good(&container.call(&["delete", "--force", &container.id]));
    assert!(container.output().starts_with("up\n0\n/dev/null\n"), "{}", container.output());
    assert!(!std::path::Path::new("/sys/fs/cgroup/memory/pintle-launch-tests").join(&container.id).exists());
}

#[test]
fn an_id_is_taken_once() {
    let container = Container::staying();
    good(&container.create());
    assert!(bad(&container.create()).contains("container with given ID already exists"));
    assert_eq!(container.state()["status"], "created", "the first one is not touched");
}

#[test]
fn a_program_that_is_not_there_fails_create_and_leaves_nothing() {
    let mut container = Container::staying();
    container.spec["process"]["args"] = json!(["/bin/none"]);
    let error = bad(&container.create());
    assert!(error.contains("exec: \"/bin/none\": stat /bin/none: no such file or directory"), "{error}");
    container.spec["process"]["args"] = json!(["none"]);
    assert!(bad(&container.create()).contains("exec: \"none\": executable file not found in $PATH"));
    assert_eq!(fs::read_dir(container.dir.path().join("state")).unwrap().count(), 0);
    let log = read(container.dir.path().join("log"));
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(first["level"], "error");
}

#[test]
fn a_memory_limit_that_nothing_can_live_with_fails_create() {
    let mut container = Container::staying();
    container.spec["linux"]["resources"]["memory"] = json!({ "limit": 1 });
    let error = bad(&container.create());
    assert!(error.contains("memory"), "{error}");
    assert_eq!(fs::read_dir(container.dir.path().join("state")).unwrap().count(), 0);
}

#[test]
fn a_program_that_cannot_run_fails_start() {
    let mut container = Container::staying();
    fs::write(container.root().join("bin/broken"), "\x7fELF nonsense").unwrap();
    fs::set_permissions(container.root().join("bin/broken"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    container.spec["process"]["args"] = json!(["/bin/broken"]);
    good(&container.create());
    let error = bad(&container.start());
    assert!(error.contains("exec /bin/broken: exec format error"), "{error}");
    container.wait_for_end();
}

#[test]
fn an_exec_gives_its_exit_code_output_and_input_folder() {
    let container = Container::staying();
    container.run();
    let mut process = container.process("echo $NAME in $PWD as $(id -u):$(id -g); exit 7");
    process["env"] = json!(["PATH=/bin", "NAME=me"]);
    process["cwd"] = json!("/tmp");
    process["user"] = json!({ "uid": 5, "gid": 6 });
    let output = container.exec_process(&process);
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
        (Some(7), "me in /tmp as 5:6\n")
    );
    let mut missing = container.process("");
    missing["args"] = json!(["nothing"]);
    assert!(bad(&container.exec_process(&missing)).contains("executable file not found in $PATH"));
    good(&container.call(&["kill", &container.id, "KILL"]));
    container.wait_for_end();
    assert!(bad(&container.exec_process(&process)).contains("cannot exec in a stopped container"));
}

#[test]
fn hostname_environment_and_limits_are_the_specifications() {
    let mut container = Container::new(
        "cat /proc/sys/kernel/hostname; echo $HOME; grep 'open files' /proc/self/limits; cat /proc/sys/net/ipv4/ip_forward",
    );
    fs::write(container.root().join("etc/passwd"), "root:x:0:0::/root/home:/bin/sh\n").unwrap();
    container.spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    let seen = container.finish();
    assert!(seen.starts_with("inside\n/root/home\n"), "{seen}");
    assert!(seen.contains("256                  512"), "{seen}");
    assert!(seen.ends_with("1\n"), "{seen}");
}

#[test]
fn limits_are_in_the_cgroup_and_can_be_changed() {
    let container = Container::staying();
    container.run();
    let cgroup = |controller: &str, file: &str| {
        read(format!("/sys/fs/cgroup/{controller}/pintle-launch-tests/{}/{file}", container.id)).trim().to_owned()
    };
    if !std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        return;
    }
    assert_eq!(cgroup("memory", "memory.limit_in_bytes"), "268435456");
    assert_eq!((cgroup("cpu", "cpu.shares"), cgroup("pids", "pids.max")), ("512".into(), "100".into()));
    let wanted = container.dir.path().join("resources.json");
    fs::write(&wanted, r#"{"memory":{"limit":536870912},"cpu":{"shares":1024}}"#).unwrap();
    good(&container.call(&["update", "--resources", wanted.to_str().unwrap(), &container.id]));
    assert_eq!(
        (cgroup("memory", "memory.limit_in_bytes"), cgroup("cpu", "cpu.shares")),
        ("536870912".into(), "1024".into())
    );
}

#[test]
fn a_paused_container_takes_no_exec_and_goes_on_when_resumed() {
    let container = Container::staying();
    container.run();
    good(&container.call(&["pause", &container.id]));
    assert_eq!(container.state()["status"], "paused");
    assert!(bad(&container.exec_process(&container.process("true"))).contains("paused"));
    good(&container.call(&["resume", &container.id]));
    assert_eq!(container.state()["status"], "running");
    assert_eq!(container.exec("echo on"), "on\n");
    good(&container.call(&["pause", &container.id]));
    good(&container.call(&["delete", "--force", &container.id]));
}

#[test]
fn killing_all_ends_every_process() {
    let container = Container::staying();
    container.run();
    let exec = container.exec_staying();
    good(&container.call(&["kill", "--all", &container.id, "KILL"]));
    container.wait_for_end();
    let gone = |pid| fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    while !gone(exec) {
        std::thread::yield_now();
    }
}

#[test]
fn volumes_are_bound_with_their_options() {
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("file"), "data").unwrap();
    let mut container =
        Container::new("cat /data/file; echo x > /data/new || echo refused; cat /one; echo y > /rw/z; exec sleep 1000");
    let source = volume.path().to_str().unwrap();
    container.mount(
        json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind", "rro", "rprivate"] }),
    );
    container.mount(
        json!({ "destination": "/one", "type": "bind", "source": format!("{source}/file"), "options": ["bind", "ro"] }),
    );
    container.mount(json!({ "destination": "/rw", "type": "bind", "source": source, "options": ["rbind", "rslave"] }));
    container.run();
    while !volume.path().join("z").exists() {
        std::thread::yield_now();
    }
    let seen = container.output();
    assert!(seen.starts_with("data") && seen.contains("refused") && seen.contains("data"), "{seen}");
    assert!(!volume.path().join("new").exists());
}

#[test]
fn what_is_mounted_below_a_shared_volume_is_seen_on_both_sides() {
    // this thread's own mounts, which end with it
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
    let volume = tempfile::tempdir().unwrap();
    let path = volume.path();
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    for folder in ["inside", "outside"] {
        fs::create_dir(path.join(folder)).unwrap();
    }
    let mut container = Container::staying();
    container.spec["linux"]["rootfsPropagation"] = json!("rshared");
    for set in ["bounding", "effective", "permitted"] {
        container.spec["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
    }
    let source = path.to_str().unwrap();
    container.mount(
        json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind", "rw", "rshared"] }),
    );
    container.run();
    mount(Some("tmpfs"), &path.join("outside"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(path.join("outside/seen"), "").unwrap();
    assert_eq!(container.exec("ls /data/outside"), "seen\n");
    assert_eq!(container.exec("mount -t tmpfs tmpfs /data/inside && : > /data/inside/seen"), "");
    assert!(path.join("inside/seen").exists());
}

#[test]
fn a_volume_of_a_container_with_its_own_users_can_have_mapped_ids() {
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("file"), "data").unwrap();
    let mut container =
        Container::new("stat -c %u:%g /data/file /plain/file; echo new > /data/new; exec sleep 1000").with_users();
    let source = volume.path().to_str().unwrap();
    container.mount(
        json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind", "rw", "ridmap"] }),
    );
    container.mount(json!({ "destination": "/plain", "type": "bind", "source": source, "options": ["rbind", "rw"] }));
    container.run();
    while !volume.path().join("new").exists() {
        assert!(!container.output().contains("can't create"), "{}", container.output());
        std::thread::yield_now();
    }
    assert_eq!(container.output(), "0:0\n65534:65534\n");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(volume.path().join("new")).unwrap()), 0);
}

#[test]
fn a_container_with_its_own_users_gets_a_device_where_it_wants_it() {
    let mut container = Container::staying().with_users();
    container.spec["linux"]["devices"] = json!([{ "path": "/dev/other", "type": "c", "major": 1, "minor": 5 }]);
    container.run();
    assert_eq!(container.exec("stat -c %t:%T /dev/other"), "1:5\n");
    good(&container.call(&["delete", "--force", &container.id]));
    container.spec["linux"]["devices"][0]["minor"] = json!(77);
    assert!(bad(&container.create()).contains("the host has no node of the device /dev/other"));
}

#[test]
fn hooks_see_the_state_and_a_failing_one_ends_create() {
    let mut container = Container::new("exec sleep 1000");
    let seen = container.dir.path().join("seen");
    let hook =
        |file: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}.{file}", seen.display())] }]);
    container.spec["hooks"] =
        json!({ "createRuntime": hook("runtime"), "createContainer": hook("container"), "poststop": hook("poststop") });
    container.run();
    let state: serde_json::Value = serde_json::from_str(&read(format!("{}.runtime", seen.display()))).unwrap();
    assert_eq!((state["pid"].clone(), state["id"].clone()), (json!(container.pid()), json!(container.id)));
    good(&container.call(&["delete", "--force", &container.id]));
    assert!(read(format!("{}.poststop", seen.display())).contains("\"stopped\""));
    container.spec["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] });
    assert!(bad(&container.create()).contains("the hook /bin/false failed: it ended with exit status: 1"));
}

#[test]
fn features_are_json() {
    let output = Container::staying().call(&["features"]);
    let features: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
}
