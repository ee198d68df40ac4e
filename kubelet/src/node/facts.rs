//! The machine: processors, memory, disks, identity, addresses.
//!
//! Must not know: Kubernetes' objects.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::Context as _;

/// What does not change while the machine runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machine {
    pub cpus: i64,
    /// Bytes.
    pub memory: i64,
    pub swap: i64,
    /// Bytes of the file system that holds the kubelet's directory.
    pub ephemeral_storage: i64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: &'static str,
    pub hostname: String,
    /// Huge pages by size as a resource names it (`2Mi`), bytes.
    pub hugepages: Vec<(String, i64)>,
    /// The kernel has AppArmor enabled.
    pub apparmor: bool,
}

impl Machine {
    /// Reads the machine's facts; `root` is where pods' data is.
    ///
    /// # Errors
    /// The kernel does not tell the memory's size.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let memory = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
        Ok(Self {
            cpus: i64::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1),
            memory: meminfo(&memory, "MemTotal").context("/proc/meminfo has no MemTotal")?,
            swap: meminfo(&memory, "SwapTotal").unwrap_or(0),
            ephemeral_storage: disk_size(root),
            machine_id: line("/etc/machine-id"),
            system_uuid: line("/sys/class/dmi/id/product_uuid"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel_version: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(&line("/etc/os-release")),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
            hostname: line("/proc/sys/kernel/hostname"),
            hugepages: hugepages(),
            apparmor: Path::new("/sys/kernel/security/apparmor").exists()
                && line("/sys/module/apparmor/parameters/enabled") == "Y",
        })
    }
}

/// A field in bytes; the file counts kilobytes.
fn meminfo(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn disk_size(root: &Path) -> i64 {
    let stat = nix::sys::statvfs::statvfs(root);
    stat.ok().and_then(|stat| i64::try_from(stat.blocks() * stat.fragment_size()).ok()).unwrap_or(0)
}

fn os_image(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Unknown".into(), |name| name.trim_matches('"').into())
}

fn hugepages() -> Vec<(String, i64)> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kilobytes: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: i64 = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            let size =
                if kilobytes >= 1 << 20 { format!("{}Gi", kilobytes >> 20) } else { format!("{}Mi", kilobytes >> 10) };
            Some((size, count * kilobytes * 1024))
        })
        .collect();
    found.sort();
    found
}

/// The configured addresses, else the one the default route uses, else loopback.
pub fn host_ips(configured: &[IpAddr]) -> Vec<String> {
    if !configured.is_empty() {
        return configured.iter().map(ToString::to_string).collect();
    }
    vec![default_route_source().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string()]
}

/// Connecting a datagram socket sends nothing and makes the kernel choose a source address.
fn default_route_source() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddr::from(([192, 0, 2, 1], 9))).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        assert_eq!(meminfo("MemTotal:       1024 kB\nMemFree: 1 kB\n", "MemTotal"), Some(1 << 20));
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }
}
