//! The mounts of a container: the runtime's own, those of the request, the pod's files, the image's volumes.
//!
//! Must not know: whether a source exists.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount};
use pintle_cri::v1;
use pintle_cri::v1::MountPropagation;

use crate::{Host, Invalid, MountSource, Peers};

/// What of `/proc` and `/sys` nobody in a container may read, as containerd masks it (the kubelet sends its own list).
pub const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];
/// What of `/proc` nobody in a container may write.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What shapes the mounts that the request does not name.
pub(crate) struct Shape<'a> {
    pub privileged: bool,
    /// The pod has a user namespace of its own.
    pub user_namespace: bool,
    pub host_network: bool,
    pub host: &'a Host,
}

/// A mount with its source as found: of the request, of the pod's files or of the image's volumes.
pub(crate) struct Bind<'a> {
    /// Name of the field, for errors.
    pub field: String,
    pub mount: &'a v1::Mount,
    pub source: MountSource,
}

/// The mounts, in the order they are made, and the propagation that they need of the root.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mounts {
    pub list: Vec<Mount>,
    pub rootfs_propagation: Option<&'static str>,
}

/// Puts the runtime's mounts and the request's together. A mount of the request hides one of ours at the same place,
/// and a `/dev` of its own all that we put below; shallow ones come first, so that none hides a deeper one.
pub(crate) fn mounts(shape: &Shape<'_>, mut binds: Vec<Bind<'_>>) -> Result<Mounts, Invalid> {
    binds.sort_by_key(|bind| depth(&bind.mount.container_path));
    let taken: Vec<PathBuf> = binds.iter().map(|bind| clean(&bind.mount.container_path)).collect();
    let own_dev = taken.iter().any(|path| path == Path::new("/dev"));
    let hidden = |path: &Path| {
        taken.iter().any(|taken| taken == path) || own_dev && path != Path::new("/dev") && path.starts_with("/dev")
    };
    let mut list: Vec<Mount> = own(shape).into_iter().filter(|mount| !hidden(mount.destination())).collect();
    let mut rootfs_propagation = None;
    for bind in &binds {
        list.push(self::bind(bind, shape.host)?);
        rootfs_propagation = match bind.mount.propagation() {
            MountPropagation::PropagationBidirectional => Some("rshared"),
            MountPropagation::PropagationHostToContainer => rootfs_propagation.or(Some("rslave")),
            MountPropagation::PropagationPrivate => rootfs_propagation,
        };
    }
    Ok(Mounts { list, rootfs_propagation })
}

fn own(shape: &Shape<'_>) -> Vec<Mount> {
    let mode = if shape.privileged { "rw" } else { "ro" };
    let sys = if shape.user_namespace && shape.host_network {
        // A sysfs of a network that the user namespace does not own cannot be mounted.
        let how = if shape.host.recursive_read_only { "rro" } else { "ro" };
        mount("/sys", "bind", "/sys", &["rbind", how, "nosuid", "nodev", "noexec"])
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", mode])
    };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", mode]),
    ]
}

pub(crate) fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.into());
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.into()));
    mount.set_options(Some(options.iter().map(ToString::to_string).collect()));
    mount
}

fn bind(bind: &Bind<'_>, host: &Host) -> Result<Mount, Invalid> {
    let asked = bind.mount;
    if !Path::new(&asked.container_path).is_absolute() {
        let reason = format!("{:?} is not an absolute path", asked.container_path);
        return Err(Invalid::new(format!("{}.container_path", bind.field), reason));
    }
    // an image's volume too: without a real one nothing of it is masked, and no process can be looked at. As runc
    if clean(&asked.container_path) == Path::new("/proc") && bind.source.path != Path::new("/proc") {
        let reason = "\"/proc\" cannot be mounted because it is not of type proc";
        return Err(Invalid::new(format!("{}.container_path", bind.field), reason));
    }
    let options = ["rbind", propagation(bind)?, read_only(bind, host)?].map(str::to_owned);
    let mut mount = Mount::default();
    mount.set_destination(PathBuf::from(&asked.container_path));
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(bind.source.path.clone()));
    mount.set_options(Some(options.into()));
    if !asked.uid_mappings.is_empty() || !asked.gid_mappings.is_empty() {
        map_owners(bind, host, &mut mount)?;
    }
    Ok(mount)
}

