//! Devices of the Container Device Interface: which ones a request names, and what their specifications change.
//!
//! Must not know: where specifications lie.

use std::path::PathBuf;

use oci_spec::runtime::{Hook, LinuxDevice, LinuxDeviceType, Mount, Spec};
use pintle_cri::v1::ContainerConfig;
use serde::Deserialize;

use crate::devices::given;
use crate::{DeviceNode, Invalid};

const FIELD: &str = "CDI_devices";
const ANNOTATION_PREFIX: &str = "cdi.k8s.io/";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specification {
    /// `vendor.com/class`.
    kind: String,
    #[serde(default)]
    container_edits: Edits,
    #[serde(default)]
    devices: Vec<Device>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    hooks: Vec<CdiHook>,
    mounts: Vec<CdiMount>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    r#type: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiHook {
    hook_name: String,
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    r#type: Option<String>,
}

/// The devices a request names, `vendor.com/class=name`, each once: its `CDI_devices`, then those of its annotations
/// (`cdi.k8s.io/…`, comma-separated).
///
/// # Errors
/// A name of another form.
pub fn requested(config: &ContainerConfig) -> Result<Vec<String>, Invalid> {
    let mut annotated: Vec<_> =
        config.annotations.iter().filter(|(name, _)| name.starts_with(ANNOTATION_PREFIX)).collect();
    annotated.sort();
    let from_annotations = annotated.into_iter().flat_map(|(_, value)| value.split(',')).map(str::trim);
    let mut names: Vec<String> = Vec::new();
    for name in config.cdi_devices.iter().map(|device| device.name.as_str()).chain(from_annotations) {
        if !is_qualified(name) {
            return Err(Invalid::new(FIELD, format!("{name:?} is not a name like vendor.com/class=device")));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn is_qualified(name: &str) -> bool {
    let parts = name.split_once('=').and_then(|(kind, device)| Some((kind.split_once('/')?, device)));
    parts.is_some_and(|((vendor, class), device)| !vendor.is_empty() && !class.is_empty() && !device.is_empty())
}

/// Applies the edits of the named devices, and once those of each specification they are in. A later text replaces an
/// earlier one's device of the same name. `nodes` are the host's devices, for those a specification gives no numbers of.
pub(crate) fn inject(spec: &mut Spec, names: &[String], texts: &[String], nodes: &[DeviceNode]) -> Result<(), Invalid> {
    if names.is_empty() {
        return Ok(());
    }
    let known = texts.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
    let mut used: Vec<usize> = Vec::new();
    for name in names {
        let found = known.iter().enumerate().rev().find_map(|(index, known)| Some((index, known.device(name)?)));
        let missing = || Invalid::new(FIELD, format!("CDI device injection failed: unresolvable CDI devices {name}"));
        let (index, device) = found.ok_or_else(missing)?;
        if !used.contains(&index) {
            used.push(index);
            apply(spec, &known[index].container_edits, nodes)?;
        }
        apply(spec, &device.container_edits, nodes)?;
    }
    Ok(())
}

/// YAML, of which JSON is a part.
fn read(text: &str) -> Result<Specification, Invalid> {
    serde_yaml_ng::from_str(text).map_err(|error| Invalid::new(FIELD, format!("invalid CDI specification: {error}")))
}

impl Specification {
    fn device(&self, name: &str) -> Option<&Device> {
        let (kind, device) = name.split_once('=')?;
        self.devices.iter().find(|known| self.kind == kind && known.name == device)
    }
}

fn apply(spec: &mut Spec, edits: &Edits, nodes: &[DeviceNode]) -> Result<(), Invalid> {
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        edits.env.iter().for_each(|entry| crate::process::put(&mut env, entry.clone()));
        process.set_env(Some(env));
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        groups.extend(edits.additional_gids.iter().filter(|gid| **gid != 0));
        groups.dedup();
        process.user_mut().set_additional_gids(Some(groups));
    }
    edits.device_nodes.iter().try_for_each(|node| add_device(spec, node, nodes))?;
    edits.mounts.iter().for_each(|mount| add_mount(spec, mount));
    edits.hooks.iter().try_for_each(|hook| add_hook(spec, hook))
}

fn add_device(spec: &mut Spec, node: &Node, nodes: &[DeviceNode]) -> Result<(), Invalid> {
    let path = node.host_path.as_ref().unwrap_or(&node.path);
    let found = nodes.iter().find(|known| known.path == *path);
    let kind = node.r#type.as_deref().and_then(|kind| kind.parse().ok()).or(found.map(|found| found.kind));
    let numbers = node.major.zip(node.minor).or(found.map(|found| (found.major, found.minor)));
    let missing = || Invalid::new(FIELD, format!("CDI device injection failed: no device at {}", path.display()));
    let (kind, (major, minor)): (LinuxDeviceType, _) = kind.zip(numbers).ok_or_else(missing)?;
    let mut device = LinuxDevice::default();
    device.set_path(node.path.clone());
    device.set_typ(kind);
    device.set_major(major);
    device.set_minor(minor);
    device.set_file_mode(node.file_mode.or(found.map(|found| found.mode & 0o7777)));
    device.set_uid(node.uid.or(found.map(|found| found.uid)));
    device.set_gid(node.gid.or(found.map(|found| found.gid)));
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let mut list = linux.devices().clone().unwrap_or_default();
    list.retain(|known| known.path() != device.path());
    list.push(device);
    linux.set_devices(Some(list));
    let mut limits = linux.resources().clone().unwrap_or_default();
    let mut rules = limits.devices().clone().unwrap_or_default();
    rules.push(given(kind, major, minor, node.permissions.as_deref().unwrap_or("rwm")));
    limits.set_devices(Some(rules));
    linux.set_resources(Some(limits));
    Ok(())
}

/// A mount at a taken place replaces what was there.
fn add_mount(spec: &mut Spec, given: &CdiMount) {
    let mut mount = Mount::default();
    mount.set_destination(given.container_path.clone());
    mount.set_source(Some(given.host_path.clone()));
    mount.set_typ(given.r#type.clone().or(Some("bind".to_owned())));
    mount.set_options(Some(given.options.clone()));
    let mut list = spec.mounts().clone().unwrap_or_default();
    list.retain(|known| known.destination() != mount.destination());
    list.push(mount);
    spec.set_mounts(Some(list));
}

fn add_hook(spec: &mut Spec, given: &CdiHook) -> Result<(), Invalid> {
    let mut hook = Hook::default();
    hook.set_path(given.path.clone());
    hook.set_args(Some(given.args.clone()).filter(|args| !args.is_empty()));
    hook.set_env(Some(given.env.clone()).filter(|env| !env.is_empty()));
    hook.set_timeout(given.timeout);
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    #[allow(deprecated)]
    let list = match given.hook_name.as_str() {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        "poststop" => hooks.poststop_mut(),
        other => return Err(Invalid::new(FIELD, format!("invalid CDI specification: unknown hook {other:?}"))),
    };
    list.get_or_insert_default().push(hook);
    spec.set_hooks(Some(hooks));
    Ok(())
}
