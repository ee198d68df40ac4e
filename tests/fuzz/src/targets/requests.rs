//! CRI requests as bytes: what can be read is made into a specification or refused with the field's name.
//!
//! Must not know: which fields there are to refuse.

use oci_spec::image::Config;
use pintle_bundle::{
    ContainerInput, Host, MountSource, NamespacePaths, SandboxFiles, UserDatabase, cdi_devices, container_spec,
    image_volumes,
};
use pintle_cri::v1;

use crate::{Dice, mutate};

fn maps(dice: &mut Dice) -> Vec<v1::IdMapping> {
    let number = |dice: &mut Dice| dice.odd_number() as u32;
    (0..dice.below(3))
        .map(|_| v1::IdMapping { host_id: number(dice), container_id: number(dice), length: number(dice) })
        .collect()
}

fn namespaces(dice: &mut Dice) -> v1::NamespaceOption {
    let mode = |dice: &mut Dice| dice.below(5) as i32;
    let users = v1::UserNamespace { mode: mode(dice), uids: maps(dice), gids: maps(dice) };
    v1::NamespaceOption {
        network: mode(dice),
        pid: mode(dice),
        ipc: mode(dice),
        target_id: "C".into(),
        userns_options: dice.one_in(3).then_some(users),
    }
}

fn mount(dice: &mut Dice) -> v1::Mount {
    let paths = ["/data", "relative", "/", "/proc/self", "/a/../b", "", "/dev/shm"];
    v1::Mount {
        container_path: (*dice.choose(&paths)).into(),
        host_path: (*dice.choose(&paths)).into(),
        readonly: dice.one_in(2),
        propagation: dice.below(4) as i32,
        uid_mappings: maps(dice),
        gid_mappings: maps(dice),
        recursive_read_only: dice.one_in(4),
        image_sub_path: (*dice.choose(&["", "", "a/b", "../.."])).into(),
        ..Default::default()
    }
}

fn resources(dice: &mut Dice) -> v1::LinuxContainerResources {
    let number = |dice: &mut Dice| dice.odd_number().cast_signed();
    v1::LinuxContainerResources {
        cpu_period: number(dice),
        cpu_quota: number(dice),
        cpu_shares: number(dice),
        memory_limit_in_bytes: number(dice),
        oom_score_adj: number(dice),
        cpuset_cpus: (*dice.choose(&["", "0", "0-4294967295", "x", "1-0,,"])).into(),
        hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: dice.odd_number() }],
        unified: [("memory.high".to_owned(), "max".to_owned()), ("../x".to_owned(), "1".to_owned())].into(),
        memory_swap_limit_in_bytes: number(dice),
        ..Default::default()
    }
}

fn context(dice: &mut Dice) -> v1::LinuxContainerSecurityContext {
    let number = |dice: &mut Dice| dice.one_in(2).then(|| v1::Int64Value { value: dice.odd_number().cast_signed() });
    let names = |dice: &mut Dice| vec![(*dice.choose(&["ALL", "NET_ADMIN", "cap_chown", "", "NO_SUCH"])).to_owned()];
    v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: names(dice),
            drop_capabilities: names(dice),
            ..Default::default()
        }),
        privileged: dice.one_in(5),
        namespace_options: dice.one_in(2).then(|| namespaces(dice)),
        run_as_user: number(dice),
        run_as_group: number(dice),
        run_as_username: (*dice.choose(&["", "ann", "1000", "1:2", "-1", "nobody"])).into(),
        readonly_rootfs: dice.one_in(2),
        supplemental_groups: (0..dice.below(4)).map(|_| dice.odd_number().cast_signed()).collect(),
        masked_paths: vec!["/proc/kcore".into(), "x".into()],
        seccomp: dice
            .one_in(2)
            .then(|| v1::SecurityProfile { profile_type: dice.below(4) as i32, localhost_ref: "/profile.json".into() }),
        supplemental_groups_policy: dice.below(3) as i32,
        ..Default::default()
    }
}