fn propagation(bind: &Bind<'_>) -> Result<&'static str, Invalid> {
    let source = &bind.source;
    let refuse = |what: &str| {
        let (path, mountpoint) = (source.path.display(), source.mountpoint.display());
        let reason = format!("path \"{path}\" is mounted on \"{mountpoint}\" but it is not a {what} mount");
        Err(Invalid::new(format!("{}.propagation", bind.field), reason))
    };
    match (bind.mount.propagation(), source.peers) {
        (MountPropagation::PropagationPrivate, _) => Ok("rprivate"),
        (MountPropagation::PropagationBidirectional, Peers::Shared) => Ok("rshared"),
        (MountPropagation::PropagationBidirectional, _) => refuse("shared"),
        (MountPropagation::PropagationHostToContainer, Peers::Private) => refuse("shared or slave"),
        (MountPropagation::PropagationHostToContainer, _) => Ok("rslave"),
    }
}

fn read_only(bind: &Bind<'_>, host: &Host) -> Result<&'static str, Invalid> {
    let asked = bind.mount;
    let path = &asked.host_path;
    let refuse = |reason: String| Err(Invalid::new(format!("{}.recursive_read_only", bind.field), reason));
    match (asked.readonly, asked.recursive_read_only) {
        (false, false) => Ok("rw"),
        (true, false) => Ok("ro"),
        (false, true) => refuse(format!("recursive read-only mount conflicts with RW mount (hostPath={path:?})")),
        (true, true) if !host.recursive_read_only => refuse(format!(
            "RROUnsupported: runtime handler does not support recursive read-only mounts (hostPath={path:?})"
        )),
        (true, true) => match asked.propagation() {
            MountPropagation::PropagationPrivate => Ok("rro"),
            other => refuse(format!(
                "recursive read-only mount needs private propagation, got {:?} (hostPath={path:?})",
                other.as_str_name()
            )),
        },
    }
}

fn map_owners(bind: &Bind<'_>, host: &Host, mount: &mut Mount) -> Result<(), Invalid> {
    let field = format!("{}.uidMappings", bind.field);
    if bind.mount.uid_mappings.is_empty() || bind.mount.gid_mappings.is_empty() {
        return Err(Invalid::new(field, "UID and GID mappings are given together or not at all"));
    }
    if !host.id_mapped_mounts {
        return Err(Invalid::new(field, "ID-mapped mounts are not supported by this kernel or OCI runtime"));
    }
    mount.set_uid_mappings(Some(mappings(&bind.mount.uid_mappings)));
    mount.set_gid_mappings(Some(mappings(&bind.mount.gid_mappings)));
    Ok(())
}

pub(crate) fn mappings(given: &[v1::IdMapping]) -> Vec<LinuxIdMapping> {
    let one = |mapping: &v1::IdMapping| {
        let builder = LinuxIdMappingBuilder::default();
        let builder = builder.host_id(mapping.host_id).container_id(mapping.container_id).size(mapping.length);
        // Every field has a default, so building cannot fail; an empty mapping would map nobody.
        builder.build().unwrap_or_default()
    };
    given.iter().map(one).collect()
}

/// A path without `.`, `..` and doubled slashes, as the kernel would read it.
pub(crate) fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

fn depth(path: &str) -> usize {
    clean(path).components().count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cri(path: &str) -> v1::Mount {
        v1::Mount { container_path: path.into(), host_path: "/host".into(), ..Default::default() }
    }

    fn source(peers: Peers) -> MountSource {
        MountSource { path: "/host".into(), mountpoint: "/".into(), peers }
    }

    fn one(mount: &v1::Mount, peers: Peers, host: &Host) -> Result<String, String> {
        let bind = Bind { field: "mounts[0]".into(), mount, source: source(peers) };
        let made = super::bind(&bind, host).map_err(|error| error.to_string())?;
        Ok(made.options().clone().unwrap_or_default().join(","))
    }

    #[test]
    fn propagation_needs_a_source_that_has_it() {
        let of = |propagation: MountPropagation, peers| {
            one(&v1::Mount { propagation: propagation.into(), ..cri("/a") }, peers, &Host::default())
        };
        use MountPropagation::*;
        assert_eq!(of(PropagationPrivate, Peers::Private), Ok("rbind,rprivate,rw".into()));
        assert_eq!(of(PropagationHostToContainer, Peers::Slave), Ok("rbind,rslave,rw".into()));
        assert_eq!(of(PropagationBidirectional, Peers::Shared), Ok("rbind,rshared,rw".into()));
        assert_eq!(
            of(PropagationBidirectional, Peers::Slave).unwrap_err(),
            "mounts[0].propagation: path \"/host\" is mounted on \"/\" but it is not a shared mount"
        );
        assert!(of(PropagationHostToContainer, Peers::Private).unwrap_err().ends_with("not a shared or slave mount"));
    }

    #[test]
    fn nothing_but_the_hosts_own_is_mounted_in_the_place_of_proc() {
        let of = |path: &str| one(&cri(path), Peers::Private, &Host::default());
        assert!(of("/x/../proc/").unwrap_err().contains("not of type proc"));
        assert!(of("/proc/cpuinfo").is_ok());
    }

    #[test]
    fn recursive_read_only_names_what_stands_against_it() {
        let able = Host { recursive_read_only: true, ..Host::default() };
        let asked = v1::Mount { readonly: true, recursive_read_only: true, ..cri("/a") };
        assert_eq!(one(&asked, Peers::Private, &able), Ok("rbind,rprivate,rro".into()));
        assert!(one(&asked, Peers::Private, &Host::default()).unwrap_err().contains("RROUnsupported"));
        let writable = v1::Mount { readonly: false, ..asked.clone() };
        assert_eq!(
            one(&writable, Peers::Private, &able).unwrap_err(),
            "mounts[0].recursive_read_only: recursive read-only mount conflicts with RW mount (hostPath=\"/host\")"
        );
        let shared = v1::Mount { propagation: MountPropagation::PropagationBidirectional.into(), ..asked };
        assert!(one(&shared, Peers::Shared, &able).unwrap_err().contains("got \"PROPAGATION_BIDIRECTIONAL\""));
    }

    #[test]
    fn owners_are_mapped_where_the_host_can() {
        let mapping = v1::IdMapping { host_id: 100_000, container_id: 0, length: 65_536 };
        let asked = v1::Mount { uid_mappings: vec![mapping], gid_mappings: vec![mapping], ..cri("/a") };
        assert!(one(&asked, Peers::Private, &Host { id_mapped_mounts: true, ..Host::default() }).is_ok());
        assert!(one(&asked, Peers::Private, &Host::default()).unwrap_err().contains("not supported"));
        assert!(one(&v1::Mount { gid_mappings: vec![], ..asked }, Peers::Private, &Host::default()).is_err());
        assert!(one(&cri("relative"), Peers::Private, &Host::default()).unwrap_err().contains("not an absolute path"));
    }

    proptest! {
        #[test]
        fn no_mount_hides_a_deeper_one(paths in prop::collection::vec("(/(a|b|dev|sys)){1,4}", 0..8)) {
            let asked: Vec<_> = paths.iter().map(|path| cri(path)).collect();
            let binds = asked.iter().map(|mount| Bind {
                field: String::new(), mount, source: source(Peers::Private) }).collect();
            let host = Host::default();
            let shape = Shape { privileged: false, user_namespace: false, host_network: false, host: &host };
            let list = mounts(&shape, binds).unwrap().list;
            let binds = list.iter().filter(|mount| mount.typ().as_deref() == Some("bind"));
            let places: Vec<_> = binds.map(|mount| mount.destination().clone()).collect();
            for (index, later) in places.iter().enumerate() {
                prop_assert!(!places[..index].iter().any(|before| before != later && before.starts_with(later)));
            }
            prop_assert!(paths.iter().all(|path| places.contains(&PathBuf::from(path))));
        }
    }
}
