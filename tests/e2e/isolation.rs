//! The stories' own small machine: PID, mount, network, host name and cgroup namespaces, with empty folders where
//! Pintle writes. Whatever happens inside, it ends with its first process, and the host keeps nothing of it.
//!
//! Must not know: Pintle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, wait};

use crate::hierarchies;

/// Our first argument as the machine's first process, and as the one that runs the stories.
pub const INIT: &str = "--init-of-e2e";
pub const INSIDE: &str = "--inside-e2e";
/// The machine's address, and its name.
pub const ADDRESS: &str = "203.0.113.2";
pub const HOST_NAME: &str = "harbour";
/// Longer than this and all of it is ended, unless `STORIES_SECONDS` allows more.
const LIMIT_SECONDS: &str = "1200";
/// Joins the cgroups before `--` and becomes the program after it.
const JOIN: &str = r#"while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit; shift; done; shift; exec "$@""#;
/// Where files are kept that do not belong to the machine.
pub const SCRATCH: &str = "/mnt";

/// Makes the machine, runs the stories in it and removes it.
pub fn run() -> ExitCode {
    let name = format!("pintle-e2e-{}", std::process::id());
    let hierarchies = hierarchies::all();
    hierarchies::hand_down(&hierarchies);
    let cgroups: Vec<_> = hierarchies.iter().map(|it| it.make(&name)).collect();
    let disk = (!tmpfs_maps_owners()).then(|| Path::new("/var/tmp").join(&name));
    let leaves: Vec<_> = hierarchies.iter().zip(&cgroups).filter_map(|(it, cgroup)| it.leaf(cgroup)).collect();
    // a shell joins the cgroups, which become all that its namespace shows; then it moves out of those that hand
    // controllers down, for not even the parent of the machine's first process may stay there
    let mut command = Command::new("timeout");
    let limit = std::env::var("STORIES_SECONDS").unwrap_or_else(|_| LIMIT_SECONDS.into());
    command.args(["--foreground", "--signal=KILL", &limit]);
    command.args(["sh", "-c", JOIN, "join"]).args(&cgroups).args(["--", "unshare", "--cgroup"]);
    command.args(["sh", "-c", JOIN, "join"]).args(leaves).args(["--", "unshare", "--pid", "--fork"]);
    command.args(["--kill-child=SIGKILL", "--mount", "--mount-proc", "--net", "--uts", "--ipc"]);
    command.arg(std::env::current_exe().expect("this program")).arg(INIT).args(&disk);
    let status = command.status();
    if let Some(Err(error)) = disk.map(|disk| fs::remove_dir_all(&disk).map_err(|error| format!("{disk:?}: {error}"))) {
        eprintln!("left behind: {error}");
    }
    cgroups.iter().for_each(|cgroup| hierarchies::remove(cgroup));
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("the stories ended with {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot start the stories: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a tmpfs can show its files to a user namespace as that one's own: since Linux 6.3. Elsewhere pods with users
/// of their own need a disk.
fn tmpfs_maps_owners() -> bool {
    let release = nix::sys::utsname::uname().expect("a kernel").release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 3)
}

/// The machine's first process: sets it up, runs the stories, and reaps whatever loses its parent.
pub fn init() -> ExitCode {
    nix::unistd::sethostname(HOST_NAME).expect("a host name");
    // our second argument is a folder on the host's disk, where tmpfs will not do
    mounts(std::env::args_os().nth(2).map(PathBuf::from).as_deref());
    links();
    let program = std::env::current_exe().expect("this program");
    let stories = Command::new(program).arg(INSIDE).env("TMPDIR", SCRATCH).spawn().expect("the stories").id();
    loop {
        match wait().expect("children") {
            WaitStatus::Exited(pid, code) if pid.as_raw().unsigned_abs() == stories => {
                return ExitCode::from(u8::try_from(code).unwrap_or(1));
            }
            WaitStatus::Signaled(pid, ..) if pid.as_raw().unsigned_abs() == stories => return ExitCode::FAILURE,
            _orphan => {}
        }
    }
}

fn mounts(disk: Option<&Path>) {
    let hierarchies = hierarchies::all();
    put("sysfs", Path::new("/sys"), None);
    put("tmpfs", Path::new("/sys/fs/cgroup"), None);
    hierarchies.iter().for_each(hierarchies::Hierarchy::mount_again);
    room(disk, Path::new(SCRATCH));
    let dir = |name: &str| {
        let dir = Path::new(SCRATCH).join(name);
        fs::create_dir(&dir).expect("a folder");
        dir
    };
    let (packages, upper, work) = (dir("dpkg"), dir("etc"), dir("etc-work"));
    bind(Path::new("/var/lib/dpkg"), &packages);
    room(disk, Path::new("/var/lib"));
    fs::create_dir("/var/lib/dpkg").expect("a folder");
    bind(&packages, Path::new("/var/lib/dpkg"));
    put("tmpfs", Path::new("/run"), None);
    put("tmpfs", Path::new("/var/log"), None);
    let layers = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
    put("overlay", Path::new("/etc"), Some(&layers));
    // a cluster of the host's is none of ours
    for folder in ["/etc/pintle", "/etc/cni", "/etc/kubernetes"] {
        let _ = fs::remove_dir_all(folder);
    }
    // the host's may be a link into /run, and leads nowhere from here
    let _ = fs::remove_file("/etc/resolv.conf");
    fs::write("/etc/resolv.conf", "nameserver 203.0.113.1\n").expect("a resolver's configuration");
    // as init systems leave it; volumes with mount propagation need it
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>).expect("shared mounts");
}

/// An empty folder in a folder's place: on the disk, if there is one.
fn room(disk: Option<&Path>, at: &Path) {
    let Some(disk) = disk else { return put("tmpfs", at, None) };
    let dir = disk.join(at.file_name().expect("a name"));
    fs::create_dir_all(&dir).expect("a folder on the disk");
    bind(&dir, at);
}

fn put(kind: &str, at: &Path, options: Option<&str>) {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), options)
        .unwrap_or_else(|error| panic!("{kind} at {at:?}: {error}"));
}

fn bind(from: &Path, at: &Path) {
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount");
}

/// A link that leads nowhere, with the default route, as a machine has one.
fn links() {
    for line in [
        "link set lo up".to_owned(),
        "link add uplink type veth peer name ocean".to_owned(),
        "link set ocean addrgenmode none up".to_owned(),
        format!("address add {ADDRESS}/24 dev uplink"),
        "link set uplink addrgenmode none up".to_owned(),
        "route add default via 203.0.113.1".to_owned(),
    ] {
        let status = Command::new("ip").args(line.split(' ')).status().expect("ip");
        assert!(status.success(), "ip {line}");
    }
}
