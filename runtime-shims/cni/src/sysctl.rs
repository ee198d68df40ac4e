//! Settings of the calling thread's network namespace, below `/proc/sys/net`. Written only where they differ, since the
//! place may be read-only and right already.
//!
//! Must not know: links, leases.

use std::fs;
use std::path::Path;

use crate::error::{Code, Context, Result};

const NET: &str = "/proc/sys/net";

/// Sets one, such as `ipv4/ip_forward`.
pub fn set(name: &str, value: &str) -> Result<()> {
    let path = Path::new(NET).join(name);
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).context(Code::Io, || format!("cannot set {} to {value}", path.display()))
}

/// The host passes packets on.
pub fn forward(ipv6: bool) -> Result<()> {
    set("ipv4/ip_forward", "1")?;
    let all = "ipv6/conf/all/forwarding";
    if !ipv6 || fs::read_to_string(Path::new(NET).join(all)).is_ok_and(|found| found.trim() == "1") {
        return Ok(());
    }
    keep_advertised_routes();
    set(all, "1")
}

/// A host that forwards no longer takes routes from router advertisements, unless it is told to: it would lose its own.
fn keep_advertised_routes() {
    let links = fs::read_dir(Path::new(NET).join("ipv6/conf")).into_iter().flatten().flatten();
    for name in links.filter_map(|link| link.file_name().into_string().ok()).filter(|name| name != "all") {
        let setting = format!("ipv6/conf/{name}/accept_ra");
        if fs::read_to_string(Path::new(NET).join(&setting)).is_ok_and(|found| found.trim() == "1") {
            // A link that takes none after all keeps what it has.
            let _ = set(&setting, "2");
        }
    }
}

/// The bridge: pods reach their neighbours by it on purpose (telling them of a shorter way would only break it), and
/// must not be able to give the host routes. Before it is up: else it would look for its duplicates for two seconds, and
/// could not look for pods meanwhile.
pub fn bridge(name: &str, ipv6: bool) -> Result<()> {
    for device in [name, "all"] {
        set(&format!("ipv4/conf/{device}/send_redirects"), "0")?;
    }
    if ipv6 {
        set(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
        set(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    }
    Ok(())
}

/// A pod's link, in the pod's namespace: runtimes turn IPv6 off there, and other pods must not be able to give it routes.
pub fn pod(link: &str) -> Result<()> {
    set(&format!("ipv6/conf/{link}/disable_ipv6"), "0")?;
    set(&format!("ipv6/conf/{link}/accept_dad"), "0")?;
    set(&format!("ipv6/conf/{link}/accept_ra"), "0")
}

/// Packets from this host's 127.0.0.1 may leave by the bridge: a hostPort is reached there, too. What pods send to
/// 127.0.0.1 is stopped by the host ports' own rules.
pub fn route_loopback(bridge: &str) -> Result<()> {
    set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")
}
