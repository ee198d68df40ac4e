//! Device nodes of a container and which devices its cgroup lets it use.
//!
//! Must not know: `/dev`.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use pintle_cri::v1;

use crate::Invalid;

/// A device node of the host, as `stat` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// On the host. Below a folder that was asked for as a device, the path of the node itself.
    pub path: PathBuf,
    /// `B` or `C`.
    pub kind: LinuxDeviceType,
    pub major: i64,
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Nodes to make, and rules for the cgroup in the order in which they count.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Devices {
    pub nodes: Vec<LinuxDevice>,
    pub rules: Vec<LinuxDeviceCgroup>,
}

/// Character devices that every container may use: null, zero, full, random, urandom, tty, console, ptmx, every pts.
const STANDARD: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// The devices of a container; `found` holds, for each device of the request, the nodes at its host path (several when
/// that is a folder). A privileged container sees every node of the host and may use any device.
///
/// # Errors
/// Permissions other than `r`, `w`, `m`; a host path without any device.
pub(crate) fn devices(
    asked: &[v1::Device],
    found: &[Vec<DeviceNode>],
    all: Option<&[DeviceNode]>,
) -> Result<Devices, Invalid> {
    let mut devices = Devices { nodes: Vec::new(), rules: vec![rule(false, LinuxDeviceType::A, None, None, "rwm")] };
    devices.rules.extend(STANDARD.map(|(major, minor)| rule(true, LinuxDeviceType::C, Some(major), minor, "rwm")));
    for (index, device) in asked.iter().enumerate() {
        let field = format!("devices[{index}]");
        check_permissions(&field, &device.permissions)?;
        let nodes = found.get(index).map(Vec::as_slice).unwrap_or_default();
        if nodes.is_empty() {
            let reason = format!("not a device node: {:?}", device.host_path);
            return Err(Invalid::new(format!("{field}.host_path"), reason));
        }
        for node in nodes {
            devices.nodes.push(made(node, place(device, node)));
            devices.rules.push(given(node.kind, node.major, node.minor, &device.permissions));
        }
    }
    if let Some(all) = all {
        devices.nodes.extend(all.iter().map(|node| made(node, node.path.clone())));
        devices.rules = vec![rule(true, LinuxDeviceType::A, None, None, "rwm")];
    }
    Ok(devices)
}

fn check_permissions(field: &str, permissions: &str) -> Result<(), Invalid> {
    if !permissions.is_empty() && permissions.chars().all(|letter| "rwm".contains(letter)) {
        return Ok(());
    }
    Err(Invalid::new(format!("{field}.permissions"), format!("{permissions:?} is not made of r, w and m")))
}

/// A node below a folder keeps its place below the folder in the container.
fn place(device: &v1::Device, node: &DeviceNode) -> PathBuf {
    let root = if device.container_path.is_empty() { &device.host_path } else { &device.container_path };
    match node.path.strip_prefix(&device.host_path) {
        Ok(below) if below.as_os_str().is_empty() => PathBuf::from(root),
        Ok(below) => PathBuf::from(root).join(below),
        Err(_) => PathBuf::from(root),
    }
}

fn made(node: &DeviceNode, path: PathBuf) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device.set_path(path);
    device.set_typ(node.kind);
    device.set_major(node.major);
    device.set_minor(node.minor);
    device.set_file_mode(Some(node.mode & 0o7777));
    device.set_uid(Some(node.uid));
    device.set_gid(Some(node.gid));
    device
}

/// The rule of a device that a container is given. Its node is made after the cgroup is joined, so making it is always
/// allowed: another node of the same device gives nobody more than the rest of the rule does.
pub(crate) fn given(kind: LinuxDeviceType, major: i64, minor: i64, permissions: &str) -> LinuxDeviceCgroup {
    let making = if permissions.contains('m') { "" } else { "m" };
    rule(true, kind, Some(major), Some(minor), &format!("{permissions}{making}"))
}

pub(crate) fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow);
    rule.set_typ(Some(kind));
    rule.set_major(major);
    rule.set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str, minor: i64) -> DeviceNode {
        DeviceNode { path: path.into(), kind: LinuxDeviceType::B, major: 254, minor, mode: 0o60660, uid: 0, gid: 6 }
    }

    fn device(host: &str, container: &str, permissions: &str) -> v1::Device {
        v1::Device { host_path: host.into(), container_path: container.into(), permissions: permissions.into() }
    }

    fn text(devices: &Devices) -> Vec<String> {
        let node = |node: &LinuxDevice| {
            format!("{} {}:{} {:o}", node.path().display(), node.major(), node.minor(), node.file_mode().unwrap_or(0))
        };
        let own = devices.rules.iter().skip(1 + STANDARD.len()).map(ToString::to_string);
        devices.nodes.iter().map(node).chain(own).collect()
    }

    #[test]
    fn a_folder_gives_every_node_below_it() {
        let nodes = vec![node("/dev/disk/a", 1), node("/dev/disk/sub/b", 2)];
        let got = devices(&[device("/dev/disk", "/dev/mine", "rw")], &[nodes], None).unwrap();
        assert_eq!(text(&got), ["/dev/mine/a 254:1 660", "/dev/mine/sub/b 254:2 660", "b 254:1 rwm", "b 254:2 rwm"]);
    }

    #[test]
    fn nothing_but_the_standard_devices_is_allowed_by_default() {
        let got = devices(&[], &[], None).unwrap();
        assert!(!got.rules[0].allow() && got.rules[0].typ() == Some(LinuxDeviceType::A));
        assert!(got.rules[1..].iter().all(|rule| rule.typ() == Some(LinuxDeviceType::C)));
    }

    #[test]
    fn a_privileged_container_has_every_device() {
        let got = devices(&[], &[], Some(&[node("/dev/vda", 0)])).unwrap();
        assert_eq!(got.nodes.len(), 1);
        assert_eq!(got.rules, [rule(true, LinuxDeviceType::A, None, None, "rwm")]);
    }

    #[test]
    fn what_is_no_device_and_what_is_no_permission_is_told() {
        let error =
            |asked: v1::Device, found: Vec<DeviceNode>| devices(&[asked], &[found], None).unwrap_err().to_string();
        assert_eq!(error(device("/etc", "", "rw"), vec![]), "devices[0].host_path: not a device node: \"/etc\"");
        let zero = vec![node("/dev/zero", 5)];
        assert_eq!(
            error(device("/dev/zero", "", "x"), zero),
            "devices[0].permissions: \"x\" is not made of r, w and m"
        );
    }
}
