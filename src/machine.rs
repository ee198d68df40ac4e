//! What this machine is: its name, its address, who holds a port, what its kernel and cgroups offer. Reads only.
//!
//! Must not know: what is wanted of it.

use std::collections::HashSet;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use crate::config::Machine;

/// The machine as the configuration's defaults need it.
pub fn identify() -> Machine {
    let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    Machine { host_name, address: default_address(), runtimes: pintle_cri::known::found() }
}

/// The address packets to elsewhere leave from: that of the default route, or else of any interface but loopback.
fn default_address() -> Option<IpAddr> {
    // connecting a UDP socket asks the routing table and sends nothing
    let routed = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("198.51.100.1:9")?;
        socket.local_addr()
    });
    let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_loopback();
    routed.ok().map(|address| address.ip()).filter(usable).or_else(|| interface_addresses().into_iter().find(usable))
}

fn interface_addresses() -> Vec<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    addresses.filter_map(|it| Some(IpAddr::V4(it.address?.as_sockaddr_in()?.ip()))).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    V2,
    /// v1 controllers, with or without a v2 hierarchy beside them.
    V1,
    None,
}

pub fn cgroups() -> Cgroups {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        Cgroups::V2
    } else if Path::new("/sys/fs/cgroup/memory").is_dir() {
        Cgroups::V1
    } else {
        Cgroups::None
    }
}

/// The controllers without which no pod starts, as each has a share of the processors and counts in its pod's memory.
const NEEDED: [&str; 2] = ["cpu", "memory"];

/// Those of the needed controllers that the v2 hierarchy does not have.
pub fn lacking_controllers() -> Vec<&'static str> {
    std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").map_or_else(|_| Vec::new(), |there| lacking(&there))
}

/// The same, by the text of `cgroup.controllers`.
fn lacking(there: &str) -> Vec<&'static str> {
    NEEDED.into_iter().filter(|needed| !there.split_whitespace().any(|controller| controller == *needed)).collect()
}

/// The file systems the kernel knows.
pub fn has_file_system(name: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// Loads the kernel modules that nothing loads by itself, where they are modules and not there yet. What still lacks
/// afterwards is for preflight to tell.
pub fn load_modules() {
    let wanted = [
        ("overlay", has_file_system("overlay")),
        ("br_netfilter", std::path::Path::new("/proc/sys/net/bridge").is_dir()),
    ];
    for (module, _) in wanted.into_iter().filter(|(_, there)| !there) {
        let quiet = std::process::Stdio::null;
        let _ = std::process::Command::new("modprobe").arg("-q").arg(module).stdout(quiet()).stderr(quiet()).status();
    }
}

/// The program in PATH, as a shell finds it.
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Bytes free for root on the file system of `path` or its nearest ancestor that exists.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|it| it.exists())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// Who listens on a TCP port: `nginx (pid 812)`; `?` where the kernel does not say.
pub fn listener(port: u16) -> Option<String> {
    let inodes: HashSet<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening(table, port)).collect();
    if inodes.is_empty() {
        return None;
    }
    Some(holder(&inodes).unwrap_or_else(|| "?".to_owned()))
}

/// The sockets' inodes that listen on `port`, from a table of `/proc/net`.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = std::fs::read_to_string(table).unwrap_or_default();
    let socket = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let at = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (at == port && *state == LISTEN).then(|| (*inode).to_owned())
    };
    text.lines().skip(1).filter_map(socket).collect()
}

fn holder(inodes: &HashSet<String>) -> Option<String> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let pid = process.file_name().into_string().ok().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        let (Some(pid), Ok(files)) = (pid, std::fs::read_dir(process.path().join("fd"))) else { continue };
        let socket = |file: std::fs::DirEntry| {
            let target = std::fs::read_link(file.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
            inodes.contains(&inode).then_some(())
        };
        if files.flatten().find_map(socket).is_some() {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_without_memory_lacks_it() {
        assert_eq!(lacking("cpuset cpu io memory hugetlb pids\n"), Vec::<&str>::new());
        assert_eq!(lacking("cpuset cpu io pids\n"), ["memory"]);
        assert_eq!(lacking("\n"), ["cpu", "memory"]);
    }

    #[test]
    fn a_port_in_use_names_who_uses_it() {
        let listener_of_ours = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener_of_ours.local_addr().unwrap().port();
        let held = listener(port).unwrap();
        assert!(held.ends_with(&format!("(pid {})", std::process::id())), "{held}");
        drop(listener_of_ours);
        assert_eq!(listener(port), None);
    }
}
