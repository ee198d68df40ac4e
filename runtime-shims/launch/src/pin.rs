//! `namespaces`: a sandbox's namespaces, made by a short-lived child and pinned as bind mounts, so that they need no
//! process to stay.
//!
//! Must not know: the containers that will join them.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Pid, Uid, sethostname, setresgid, setresuid};

use crate::sys::check;
use crate::sys::clone::{Birth, Child, spawn};
use crate::sys::pipe::Talk;

/// The kernel's bound of a map's lines.
const MAP_LINES: usize = 340;

/// The namespaces to make, and what is set in them.
#[derive(clap::Args, Debug)]
pub struct Namespaces {
    /// The folder that gets a file per namespace: net, ipc, uts, user
    #[arg(long, value_name = "DIR")]
    pin: PathBuf,
    /// A network namespace, its loopback up
    #[arg(long)]
    net: bool,
    /// An IPC namespace
    #[arg(long)]
    ipc: bool,
    /// A UTS namespace with this hostname
    #[arg(long, value_name = "HOSTNAME")]
    uts: Option<String>,
    /// A user namespace with these users; it owns the other namespaces
    #[arg(long, value_name = "CONTAINER:HOST:LENGTH", requires = "group_map")]
    user_map: Vec<Range>,
    /// And these groups
    #[arg(long, value_name = "CONTAINER:HOST:LENGTH", requires = "user_map")]
    group_map: Vec<Range>,
    /// Kernel parameters to set in them
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<Sysctl>,
}

/// A line of uid_map or gid_map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub inside: u32,
    pub host: u32,
    pub length: u32,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[inside, host, length]) if length > 0 => Ok(Range { inside, host, length }),
            _ => Err(format!("{text:?} is not CONTAINER:HOST:LENGTH, three numbers")),
        }
    }
}

/// A kernel parameter: `net.ipv4.ip_forward=1`, slashes allowed as separators too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    pub name: String,
    pub value: String,
}

impl FromStr for Sysctl {
    type Err = String;

    fn from_str(text: &str) -> Result<Sysctl, String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
        path_of_sysctl(name).ok_or_else(|| format!("{name:?} names no kernel parameter"))?;
        Ok(Sysctl { name: name.to_owned(), value: value.to_owned() })
    }
}

/// Where a parameter is below /proc/sys. A name with a slash separates by slashes (interface names may have dots).
pub fn path_of_sysctl(name: &str) -> Option<String> {
    let path = match name.find(['.', '/']) {
        Some(at) if name.as_bytes().get(at) == Some(&b'/') => name.to_owned(),
        _ => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    let whole = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    whole.then_some(path)
}

/// Makes the namespaces and pins each as `DIR/<name>`. On failure nothing stays pinned.
///
/// # Errors
/// A file that exists already, a parameter the kernel refuses, a map it refuses: each named.
pub fn pin(wanted: &Namespaces) -> Result<()> {
    let kinds = kinds(wanted);
    ensure!(!kinds.is_empty(), "no namespace asked for: --net, --ipc, --uts or --user-map");
    fs::create_dir_all(&wanted.pin).with_context(|| format!("cannot make {}", wanted.pin.display()))?;
    let (mut here, there) = Talk::pair().context("cannot make a pair of sockets")?;
    let all = kinds.iter().fold(0, |flags, (_, flag)| flags | flag);
    // with users of their own it makes the others once it is root among them: what is in a namespace from its beginning,
    // as the folder of message queues is, belongs to who made it
    let (first, later) =
        if all & libc::CLONE_NEWUSER != 0 { (libc::CLONE_NEWUSER, all & !libc::CLONE_NEWUSER) } else { (all, 0) };
    let birth = Birth { flags: first as u64, cgroup: None };
    let child = spawn(birth, || child(wanted, later, there)).context("cannot make the namespaces")?;
    let done = prepare(wanted, &child, &mut here).and_then(|()| pin_all(&kinds, child.pid, &wanted.pin));
    child.end();
    done
}

fn kinds(wanted: &Namespaces) -> Vec<(&'static str, libc::c_int)> {
    let all = [
        ("user", libc::CLONE_NEWUSER, !wanted.user_map.is_empty()),
        ("net", libc::CLONE_NEWNET, wanted.net),
        ("ipc", libc::CLONE_NEWIPC, wanted.ipc),
        ("uts", libc::CLONE_NEWUTS, wanted.uts.is_some()),
    ];
    all.into_iter().filter(|(.., wanted)| *wanted).map(|(name, flag, _)| (name, flag)).collect()
}

/// The parent's part before pinning: the child sets itself up once its users are mapped.
fn prepare(wanted: &Namespaces, child: &Child, talk: &mut Talk) -> Result<()> {
    if !wanted.user_map.is_empty() {
        write_map(child.pid, "uid_map", &wanted.user_map)?;
        write_map(child.pid, "gid_map", &wanted.group_map)?;
    }
    talk.fine()?;
    talk.wait()
}

/// Writes one of a process's two ID maps, which can be written once.
pub fn write_map(pid: Pid, file: &str, ranges: &[Range]) -> Result<()> {
    ensure!(ranges.len() <= MAP_LINES, "{} ranges for {file}: the kernel takes {MAP_LINES}", ranges.len());
    let lines: String = ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.host, r.length)).collect();
    fs::write(format!("/proc/{pid}/{file}"), &lines).with_context(|| format!("the kernel refuses the {file} {lines:?}"))
}