fn container(dice: &mut Dice) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "main".into(), attempt: 0 }),
        command: (0..dice.below(3)).map(|_| "word".to_owned()).collect(),
        working_dir: (*dice.choose(&["", "/work", "relative"])).into(),
        envs: vec![v1::KeyValue { key: "A=B\0".into(), value: dice.bytes(10) }],
        mounts: (0..dice.below(4)).map(|_| mount(dice)).collect(),
        annotations: [("cdi.k8s.io/x".to_owned(), "vendor.com/class=one,,".to_owned())].into(),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(dice)),
            security_context: Some(context(dice)),
        }),
        cdi_devices: if dice.one_in(3) { vec![v1::CdiDevice { name: "vendor.com/class=one".into() }] } else { vec![] },
        stop_signal: dice.odd_number() as i32,
        ..Default::default()
    }
}

fn sandbox(dice: &mut Dice) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata { name: "web".into(), ..Default::default() }),
        hostname: "web".into(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: (*dice.choose(&["", "/pods", "pods.slice", "../..", "/"])).into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(dice)),
                privileged: dice.one_in(2),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A message with its bytes changed, where it is one still.
fn changed<T: prost::Message + Default>(message: &T, dice: &mut Dice) -> Option<T> {
    let mut bytes = message.encode_to_vec();
    if dice.one_in(2) {
        mutate(&mut bytes, dice, 4);
    }
    T::decode(bytes.as_slice()).ok()
}

const CDI: &str = r#"{"cdiVersion":"0.5.0","kind":"vendor.com/class","devices":[{"name":"one","containerEdits":{
    "env":["A=b"],"deviceNodes":[{"path":"/dev/x","type":"c","major":1,"minor":3}],
    "mounts":[{"hostPath":"/lib","containerPath":"/lib","options":["ro"]}],
    "hooks":[{"hookName":"createContainer","path":"/hook"}]}}]}"#;

const PROFILE: &str = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",
    "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}],"includes":{"caps":["CAP_CHOWN"]}}]}"#;

fn damaged(text: &str, dice: &mut Dice) -> String {
    let mut document = serde_json::from_str(text).unwrap();
    crate::json::mutate(&mut document, dice, 2);
    document.to_string()
}

pub(super) fn make_specifications_or_errors(dice: &mut Dice) {
    let (whole, pod) = (container(dice), sandbox(dice));
    let (Some(config), Some(sandbox)) = (changed(&whole, dice), changed(&pod, dice)) else { return };
    let (cdi, profile) = (damaged(CDI, dice), damaged(PROFILE, dice));
    let mut passwd = b"root:x:0:0::/:\nann:x:1000:1000::/:\n".to_vec();
    let mut group = b"ann:x:1000:\naudio:x:63:ann\n".to_vec();
    mutate(&mut passwd, dice, 2);
    mutate(&mut group, dice, 2);
    let users = (String::from_utf8_lossy(&passwd).into_owned(), String::from_utf8_lossy(&group).into_owned());
    let mut image = Config::default();
    image.set_user(Some(String::from_utf8_lossy(&dice.bytes(6)).into_owned()));
    image.set_volumes(Some(vec!["/data".into(), "../x".into()]));
    let found = |mount: &v1::Mount| MountSource { path: mount.host_path.clone().into(), ..MountSource::default() };
    let mounts: Vec<_> = config.mounts.iter().map(found).collect();
    let _ = (cdi_devices(&config), image_volumes(&config, Some(&image), std::path::Path::new("/volumes")));
    let _ = container_spec(&ContainerInput {
        id: "C",
        config: &config,
        sandbox_id: "S",
        sandbox: &sandbox,
        image: Some(&image),
        image_name: "example.com/web:1",
        rootfs: "/rootfs".into(),
        users: UserDatabase { passwd: &users.0, group: &users.1 },
        namespaces: &NamespacePaths::default(),
        files: &SandboxFiles::default(),
        mounts: &mounts,
        volumes: &[],
        devices: &vec![Vec::new(); config.devices.len()],
        cdi_specs: &[cdi],
        seccomp_profile: Some(&profile),
        selinux_level: "",
        apparmor: None,
        host: &Host::default(),
    });
}