/// The child: what only a member of the namespaces can set. Ends when its parent kills it.
fn child(wanted: &Namespaces, namespaces: libc::c_int, mut talk: Talk) -> i32 {
    talk.leave_other();
    let done = talk.wait().and_then(|()| set_up(wanted, namespaces));
    match done {
        Ok(()) => {
            let _ = talk.fine();
            let _ = talk.wait();
            0
        }
        Err(error) => {
            talk.failed(&error);
            1
        }
    }
}

fn set_up(wanted: &Namespaces, namespaces: libc::c_int) -> Result<()> {
    if !wanted.user_map.is_empty() {
        // parameters of an IPC namespace belong to the root of its user namespace
        let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
        setresgid(group, group, group).context("the group map has no group 0")?;
        setresuid(user, user, user).context("the user map has no user 0")?;
        // SAFETY: takes a number.
        check(unsafe { libc::unshare(namespaces) }.into()).context("cannot make the namespaces of these users")?;
    }
    if let Some(hostname) = &wanted.uts {
        sethostname(hostname).with_context(|| format!("cannot set the hostname {hostname:?}"))?;
    }
    if wanted.net {
        loopback_up().context("cannot set the loopback interface up")?;
    }
    wanted.sysctl.iter().try_for_each(|parameter| set_sysctl(&parameter.name, &parameter.value))
}

/// Sets a kernel parameter of this process's namespaces.
pub fn set_sysctl(name: &str, value: &str) -> Result<()> {
    let Some(path) = path_of_sysctl(name) else { bail!("{name:?} names no kernel parameter") };
    fs::write(format!("/proc/sys/{path}"), value).with_context(|| format!("cannot set {name} to {value:?}"))
}

/// Sets the loopback interface of this network namespace up.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: takes and returns numbers.
    let socket = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: a new fd of ours.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as i32) };
    // SAFETY: ifreq is a name and a union of plain numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into()).map(drop)
}

fn pin_all(kinds: &[(&str, libc::c_int)], pid: Pid, dir: &Path) -> Result<()> {
    for (done, (name, _)) in kinds.iter().enumerate() {
        if let Err(error) = pin_one(pid, name, &dir.join(name)) {
            kinds.iter().take(done).for_each(|(name, _)| unpin(&dir.join(name)));
            return Err(error);
        }
    }
    Ok(())
}

fn pin_one(pid: Pid, name: &str, file: &Path) -> Result<()> {
    File::create_new(file).with_context(|| format!("cannot make {}", file.display()))?;
    let source = format!("/proc/{pid}/ns/{name}");
    mount(Some(source.as_str()), file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .inspect_err(|_| drop(fs::remove_file(file)))
        .with_context(|| format!("cannot pin the {name} namespace at {}", file.display()))
}

fn unpin(file: &Path) {
    let _ = umount2(file, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(file);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_three_numbers() {
        assert_eq!("0:65536:10".parse(), Ok(Range { inside: 0, host: 65536, length: 10 }));
        for bad in ["", "0:1", "0:1:0", "0:1:2:3", "0:-1:2", "a:b:c", "0:4294967296:1"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_parameters_are_paths() {
        assert_eq!(path_of_sysctl("net.ipv4.ip_forward").as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(path_of_sysctl("net/ipv4/conf/eth0.7/mtu").as_deref(), Some("net/ipv4/conf/eth0.7/mtu"));
        assert_eq!(path_of_sysctl("net.ipv4.conf.eth0/7.mtu").as_deref(), Some("net/ipv4/conf/eth0.7/mtu"));
        for bad in ["", "..", "net/../../etc/passwd", "net..x", "/etc", "net/./x"] {
            assert_eq!(path_of_sysctl(bad), None, "{bad}");
        }
    }
}
